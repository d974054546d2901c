// The shortest epilogue, in registers: one requantisation to bytes, by one
// multiply-add. Most convolutions have it. Their accumulators are never in
// memory, which saves a store and a load of four bytes for each code.

#pragma once

#include "kernels/requantize.h"
#include "kernels/tile.h"

namespace aqd {

template <class Simd>
class ByteEpilogue {
 public:
  using Lanes = typename Simd::Lanes;

  // Whether a MAC's accumulators are what a multiply-add takes.
  template <class Mac>
  static constexpr bool kTakes =
      Simd::kHasFma && Simd::kSaturates && !Mac::kIsShort;

  explicit ByteEpilogue(const FusedOp &fused)
      : fused_(fused), last_(fused.ops.back()),
        packed_(last_.node->packed.requantize),
        fits_(fused.ops.size() == 2 && fused.ops[0].out == nullptr &&
              makes_bytes(last_) && last_.inputs[0].tensor == nullptr &&
              !packed_.multiply_adds.empty()),
        grid_(clamping_grid(last_)) {}

  // Whether it is all that follows the accumulators of a fused operator.
  bool fits() const { return fits_; }

  // Requantises values of some pixels of a vector of channels to codes, which
  // their span may have to clamp.
  template <int kCount>
  AQD_TARGET AQD_INLINE void requantize(int64_t vector,
                                        Lanes (&x)[kCount]) const {
    const MultiplyAdd<Simd, false> rule(
        packed_.multiply_add(vector, Simd::kShape.lanes));
    if (packed_.clamps_values) {
#pragma GCC unroll 16
      for (Lanes &each : x) each = rule.clamp_value(each);
    }
#pragma GCC unroll 16
    for (Lanes &each : x) each = rule(each);
  }

  // Where the bytes of vectors of channels lie, from a pixel of a tile on.
  ByteSpan span(TileCoord tile, int64_t pixel, int64_t vectors) const {
    constexpr int64_t kLanes = Simd::kShape.lanes;
    tile.column += pixel;
    ByteSpan span = bytes_of(
        *last_.out, span_of(fused_, tile, kLanes, vectors * kLanes));
    span.grid = grid_;
    return span;
  }

 private:
  const FusedOp &fused_;
  const PostOp &last_;
  const PackedRequantize &packed_;
  bool fits_;
  const Grid *grid_;
};

}  // namespace aqd
