// Requantisation of int32 values to codes, clamp((x * m + b) >> s), by the
// vectors of any Simd (simd.h). There are two ways:
//
// MultiplyShift computes it with products of 64 bits.
//
// Thresholds need no product. An output of at most four codes is a staircase
// with three steps: its code is the lowest one plus the number of thresholds
// that x exceeds. They are worked out when the model is loaded.

#pragma once

#include <vector>

#include "graph/program.h"
#include "kernels/simd.h"

namespace aqd {

constexpr int kThresholds = 3;  // of four codes

// A requantisation for the vectors of one Simd, with one of the two filled; with
// neither where values do not fit 32 bits before they are clamped, which plain
// code computes then.
struct PackedRequantize {
  // For each vector of channels: m and what is subtracted from the shifted
  // values, 32 bits a lane; b, then s, 64 bits a lane (SimdShape::even_first).
  std::vector<int64_t> multipliers;
  // For each vector of channels, 32 bits a lane: what x is combined with by XOR
  // (all ones where m is negative), the lowest code, the thresholds.
  std::vector<int32_t> thresholds;
  // Whether thresholds tell values apart that are saturated to 16 bits.
  bool thresholds_fit_int16 = false;
};

constexpr int multipliers_stride(int lanes) { return 3 * lanes; }
constexpr int thresholds_stride(int lanes) { return (2 + kThresholds) * lanes; }

PackedRequantize pack_requantize(const SimdShape &shape, const Op &op);

// The portable way, of one value of a channel.
inline int32_t requantize(const Multipliers &table, const Grid &grid,
                          int64_t channel, int32_t x) {
  const size_t k = table.m.size() > 1 ? static_cast<size_t>(channel) : 0;
  const int64_t code = (x * int64_t{table.m[k]} + table.b[k]) >> table.s[k];
  return static_cast<int32_t>(
      code < grid.low ? grid.low : code > grid.high ? grid.high : code);
}

#ifdef AQD_TARGET

// A vector of channels, with products of 64 bits.
template <class Simd>
class MultiplyShift {
 public:
  using Lanes = typename Simd::Lanes;

  AQD_TARGET MultiplyShift(const int64_t *table, const Grid &grid)
      : m_(Simd::load(reinterpret_cast<const int32_t *>(table))),
        less_(Simd::load(reinterpret_cast<const int32_t *>(table) + kLanes)),
        low_(Simd::fill(grid.low)), high_(Simd::fill(grid.high)) {
    for (int half = 0; half < 2; ++half) {
      b_[half] = Simd::load_wide(table + kLanes + half * kLanes / 2);
      s_[half] = Simd::load_wide(table + 2 * kLanes + half * kLanes / 2);
    }
  }

  AQD_TARGET AQD_INLINE Lanes operator()(Lanes x) const {
    const Wide first = Simd::shift(Simd::template multiply_add<0>(x, m_, b_[0]), s_[0]);
    const Wide second = Simd::shift(Simd::template multiply_add<1>(x, m_, b_[1]), s_[1]);
    Lanes code = Simd::combine(first, second);
    if constexpr (!Simd::kShape.signed_shift) code = Simd::sub(code, less_);
    return Simd::min(Simd::max(code, low_), high_);
  }

 private:
  using Wide = typename Simd::Wide;
  static constexpr int kLanes = Simd::kShape.lanes;

  Lanes m_, less_, low_, high_;
  Wide b_[2], s_[2];
};

// A vector of channels, with comparisons.
template <class Simd>
class Thresholds {
 public:
  using Lanes = typename Simd::Lanes;

  AQD_TARGET explicit Thresholds(const int32_t *table)
      : flip_(Simd::load(table)), low_(Simd::load(table + kLanes)) {
    for (int i = 0; i < kThresholds; ++i) {
      threshold_[i] = Simd::load(table + (2 + i) * kLanes);
    }
  }

  AQD_TARGET AQD_INLINE Lanes operator()(Lanes x) const {
    x = Simd::bit_xor(x, flip_);
    Lanes code = low_;
#pragma GCC unroll 3
    for (int i = 0; i < kThresholds; ++i) {
      code = Simd::add_greater(code, x, threshold_[i]);
    }
    return code;
  }

 private:
  static constexpr int kLanes = Simd::kShape.lanes;

  Lanes flip_, low_, threshold_[kThresholds];
};

#endif

}  // namespace aqd
