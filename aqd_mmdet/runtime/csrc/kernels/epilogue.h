// The epilogue: what follows the accumulators of a convolution (or the codes of
// an elementwise root) in a fused operator. It runs for a tile of up to 16
// pixels and one vector of channels, while their values are in the L1 cache.

#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "graph/memory_plan.h"
#include "kernels/epilogue_steps.h"
#include "kernels/requantize.h"

namespace aqd {

constexpr int kTilePixels = 16;

// The values of a tile, pixel x lane: accumulators first, then what post-ops
// make of them. A value takes the buffer of one that nobody reads any more, so
// that most epilogues have one or two.
template <class Simd>
struct AccTile {
  static constexpr int kCount = kTilePixels * Simd::kShape.lanes;
  alignas(64) int32_t buffers[kEpilogueBuffers][kCount];
  int32_t *acc = buffers[0];  // or where a microkernel left accumulators
};

// Where the codes of a tile lie in a tensor.
struct TileSpan {
  int64_t at;    // of the first code
  int64_t next;  // codes from a pixel to the next
  int pixels;
  int lanes;  // channels that there are
};

// Calls with a tensor's codes, as pointers to their type.
template <class Take>
AQD_TARGET AQD_INLINE void with_codes(const Tensor &x, const Take &take) {
  switch (x.type) {
    case Type::kU8:
      return take(static_cast<uint8_t *>(x.data));
    case Type::kI8:
      return take(static_cast<int8_t *>(x.data));
    case Type::kI16:
      return take(static_cast<int16_t *>(x.data));
    case Type::kI32:
      return take(static_cast<int32_t *>(x.data));
  }
}

template <class Simd, class T>
AQD_TARGET AQD_INLINE void load_codes(const TileSpan &span, const T *from,
                                      int32_t *to) {
  constexpr int kLanes = Simd::kShape.lanes;
  from += span.at;
  for (int p = 0; p < span.pixels; ++p, from += span.next, to += kLanes) {
    if constexpr (Simd::kHasMasks) {
      Simd::store(Simd::load(from, span.lanes), to);
    } else if (span.lanes == kLanes) {
      Simd::store(Simd::load(from), to);
    } else {
      for (int i = 0; i < span.lanes; ++i) to[i] = from[i];
    }
  }
}

// Stores unsigned bytes as signed ones: the bits are the same.
template <class T>
using Stored = std::conditional_t<std::is_same_v<T, uint8_t>, int8_t, T>;

template <class Simd, class T>
AQD_TARGET AQD_INLINE void store_codes(const TileSpan &span,
                                       const int32_t *from, T *out) {
  constexpr int kLanes = Simd::kShape.lanes;
  Stored<T> *to = reinterpret_cast<Stored<T> *>(out) + span.at;
  for (int p = 0; p < span.pixels; ++p, from += kLanes, to += span.next) {
    if constexpr (Simd::kHasMasks) {
      Simd::store(Simd::load(from), to, span.lanes);
    } else if (span.lanes == kLanes) {
      Simd::store(Simd::load(from), to);
    } else {
      for (int i = 0; i < span.lanes; ++i) to[i] = static_cast<Stored<T>>(from[i]);
    }
  }
}

template <class Simd>
class Epilogue {
 public:
  explicit Epilogue(const FusedOp &fused)
      : width_(fused.size.width), channels_(fused.channels),
        steps_(epilogue_steps(fused, kLanes)) {}

  // Overwrites what acc points to.
  AQD_TARGET void run(const TileCoord &tile, AccTile<Simd> *values) const {
    const TileSpan span = span_of(tile);
    for (const EpilogueStep &step : steps_) {
      if constexpr (Simd::kHasInt16Thresholds) {
        if (is_for_int16(step, span)) {
          Simd::store_by_thresholds(
              step.packed->thresholds.data() + tile.vector * kThresholdsStride,
              buffer(step.inputs[0].buffer, values), span.pixels, span.next,
              static_cast<uint8_t *>(step.out->data) + span.at);
          continue;
        }
      }
      run(step, tile, span, values);
      if (step.out != nullptr) store(step, span, buffer(step.buffer, values));
    }
  }

  // Fetches into the cache what the epilogue reads and writes of a tile, and of
  // as many vectors of channels from its own on. Cache lines that begin before
  // them came with the vectors before, which must have been prefetched.
  AQD_TARGET void prefetch(const TileCoord &tile, int64_t vectors) const {
    if constexpr (Simd::kPrefetches) {
      for (const EpilogueStep &step : steps_) {
        if (step.out != nullptr && !step.is_streamed) {
          prefetch<true>(*step.out, tile, vectors);
        }
        if (step.kind == Kind::kUpsample) continue;
        for (const EpilogueStep::Input &input : step.inputs) {
          if (input.tensor == nullptr) continue;
          prefetch<false>(*input.tensor, tile, vectors);
        }
      }
    }
  }

 private:
  using Kind = EpilogueStep::Kind;
  static constexpr int kLanes = Simd::kShape.lanes;
  static constexpr int kThresholdsStride = thresholds_stride(kLanes);

  TileSpan span_of(const TileCoord &tile) const {
    const int64_t channel = tile.vector * kLanes, left = channels_ - channel;
    return {(tile.row * width_ + tile.column) * channels_ + channel, channels_,
            tile.pixels, static_cast<int>(left < kLanes ? left : kLanes)};
  }

  static int32_t *buffer(int index, AccTile<Simd> *values) {
    return index == 0 ? values->acc : values->buffers[index];
  }

  // Whether one step requantises to bytes and stores them.
  static bool is_for_int16(const EpilogueStep &step, const TileSpan &span) {
    return step.is_stored_only && span.lanes == kLanes && step.packed->thresholds_fit_int16 &&
           step.inputs[0].tensor == nullptr && step.out->type == Type::kU8;
  }

  AQD_TARGET void run(const EpilogueStep &step, const TileCoord &tile,
                      const TileSpan &span, AccTile<Simd> *values) const {
    int32_t *to = buffer(step.buffer, values);
    switch (step.kind) {
      case Kind::kAccumulators:
        return;
      case Kind::kUpsample:
        return upsample(step, tile, span, to);
      case Kind::kRequantize:
        return requantize(step, tile, span, input(step, 0, span, values), to);
      case Kind::kAdd:
        return add(step, span, input(step, 0, span, values),
                   input(step, 1, span, values), to);
    }
  }

  AQD_TARGET static const int32_t *input(const EpilogueStep &step, int index,
                                         const TileSpan &span,
                                         AccTile<Simd> *values) {
    const EpilogueStep::Input &from = step.inputs[index];
    int32_t *to = buffer(from.buffer, values);
    if (from.tensor != nullptr) load(*from.tensor, span, to);
    return to;
  }

  AQD_TARGET static void load(const Tensor &x, const TileSpan &span,
                              int32_t *to) {
    with_codes(x, [&](auto *from) AQD_TARGET {
      load_codes<Simd>(span, from, to);
    });
  }

  AQD_TARGET static void store(const EpilogueStep &step, const TileSpan &span,
                               const int32_t *from) {
    if constexpr (Simd::kStreams) {
      if (step.is_streamed) {
        int32_t *to = static_cast<int32_t *>(step.out->data) + span.at;
        for (int p = 0; p < span.pixels; ++p, from += kLanes, to += span.next) {
          // Streaming stores are unordered. They are complete when this thread
          // releases the lock that readers of the output take.
          Simd::stream(Simd::load(from), to);
        }
        return;
      }
    }
    with_codes(*step.out, [&](auto *to) AQD_TARGET {
      store_codes<Simd>(span, from, to);
    });
  }

  template <class Rule>
  AQD_TARGET AQD_INLINE static void apply(const Rule &rule, int pixels,
                                          const int32_t *from, int32_t *to) {
    for (int i = 0; i < pixels * kLanes; i += kLanes) {
      Simd::store(rule(Simd::load(from + i)), to + i);
    }
  }

  AQD_TARGET static void requantize(const EpilogueStep &step,
                                    const TileCoord &tile, const TileSpan &span,
                                    const int32_t *from, int32_t *to) {
    const PackedRequantize &packed = *step.packed;
    if (!packed.thresholds.empty()) {
      return apply(Thresholds<Simd>(packed.thresholds.data() +
                                    tile.vector * kThresholdsStride),
                   span.pixels, from, to);
    }
    if (!packed.multipliers.empty()) {
      return apply(MultiplyShift<Simd>(packed.multipliers.data() +
                                           tile.vector *
                                               multipliers_stride(kLanes),
                                       step.op->grid),
                   span.pixels, from, to);
    }
    const Multipliers &table = step.op->as<Requantize>().multipliers;
    for (int p = 0; p < span.pixels; ++p, from += kLanes, to += kLanes) {
      for (int i = 0; i < span.lanes; ++i) {
        to[i] = aqd::requantize(table, step.op->grid, tile.vector * kLanes + i,
                                from[i]);
      }
    }
  }

  AQD_TARGET static void add(const EpilogueStep &step, const TileSpan &span,
                             const int32_t *x, const int32_t *y, int32_t *to) {
    const typename Simd::Lanes low = Simd::fill(step.op->grid.low);
    const typename Simd::Lanes high = Simd::fill(step.op->grid.high);
    for (int i = 0; i < span.pixels * kLanes; i += kLanes) {
      const typename Simd::Lanes sum =
          Simd::add(Simd::load(x + i), Simd::load(y + i));
      Simd::store(Simd::min(Simd::max(sum, low), high), to + i);
    }
  }

  AQD_TARGET static void upsample(const EpilogueStep &step,
                                  const TileCoord &tile, const TileSpan &span,
                                  int32_t *to) {
    const Tensor &x = *step.inputs[0].tensor;
    const int64_t row = step.rows[static_cast<size_t>(tile.row)];
    const int64_t *columns = step.columns.data() + tile.column;
    TileSpan each = span;
    each.pixels = 1;
    for (int p = 0; p < tile.pixels; ++p, to += kLanes) {
      each.at = (row + columns[p]) * x.channels + tile.vector * kLanes;
      load(x, each, to);
    }
  }

  template <bool kWrites>
  AQD_TARGET void prefetch(const Tensor &x, const TileCoord &tile,
                           int64_t vectors) const {
    const int64_t code = static_cast<int64_t>(bytes_of(x.type));
    const int64_t channel = tile.vector * kLanes;
    const int64_t end =
        std::min(vectors * kLanes, channels_ - channel) * code;
    int64_t skipped = channel * code % kCacheLine;
    if (skipped != 0) skipped = kCacheLine - skipped;
    if (skipped >= end) return;
    const uint8_t *from = static_cast<const uint8_t *>(x.data) +
                          span_of(tile).at * code;
    for (int p = 0; p < tile.pixels; ++p, from += channels_ * code) {
      for (int64_t i = skipped; i < end; i += kCacheLine) {
        if constexpr (kWrites) {
          Simd::prefetch_write(from + i);
        } else {
          Simd::prefetch(from + i);
        }
      }
    }
  }

  const int64_t width_, channels_;
  const std::vector<EpilogueStep> steps_;
};

}  // namespace aqd
