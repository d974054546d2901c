// Requantisation of int32 values to codes, clamp((x * m + b) >> s), by the
// vectors of any Simd (simd.h). There are two ways:
//
// MultiplyShift computes it with products of 64 bits.
//
// Thresholds need no product. An output of at most four codes is a staircase
// with three steps: its code is the lowest one plus the number of thresholds
// that x exceeds. They are worked out when the model is loaded.

#pragma once

#include "kernels/simd.h"

namespace aqd {

// A vector of channels, with products of 64 bits.
template <class Simd>
class MultiplyShift {
 public:
  using Lanes = typename Simd::Lanes;

  AQD_TARGET MultiplyShift(const int64_t *table, const Grid &grid)
      : m_(load_as<Lanes>(table)), low_(Simd::fill(grid.low)),
        high_(Simd::fill(grid.high)) {
    constexpr int64_t kHalf = Simd::kShape.lanes / 2;
    for (int half = 0; half < 2; ++half) {
      b_[half] = load_as<Wide>(table + (1 + half) * kHalf);
      s_[half] = load_as<Wide>(table + (3 + half) * kHalf);
    }
  }

  AQD_TARGET AQD_INLINE Lanes operator()(Lanes x) const {
    const Wide first = Simd::template multiply<0>(x, m_) + b_[0];
    const Wide second = Simd::template multiply<1>(x, m_) + b_[1];
    return clamp(Simd::combine(Simd::shift(first, s_[0]),
                               Simd::shift(second, s_[1])), low_, high_);
  }

 private:
  using Wide = typename Simd::Wide;

  Lanes m_, low_, high_;
  Wide b_[2], s_[2];
};

// A vector of channels, with a multiply-add of floats. Codes may be beyond the
// grid.
template <class Simd, bool kClampsValues>
class MultiplyAdd {
 public:
  using Lanes = typename Simd::Lanes;

  // For values raised by a number, to codes counted from another one.
  AQD_TARGET explicit MultiplyAdd(const int32_t *table, int32_t raised = 0,
                                  int32_t first = 0)
      : shift_(Unsigned(Simd::load(table)) - static_cast<uint32_t>(raised)),
        m_(Simd::load(table + kLanes)),
        b_(Simd::load(table + 2 * kLanes)),
        low_(Simd::load(table + 3 * kLanes)),
        high_(Simd::load(table + 4 * kLanes)),
        zero_(Unsigned(Simd::fill(kFloatZeroBits + first))) {}

  AQD_TARGET AQD_INLINE Lanes operator()(Lanes x) const {
    if constexpr (kClampsValues) x = clamp_value(x);
    // From the bits of a float, to the bits of one.
    const Lanes code =
        Simd::multiply_add(Lanes(Unsigned(x) + shift_), m_, b_);
    return Lanes(Unsigned(code) - zero_);
  }

  // To the values that are told apart.
  AQD_TARGET AQD_INLINE Lanes clamp_value(Lanes x) const {
    return clamp(x, low_, high_);
  }

 private:
  static constexpr int64_t kLanes = Simd::kShape.lanes;
  // Without a sign: of lanes at the end nothing is taken over.
  using Unsigned = typename VectorOf<uint32_t, 4 * kLanes>::type;

  Unsigned shift_;
  Lanes m_, b_, low_, high_;
  Unsigned zero_;
};

// A vector of values of 32 bits, or 16, with comparisons.
template <class V>
struct Thresholds {
  V flip, low, threshold[kThresholds];

  AQD_TARGET AQD_INLINE V operator()(V x) const {
    // Without a sign: of lanes at the end of int32 nothing is taken over.
    typedef std::make_unsigned_t<std::decay_t<decltype(V{}[0])>> Unsigned
        __attribute__((vector_size(sizeof(V))));
    x ^= flip;
    V code = low;
#pragma GCC unroll 3
    for (int i = 0; i < kThresholds; ++i) {
      if constexpr (sizeof(V) == 64) {
        // AVX-512 adds by a mask.
        code = x > threshold[i] ? V(Unsigned(code) + 1) : code;
      } else {
        code -= x > threshold[i];
      }
    }
    return code;
  }
};

// The thresholds of a vector of channels or of one channel: `load` makes a
// vector of the numbers, which are `next` apart.
template <class V, class T, class Load>
AQD_TARGET AQD_INLINE Thresholds<V> thresholds_from(const T* table,
                                                    int64_t next,
                                                    const Load& load) {
  Thresholds<V> made = {load(table), load(table + next), {}};
  for (int i = 0; i < kThresholds; ++i) {
    made.threshold[i] = load(table + (2 + i) * next);
  }
  return made;
}

}  // namespace aqd
