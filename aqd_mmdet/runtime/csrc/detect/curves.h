// Functions on integers: docs/integer_contract.md, sections 2 and 7.

#pragma once

#include <algorithm>

#include "detect/detector.h"

namespace aqd {

// Requantises a number of a channel, and limits its magnitude.
inline int64_t requantize(int64_t x, const Multipliers &table, size_t channel,
                          int64_t most) {
  const size_t k = table.m.size() > 1 ? channel : 0;
  return std::clamp((x * table.m[k] + table.b[k]) >> table.s[k], -most, most);
}

// A curve's value at an argument inside its range.
inline int64_t read_curve(const Curve &curve, int64_t x) {
  const int64_t one = int64_t{1} << curve.bits;
  const size_t i = static_cast<size_t>((x - curve.first) >> curve.bits);
  const int64_t r = (x - curve.first) & (one - 1);
  // Half a unit for rounding, unless values are not interpolated at all.
  const int64_t sum = curve.table[i] * (one - r) + curve.table[i + 1] * r;
  return (sum + (one >> 1)) >> curve.bits;
}

// x / 2^bits, ties upwards.
inline int64_t rounded(int64_t x, int bits) {
  return (x + (int64_t{1} << (bits - 1))) >> bits;
}

// The floored quotient; the divisor is positive.
template <typename T>
T floored(T x, T divisor) {
  const T quotient = x / divisor;
  return quotient * divisor > x ? quotient - 1 : quotient;
}

// The floored square root of a number from 0 to 2^62.
inline int64_t square_root(int64_t x) {
  int64_t root = 0;
  for (int bit = 30; bit >= 0; --bit) {
    const int64_t larger = root + (int64_t{1} << bit);
    if (larger * larger <= x) root = larger;
  }
  return root;
}

}  // namespace aqd
