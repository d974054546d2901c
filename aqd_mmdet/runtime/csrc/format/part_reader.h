// Reads what several parts of a detector are made of.

#pragma once

#include "detect/detector.h"
#include "format/reader.h"

namespace aqd {

constexpr int64_t kOneScore = int64_t{1} << kScoreBits;

// A kind, by its name in the file.
template <typename Kind>
struct KindName {
  const char *name;
  Kind kind;
};

// The operator that makes an output.
const Op &output_of(const Program &program, size_t index);

class PartReader {
 public:
  explicit PartReader(Reader *reader) : reader_(*reader) {}

 protected:
  // Multipliers of numbers of 31 bits: sums fit 63 bits.
  Multipliers multipliers(const JsonNode &node, int32_t channels);
  Multipliers multipliers(const JsonNode &object, const char *key,
                          int32_t channels);
  // A curve with non-negative values up to the largest, which is read at
  // arguments in a range.
  Curve curve(const JsonNode &object, const char *key, const Limits &arguments,
              int64_t largest);
  // The exponential of Q16 numbers from -16 to 0, in 2^-24.
  Curve powers(const JsonNode &object, const char *key);
  void exponents(const JsonNode &object, const Limits &limits, int64_t *limit,
                 Curve *exp);

  template <typename Kind, size_t N>
  Kind kind(const JsonNode &object, const KindName<Kind> (&kinds)[N]) {
    const std::string_view word = reader_.string(object, "kind");
    std::string names;
    for (const KindName<Kind> &each : kinds) {
      if (word == each.name) return each.kind;
      names += (names.empty() ? "" : ", ") + std::string(each.name);
    }
    reader_.expect(false, "kind: one of " + names, quoted(word));
    return kinds[0].kind;
  }

  Reader &reader_;
};

}  // namespace aqd
