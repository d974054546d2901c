#include "kernels/isa.h"

#include <algorithm>
#include <cstring>

namespace aqd {
namespace {

// Whether a value's code is at least `code`. (Sums of values that do not occur
// may not fit 64 bits; they are saturated.)
bool reaches(int64_t x, int64_t m, int64_t b, int s, int64_t code) {
  int64_t sum;
  if (__builtin_add_overflow(x * m, b, &sum)) {
    sum = b < 0 ? INT64_MIN : INT64_MAX;
  }
  return sum >> s >= code;
}

// The least value whose code is at least `code`, one more than 32 bits hold if
// there is none. For a negative multiplier it is that of complements, whose
// codes rise.
int64_t threshold(int64_t m, int64_t b, int s, int64_t code) {
  int64_t low = INT32_MIN, high = int64_t{INT32_MAX} + 1;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (reaches(m < 0 ? ~middle : middle, m, b, s, code)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void pack_thresholds(int64_t lanes, const Op &op, PackedRequantize *packed) {
  const Multipliers &table = op.as<Requantize>().multipliers;
  const int64_t stride = thresholds_stride(lanes);
  packed->thresholds.assign(
      static_cast<size_t>(vectors_of(op.channels, lanes) * stride), INT32_MAX);
  packed->thresholds_fit_int16 = true;
  for (int32_t c = 0; c < op.channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    int32_t *to = packed->thresholds.data() + c / lanes * stride + c % lanes;
    to[0] = table.m[k] < 0 ? -1 : 0;
    to[lanes] = op.grid.low;
    int32_t *next = to + 2 * lanes;
    for (int64_t code = int64_t{op.grid.low} + 1; code <= op.grid.high;
         ++code) {
      const int64_t t = threshold(table.m[k], table.b[k], table.s[k], code);
      if (t == INT32_MIN) {
        ++to[lanes];  // all values reach it
      } else if (t <= INT32_MAX) {
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
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    const int64_t lane = c % lanes;
    const int64_t place =
        shape.even_first ? lane % 2 * lanes / 2 + lane / 2 : lane;
    int64_t *to = packed->multipliers.data() + c / lanes * stride;
    std::memcpy(reinterpret_cast<char *>(to) + 4 * lane, &table.m[k], 4);
    to[lanes / 2 + place] = table.b[k];
    to[lanes / 2 + lanes + place] = table.s[k];
  }
}

}  // namespace

PackedRequantize pack_requantize(const SimdShape &shape, const Op &op) {
  PackedRequantize packed;
  if (int64_t{op.grid.high} - op.grid.low <= kThresholds) {
    pack_thresholds(shape.lanes, op, &packed);
  } else if (op.as<Requantize>().fits_int32) {
    pack_multipliers(shape, op, &packed);
  }
  return packed;
}

}  // namespace aqd
