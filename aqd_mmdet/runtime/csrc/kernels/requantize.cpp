#include "kernels/isa.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace aqd {
namespace {

struct ValueRange {
  int64_t low, high;

  int64_t count() const { return high - low + 1; }
  // Of the complements of its values.
  ValueRange flipped() const { return {~high, ~low}; }
};

// Values of a channel of an operator that may occur.
ValueRange values_of(const Op &x, int32_t channel) {
  if (!x.is<Convolution>()) return {x.grid.low, x.grid.high};
  const int64_t bound =
      x.as<Convolution>().bound(static_cast<size_t>(channel));
  return {-bound, bound};
}

// A channel's (x * m + b) >> s, for values that may occur.
struct Rounding {
  int64_t m, b;
  int s;

  int64_t sum(int64_t x) const { return x * m + b; }
  int64_t code(int64_t x, const Grid &grid) const {
    return std::clamp<int64_t>(sum(x) >> s, grid.low, grid.high);
  }

  // Where m is negative, codes rise by the complements of values.
  ValueRange rising(const ValueRange &x) const {
    return m < 0 ? x.flipped() : x;
  }
  // The least of rising values whose code is at least `code`; one beyond them
  // if there is none.
  int64_t threshold(int64_t code, const ValueRange &x) const {
    const auto sum_of = [&](int64_t i) { return sum(m < 0 ? ~i : i); };
    if (sum_of(x.high) >> s < code) return x.high + 1;
    if (sum_of(x.low) >> s >= code) return x.low;
    const int64_t missing = code * (int64_t{1} << s) - sum_of(x.low);
    return x.low + (missing - 1) / std::abs(m) + 1;
  }
};

Rounding rounding_of(const Multipliers &table, int32_t channel) {
  const size_t k = table.m.size() > 1 ? static_cast<size_t>(channel) : 0;
  return {table.m[k], table.b[k], table.s[k]};
}

void pack_thresholds(int64_t lanes, const Op &op, const Op &x,
                     PackedRequantize *packed) {
  const Multipliers &table = op.as<Requantize>().multipliers;
  const int64_t stride = thresholds_stride(lanes);
  packed->thresholds.assign(
      static_cast<size_t>(vectors_of(op.channels, lanes) * stride), INT32_MAX);
  packed->thresholds_fit_int16 = true;
  for (int32_t c = 0; c < op.channels; ++c) {
    const Rounding rule = rounding_of(table, c);
    const ValueRange values = rule.rising(values_of(x, c));
    int32_t *to = packed->thresholds.data() + c / lanes * stride + c % lanes;
    to[0] = rule.m < 0 ? -1 : 0;
    to[lanes] = op.grid.low;
    int32_t *next = to + 2 * lanes;
    for (int64_t code = int64_t{op.grid.low} + 1; code <= op.grid.high;
         ++code) {
      const int64_t t = rule.threshold(code, values);
      if (t == values.low) {
        ++to[lanes];  // all values reach it
      } else if (t <= values.high) {
        *next = static_cast<int32_t>(t - 1);
        if (*next < INT16_MIN || *next >= INT16_MAX) {
          packed->thresholds_fit_int16 = false;
        }
        next += lanes;
      }
    }
  }
}

void pack_multipliers(const SimdShape &shape, const Op &op,
                      PackedRequantize *packed) {
  const Multipliers &table = op.as<Requantize>().multipliers;
  const int64_t lanes = shape.lanes;
  const int64_t stride = multipliers_stride(shape.lanes);
  packed->multipliers.assign(
      static_cast<size_t>(vectors_of(op.channels, lanes) * stride), 0);
  for (int32_t c = 0; c < op.channels; ++c) {
    const Rounding rule = rounding_of(table, c);
    const int64_t lane = c % lanes;
    const int64_t place =
        shape.even_first ? lane % 2 * lanes / 2 + lane / 2 : lane;
    int64_t *to = packed->multipliers.data() + c / lanes * stride;
    const int32_t m = static_cast<int32_t>(rule.m);
    std::memcpy(reinterpret_cast<char *>(to) + 4 * lane, &m, 4);
    to[lanes / 2 + place] = rule.b;
    to[lanes / 2 + lanes + place] = rule.s;
  }
}

int64_t remainder(int64_t x, int64_t modulus) {
  const int64_t rest = x % modulus;
  return rest < 0 ? rest + modulus : rest;
}

// The least (start + step * n) % modulus for all n below a count. As Euclid's
// algorithm: the numbers with which the rounds from 0 to the modulus begin are
// such a sequence again, whose modulus is the step.
int64_t least_remainder(int64_t start, int64_t step, int64_t modulus,
                        int64_t count) {
  int64_t least = start;
  for (;;) {
    if (2 * step > modulus) {  // the same numbers, the last one first
      step = modulus - step;
      start = remainder(start - step * (count - 1), modulus);
      least = std::min(least, start);
    }
    count = (start + step * (count - 1)) / modulus;
    if (count == 0) return least;
    start = remainder(start - modulus, step);
    least = std::min(least, start);
    modulus = std::exchange(step, remainder(-modulus, step));
  }
}

// The least n for which step * n % modulus is in low..high; -1 if there is
// none, or if 38 bits do not hold it.
int64_t first_between(int64_t step, int64_t modulus, int64_t low,
                      int64_t high) {
  if (low == 0) return 0;
  if (2 * step > modulus) {
    return first_between(modulus - step, modulus, modulus - high,
                         modulus - low);
  }
  if (step == 0) return -1;
  const int64_t n = (low + step - 1) / step;
  if (n * step <= high) return n;
  // How often multiples of the step must pass the modulus is a question of the
  // same kind.
  const int64_t rounds =
      first_between(modulus % step, step, remainder(-high, step),
                    remainder(-low, step));
  if (rounds < 0 || rounds > (INT64_MAX >> 1) / modulus) return -1;
  return (low + modulus * rounds + step - 1) / step;
}

// The bits of the float n / 2^shift. No more than 24 bits of n, from its first
// to its last 1, are significant.
int32_t float_bits(int64_t n, int shift) {
  if (n == 0) return 0;
  const uint64_t magnitude = static_cast<uint64_t>(std::abs(n));
  const int top = 63 - __builtin_clzll(magnitude);
  const uint64_t mantissa =
      top > 23 ? magnitude >> (top - 23) : magnitude << (23 - top);
  const uint64_t exponent = static_cast<uint64_t>(127 + top - shift);
  const uint64_t sign = n < 0 ? uint64_t{1} << 31 : 0;
  // The mantissa's highest bit is not stored.
  return static_cast<int32_t>(sign + ((exponent - 1) << 23) + mantissa);
}

// Values whose codes are in the grid, and at either end one more, if it occurs.
// These two have the codes to which others are clamped, if codes of neighbours
// differ by 1 at most.
ValueRange unclamped(const Rounding &rule, const Grid &grid,
                     const ValueRange &values) {
  const ValueRange x = rule.rising(values);
  const int64_t second = rule.threshold(int64_t{grid.low} + 1, x);
  const int64_t last = rule.threshold(grid.high, x);
  return rule.rising({std::max(x.low, second - 1), std::min(x.high, last)});
}

// A channel's numbers of MultiplyAdd (requantize.h).
struct ChannelMultiplyAdd {
  ValueRange told = {0, 0};  // values that are told apart
  int64_t shift = kFloatUnitBits;
  int32_t m = 0, b = 0;
};

// Finds numbers that make the code of all values that are told apart, and that
// all values of a range may be given. False if there are none.
//
// By the shift a value x becomes the float x + k, and x * m + b becomes
// (x + k) * m + n * 2^s. These differ by an error that is the same for all x.
// The codes are the same if no rest of a sum, (x * m + b) % 2^s, leaves
// 0..2^s - 1 by it.
bool find_shift(const Rounding &rule, const ValueRange &given,
                ChannelMultiplyAdd *made) {
  const ValueRange &told = made->told;
  const int64_t one = int64_t{1} << rule.s;
  const int64_t rest = remainder(rule.sum(told.low), one);
  const int64_t least =
      least_remainder(rest, remainder(rule.m, one), one, told.count());
  const int64_t most =
      one - 1 - least_remainder(one - 1 - rest, remainder(-rule.m, one), one,
                                told.count());
  const int64_t room = one - 1 - (most - least);
  // A float holds n if it is a multiple of this, and kFloatZero as well.
  const int64_t least_step = rule.m > 0 ? rule.m : one - one / 8 - rule.m;
  int64_t step = one;
  while (step < least_step) step *= 2;
  if (step / one > kFloatZero % kFloatUnit) return false;
  int64_t k = kFloatUnit - given.low;  // the least one
  int64_t error = k * rule.m - rule.b + least;  // 0..room is wanted
  const int64_t from = remainder(-error, step);
  const int64_t more =
      from + room < step
          ? first_between(remainder(rule.m, step), step, from, from + room)
          : 0;
  if (more < 0 || more > kFloatUnit - given.count()) return false;
  k += more;
  error += more * rule.m;
  const int64_t n = remainder(error, step) - error;
  const int64_t b = kFloatZero + n / one;
  if (std::abs(b) > 2 * kFloatUnit * (step / one)) return false;
  made->shift = kFloatUnitBits + k - kFloatUnit;
  made->m = float_bits(rule.m, rule.s);
  made->b = float_bits(b, 0);
  return true;
}

bool find_multiply_add(const Rounding &rule, const Grid &grid,
                       const ValueRange &x, bool clamps_values,
                       ChannelMultiplyAdd *made) {
  const auto is_small = [](int64_t code) {
    return std::abs(code) < kFloatUnit / 2 - 1;
  };
  const int64_t code = rule.code(x.low, grid);
  const bool is_constant = code == rule.code(x.high, grid);
  if (!is_constant) made->told = unclamped(rule, grid, x);
  const ValueRange given = clamps_values ? made->told : x;
  if (given.count() > kFloatUnit) return false;
  if (is_constant) {
    made->shift = kFloatUnitBits - given.low;
    made->b = float_bits(kFloatZero + code, 0);
    return is_small(code);
  }
  return std::abs(rule.m) <= 2 * kFloatUnit &&
         std::abs(rule.b) <= INT64_MAX / 4 &&
         is_small(rule.sum(given.low) >> rule.s) &&
         is_small(rule.sum(given.high) >> rule.s) &&
         find_shift(rule, given, made);
}

// False if there are no numbers for a channel.
bool pack_multiply_add(int64_t lanes, const Op &op, const Op &x,
                       bool clamps_values, PackedRequantize *packed) {
  const Multipliers &multipliers = op.as<Requantize>().multipliers;
  const int64_t stride = multiply_adds_stride(lanes);
  std::vector<int32_t> table(
      static_cast<size_t>(vectors_of(op.channels, lanes) * stride), 0);
  packed->clamps_values = clamps_values;
  packed->clamps_codes = !clamps_values;
  for (int32_t c = 0; c < op.channels; ++c) {
    const Rounding rule = rounding_of(multipliers, c);
    ChannelMultiplyAdd made;
    if (!find_multiply_add(rule, op.grid, values_of(x, c), clamps_values,
                           &made)) {
      return false;
    }
    if (std::abs(rule.m) > int64_t{1} << rule.s) packed->clamps_codes = true;
    int32_t *to = table.data() + c / lanes * stride + c % lanes;
    for (const int64_t number :
         {made.shift, int64_t{made.m}, int64_t{made.b}, made.told.low,
          made.told.high}) {
      *to = static_cast<int32_t>(number);  // modulo 2^32
      to += lanes;
    }
  }
  packed->multiply_adds = std::move(table);
  return true;
}

bool pack_multiply_add(const Isa &isa, const Op &op, const Op &x,
                       PackedRequantize *packed) {
  return isa.has_fma &&
         (pack_multiply_add(isa.shape.lanes, op, x, false, packed) ||
          pack_multiply_add(isa.shape.lanes, op, x, true, packed));
}

}  // namespace

PackedRequantize pack_requantize(const Isa &isa, const Op &op, const Op &x) {
  PackedRequantize packed;
  if (int64_t{op.grid.high} - op.grid.low <= kThresholds) {
    pack_thresholds(isa.shape.lanes, op, x, &packed);
    // Another way, for kernels that have values in registers.
    pack_multiply_add(isa, op, x, &packed);
  } else if (!pack_multiply_add(isa, op, x, &packed) &&
             op.as<Requantize>().fits_int32) {
    pack_multipliers(isa.shape, op, &packed);
  }
  return packed;
}

}  // namespace aqd
