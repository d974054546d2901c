// The shortest epilogue, in registers: one requantisation to bytes, by one
// multiply-add. Most convolutions have it. Their accumulators are never in
// memory, which saves a store and a load of four bytes for each code.

#pragma once

#include <algorithm>

#include "kernels/epilogue.h"

namespace aqd {

template <class Simd>
class ByteEpilogue {
 public:
  using Lanes = typename Simd::Lanes;

  // Whether a MAC's accumulators are what a multiply-add takes.
  template <class Mac>
  static constexpr bool kTakes = Simd::kHasFma && Simd::kSaturates && !Mac::kIsShort;

  explicit ByteEpilogue(const FusedOp &fused) : fused_(fused) {
    if (fused.ops.size() != 2) return;
    const PostOp &op = fused.ops[1];
    if (fused.ops[0].out != nullptr || !op.is_stored_only ||
        !op.op().template is<Requantize>() || op.inputs[0].tensor != nullptr ||
        bytes_of(op.out->type) != 1) {
      return;
    }
    const PackedRequantize &packed = op.node->packed.requantize;
    if (packed.multiply_adds.empty() || packed.clamps_values) return;
    rules_ = packed.multiply_adds.data();
    const Grid &grid = op.op().grid;
    clamps_ = packed.clamps_codes && !is_all_of_a_byte(grid);
    low_ = grid.low;
    high_ = grid.high;
  }

  // Whether it is all that follows the accumulators of a fused operator.
  bool fits() const { return rules_ != nullptr; }

  // Requantises accumulators of some pixels of one vector of channels to codes,
  // which bytes may have to saturate.
  template <int kCount>
  AQD_TARGET AQD_INLINE void requantize(int64_t vector,
                                        Lanes (&x)[kCount]) const {
    const MultiplyAdd<Simd, false> rule(
        rules_ + vector * multiply_adds_stride(Simd::kShape.lanes));
#pragma GCC unroll 16
    for (Lanes &each : x) each = rule(each);
    if (!clamps_) return;
    const Lanes low = Simd::fill(low_), high = Simd::fill(high_);
#pragma GCC unroll 16
    for (Lanes &each : x) each = clamp(each, low, high);
  }

  // Where the bytes of vectors of channels lie, from a pixel of a tile on.
  ByteSpan span(const TileCoord &tile, int64_t pixel, int64_t vectors) const {
    constexpr int64_t kLanes = Simd::kShape.lanes;
    const int64_t channels = fused_.channels, channel = tile.vector * kLanes;
    const int64_t pixels = tile.row * fused_.size.width + tile.column + pixel;
    const Tensor &out = *fused_.ops[1].out;
    return {static_cast<int8_t *>(out.data) + pixels * channels + channel,
            channels,
            static_cast<int>(std::min(channels - channel, vectors * kLanes)),
            out.type == Type::kU8};
  }

 private:
  static bool is_all_of_a_byte(const Grid &grid) {
    return grid.high - grid.low == UINT8_MAX &&
           (grid.low == 0 || grid.low == INT8_MIN);
  }

  const FusedOp &fused_;
  const int32_t *rules_ = nullptr;  // of MultiplyAdd
  bool clamps_ = false;
  int32_t low_ = 0, high_ = 0;
};

}  // namespace aqd
