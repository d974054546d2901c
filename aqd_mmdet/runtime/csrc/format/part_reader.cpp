#include "format/part_reader.h"

#include <algorithm>

namespace aqd {
namespace {

constexpr int64_t kMaxExp = 1 << 30;

}  // namespace

const Op &output_of(const Program &program, size_t index) {
  return program.nodes[static_cast<size_t>(program.outputs[index])].op;
}

Multipliers PartReader::multipliers(const JsonNode &node, int32_t channels) {
  Multipliers table = reader_.multipliers(node, channels);
  for (const int64_t b : table.b) {
    const bool fits = kMultipliersB.least <= b && b <= kMultipliersB.most;
    if (!reader_.expect(fits, "biases in -2^62..2^62", text(b))) break;
  }
  return table;
}

Multipliers PartReader::multipliers(const JsonNode &object, const char *key,
                                    int32_t channels) {
  return multipliers(reader_.child(object, key), channels);
}

Curve PartReader::curve(const JsonNode &object, const char *key,
                        const Limits &arguments, int64_t largest) {
  const JsonNode &node = reader_.child(object, key);
  Curve curve;
  std::vector<int64_t> shape;
  curve.table = reader_.int32s(node, "table", 1, &shape);
  curve.bits = reader_.int32(node, "bits", kCurveBits);
  curve.first = reader_.integer(node, "first", {-INT64_MAX, INT64_MAX});
  reader_.done(node);
  if (!reader_.ok()) return curve;
  const bool begins = curve.first <= arguments.least;
  const int64_t length = (shape[0] - 1) * (int64_t{1} << curve.bits);
  if (!reader_.expect(node, begins && curve.first + length > arguments.most,
                      "arguments from " + text(arguments.least) +
                          " to above " + text(arguments.most),
                      begins ? "an end before that" : text(curve.first))) {
    return curve;
  }
  const auto ends =
      std::minmax_element(curve.table.begin(), curve.table.end());
  reader_.expect(node, 0 <= *ends.first && *ends.second <= largest,
                 "values in " + text(0, largest),
                 text(*ends.first, *ends.second));
  return curve;
}

Curve PartReader::powers(const JsonNode &object, const char *key) {
  Curve made = curve(object, key, {kLowestLogit, 0}, kOneScore);
  if (!reader_.ok()) return made;
  // Shares are divided by their sum, in which one argument is 0.
  const int64_t one = int64_t{1} << made.bits;
  const size_t i = static_cast<size_t>(-made.first >> made.bits);
  const int64_t r = -made.first & (one - 1);
  const int64_t sum = made.table[i] * (one - r) + made.table[i + 1] * r;
  reader_.expect(reader_.child(object, key), sum + (one >> 1) >= one,
                 "a value above 0 at 0", "0");
  return made;
}

void PartReader::exponents(const JsonNode &object, const Limits &limits,
                           int64_t *limit, Curve *exp) {
  *limit = reader_.integer(object, "limit", limits);
  *exp = curve(object, "exp", {-*limit, *limit}, kMaxExp);
}

}  // namespace aqd
