#include <algorithm>

#include "format/parts.h"

namespace aqd {

Multipliers read_multipliers(const Value &value, int32_t channels) {
  Multipliers table = value.multipliers(channels);
  for (const int64_t b : table.b) {
    value.reader().expect(kMultipliersB.hold(b), "biases in -2^62..2^62", b);
  }
  return table;
}

Curve read_curve(const Value &value, const Limits &arguments, int64_t largest) {
  Curve curve;
  curve.table = value["table"].array("int32", 1).copy<int32_t>();
  curve.bits = value["bits"].int32(kCurveBits);
  curve.first = value["first"].integer({-INT64_MAX, INT64_MAX});
  value.done();
  if (!value.reader().ok()) return curve;
  const int64_t steps = static_cast<int64_t>(curve.table.size()) - 1;
  const int64_t length = steps * (int64_t{1} << curve.bits);
  const bool begins = curve.first <= arguments.least;
  if (!value.expect(begins && curve.first + length > arguments.most,
                    "arguments from " + text(arguments.least) + " to above " +
                    text(arguments.most),
                    begins ? "an end before that" : text(curve.first))) {
    return curve;
  }
  const auto ends =
      std::minmax_element(curve.table.begin(), curve.table.end());
  value.expect(0 <= *ends.first && *ends.second <= largest,
               "values in " + text(Limits{0, largest}),
               text(Limits{*ends.first, *ends.second}));
  return curve;
}

Curve read_powers(const Value &value) {
  Curve made = read_curve(value, {kLowestLogit, 0}, kOneScore);
  if (!value.reader().ok()) return made;
  // Shares are divided by their sum, in which one argument is 0.
  const int64_t one = int64_t{1} << made.bits;
  const size_t i = static_cast<size_t>(-made.first >> made.bits);
  const int64_t r = -made.first & (one - 1);
  const int64_t sum = made.table[i] * (one - r) + made.table[i + 1] * r;
  value.expect(sum + (one >> 1) >= one, "a value above 0 at 0", "0");
  return made;
}

void read_exponents(const Value &part, const Limits &limits, int64_t *limit,
                    Curve *exp) {
  constexpr int64_t kMaxExp = 1 << 30;
  *limit = part["limit"].integer(limits);
  *exp = read_curve(part["exp"], {-*limit, *limit}, kMaxExp);
}

}  // namespace aqd
