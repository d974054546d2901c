// The epilogue: what follows the accumulators of a convolution (or the codes of
// an elementwise root) in a fused operator. It runs for a tile of up to
// kTilePixels pixels and one vector of channels, while their values are in the
// L1 cache.

#pragma once

#include <type_traits>

#include "graph/memory_plan.h"
#include "kernels/byte_epilogue.h"

namespace aqd {

// The values of a tile, pixel x lane: accumulators first, then what post-ops
// make of them.
template <class Simd>
struct AccTile {
  static constexpr int kCount = kTilePixels * Simd::kShape.lanes;
  alignas(64) int32_t buffers[kMaxBuffers][kCount];
  int32_t *acc = buffers[0];  // or where a microkernel left accumulators
};

template <class Simd>
class Epilogue {
 public:
  explicit Epilogue(const FusedOp &fused) : fused_(fused) {}

  // Overwrites what acc points to.
  AQD_TARGET void run(const TileCoord &tile, AccTile<Simd> *values) const {
    const Span span = span_of(fused_, tile, kLanes, kLanes);
    const PostOp *op = fused_.ops.data();
    for (const PostOp *end = op + fused_.ops.size(); op < end; ++op) {
      if constexpr (Simd::kHasInt16Thresholds) {
        if (is_for_int16(*op, span)) {
          Simd::store_by_thresholds(thresholds(*op, tile),
                                    buffer(op->inputs[0].buffer, values),
                                    span.pixels, span.next,
                                    static_cast<uint8_t *>(op->out->data) +
                                        span.at);
          continue;
        }
      }
      if constexpr (Simd::kHasLines) {
        if (const int count = look_up_lines(op, tile, span, values)) {
          op += count - 1;
          continue;
        }
      }
      if (makes_bytes(*op) && op->node->packed.requantize.has_rule()) {
        store_requantized(*op, tile, span, values);
        continue;
      }
      run(*op, tile, span, values);
      if (op->out != nullptr) store(*op->out, span, buffer(op->buffer, values));
    }
  }

  // Calls with the tiles of what is wanted of a row, and the first vector.
  template <class Take>
  AQD_TARGET AQD_INLINE void each_group(int64_t row, const Take &take) const {
    fused_.each_run(row, [&](int64_t first, int64_t end) AQD_TARGET {
      const int64_t step = tile_columns(end - first);
      for (int64_t c = first; c < end; c += step) {
        const int64_t pixels = end - c < step ? end - c : step;
        take(TileCoord{row, c, static_cast<int>(pixels), 0});
      }
    });
  }

  // Calls with these and each vector.
  template <class Take>
  AQD_TARGET AQD_INLINE void each_tile(int64_t row, const Take &take) const {
    const int64_t vectors = vectors_of(fused_.channels, kLanes);
    each_group(row, [&](TileCoord tile) AQD_TARGET {
      for (; tile.vector < vectors; ++tile.vector) take(tile);
    });
  }

  // Runs for these, each after `make` made its accumulators.
  template <class Make>
  AQD_TARGET AQD_INLINE void run_row(int64_t row, AccTile<Simd> *values,
                                     const Make &make) const {
    each_tile(row, [&](const TileCoord &tile) AQD_TARGET {
      make(tile);
      run(tile, values);
    });
  }

  // Fetches into the cache what the epilogue reads and writes of a tile, and of
  // as many vectors of channels from its own on. Cache lines that begin before
  // them came with the vectors before, which must have been prefetched.
  AQD_TARGET void prefetch(const TileCoord &tile, int64_t vectors) const {
    for (const PostOp &op : fused_.ops) {
      if (op.out != nullptr && !is_streamed(*op.out)) {
        prefetch<Simd::prefetch_write>(*op.out, tile, vectors);
      }
      if (op.op().template is<Upsample>()) continue;
      for (int k = 0; k < op.arity(); ++k) {
        const Tensor *x = op.inputs[k].tensor;
        if (x != nullptr) prefetch<Simd::prefetch>(*x, tile, vectors);
      }
    }
  }

 private:
  static constexpr int64_t kLanes = Simd::kShape.lanes;
  using Lanes = typename Simd::Lanes;

  static int32_t *buffer(int index, AccTile<Simd> *values) {
    return index == 0 ? values->acc : values->buffers[index];
  }

  static const int32_t *thresholds(const PostOp &op, const TileCoord &tile) {
    return op.node->packed.requantize.thresholds.data() +
           tile.vector * thresholds_stride(kLanes);
  }

  // Whether one step requantises to bytes and stores them.
  static bool is_for_int16(const PostOp &op, const Span &span) {
    return op.is_stored_only && span.lanes == kLanes &&
           op.node->packed.requantize.thresholds_fit_int16 &&
           op.inputs[0].tensor == nullptr && op.out->type == Type::kU8;
  }

  // Whether a tensor is larger than what the caches would hold of it.
  static bool is_streamed(const Tensor &out) {
    return out.type == Type::kI32 && out.channels % kLanes == 0 &&
           out.count() * 4 >= kStreamedBytes &&
           reinterpret_cast<uintptr_t>(out.data) %
                   static_cast<uintptr_t>(kCacheLine) == 0;
  }

  AQD_TARGET void run(const PostOp &op, const TileCoord &tile,
                      const Span &span, AccTile<Simd> *values) const {
    if (op.op().template is<Convolution>()) return;
    int32_t *to = buffer(op.buffer, values);
    if (op.op().template is<Upsample>()) return upsample(op, tile, span, to);
    const int32_t *x = input(op.inputs[0], span, values);
    if (op.op().template is<Requantize>()) {
      return requantize(op, tile, span, x, to);
    }
    if (op.op().template is<Lookup>()) {
      return look_up(op.op().template as<Lookup>(), tile, span, x, to);
    }
    add(op.op().grid, span.pixels, x, input(op.inputs[1], span, values), to);
  }

  AQD_TARGET static const int32_t *input(const PostOp::Input &from,
                                         const Span &span,
                                         AccTile<Simd> *values) {
    int32_t *to = buffer(from.buffer, values);
    if (from.tensor != nullptr) load(*from.tensor, span, to);
    return to;
  }

  AQD_TARGET static void load(const Tensor &x, const Span &span, int32_t *to) {
    with_codes(x, [&](const auto *from) AQD_TARGET {
      from += span.at;
      for (int p = 0; p < span.pixels; ++p, from += span.next) {
        Simd::store(Simd::load(from, span.lanes), to + p * kLanes);
      }
    });
  }

  AQD_TARGET static void store(const Tensor &out, const Span &span,
                               const int32_t *from) {
    if (is_streamed(out)) {
      int32_t *to = static_cast<int32_t *>(out.data) + span.at;
      for (int p = 0; p < span.pixels; ++p, from += kLanes, to += span.next) {
        // Streaming stores are unordered. They are complete when this thread
        // releases the lock that readers of the output take.
        Simd::stream(Simd::load(from), to);
      }
      return;
    }
    with_codes(out, [&](auto *codes) AQD_TARGET {
      // Unsigned bytes as signed ones: the bits are the same.
      using T = std::make_signed_t<std::remove_reference_t<decltype(*codes)>>;
      T *to = reinterpret_cast<T *>(codes) + span.at;
      for (int p = 0; p < span.pixels; ++p, to += span.next) {
        Simd::store(Simd::load(from + p * kLanes), to, span.lanes);
      }
    });
  }

  // Calls with the rule of a requantisation, whose codes are not clamped if
  // bytes are.
  template <class Take>
  AQD_TARGET AQD_INLINE static void with_rule(const PostOp &op,
                                              const TileCoord &tile,
                                              bool clamps_bytes,
                                              const Take &take) {
    const PackedRequantize &packed = op.node->packed.requantize;
    const Grid &grid = op.op().grid;
    if (!packed.thresholds.empty()) {
      return take(thresholds_from<Lanes>(thresholds(op, tile), kLanes,
                                         load_as<Lanes>));
    }
    if constexpr (Simd::kHasFma) {
      const int32_t *table = packed.multiply_add(tile.vector, kLanes);
      if (table != nullptr) {
        const auto take_clamped = [&](const auto &rule) AQD_TARGET {
          if (clamps_bytes || !packed.clamps_codes) return take(rule);
          const auto low = Simd::fill(grid.low), high = Simd::fill(grid.high);
          take([&](Lanes x) AQD_TARGET { return clamp(rule(x), low, high); });
        };
        if (packed.clamps_values) {
          return take_clamped(MultiplyAdd<Simd, true>(table));
        }
        return take_clamped(MultiplyAdd<Simd, false>(table));
      }
    }
    const int64_t *table =
        packed.multipliers.data() + tile.vector * multipliers_stride(kLanes);
    take(MultiplyShift<Simd>(table, grid));
  }

  AQD_TARGET static void requantize(const PostOp &op, const TileCoord &tile,
                                    const Span &span, const int32_t *from,
                                    int32_t *to) {
    if (op.node->packed.requantize.has_rule()) {
      return with_rule(op, tile, false, [&](const auto &rule) AQD_TARGET {
        for (int i = 0; i < span.pixels * kLanes; i += kLanes) {
          Simd::store(rule(Simd::load(from + i)), to + i);
        }
      });
    }
    const Multipliers &table = op.op().template as<Requantize>().multipliers;
    const size_t first = static_cast<size_t>(tile.vector * kLanes);
    for (int p = 0; p < span.pixels; ++p, from += kLanes, to += kLanes) {
      for (size_t i = 0; i < static_cast<size_t>(span.lanes); ++i) {
        to[i] = aqd::requantize(table, op.op().grid, first + i, from[i]);
      }
    }
  }

  AQD_TARGET static void store_requantized(const PostOp &op,
                                           const TileCoord &tile,
                                           const Span &span,
                                           AccTile<Simd> *values) {
    const int32_t *from = input(op.inputs[0], span, values);
    ByteSpan bytes = bytes_of(*op.out, span);
    const bool by_thresholds = !op.node->packed.requantize.thresholds.empty();
    if (Simd::kSaturates && !by_thresholds) bytes.grid = clamping_grid(op);
    with_rule(op, tile, Simd::kSaturates, [&](const auto &rule) AQD_TARGET {
      Simd::store_bytes(rule, from, span.pixels, bytes);
    });
  }

  // Looks up lines, if the first of these operators does or is a
  // requantisation for that, together with a requantisation to bytes behind.
  // Returns how many operators are done.
  AQD_TARGET static int look_up_lines(const PostOp *first,
                                      const TileCoord &tile, const Span &span,
                                      AccTile<Simd> *values) {
    const auto multiply_add = [&](const PostOp &op) {
      return op.node->packed.requantize.multiply_add(tile.vector, kLanes);
    };
    const PostOp *op = first;
    LookupTile lookup = {};
    if (op->is_for_next && op->op().template is<Requantize>()) {
      lookup.before = multiply_add(*op);
      lookup.clamps_values = op->node->packed.requantize.clamps_values;
      if (lookup.before == nullptr) return 0;
      ++op;
    }
    lookup.lines = &op->node->packed.lookup;
    if (lookup.lines->rows.empty()) return 0;
    lookup.vector = tile.vector;
    lookup.pixels = span.pixels;
    lookup.from = input(first->inputs[0], span, values);
    lookup.to = buffer(op->buffer, values);
    const Tensor *out = op->out;
    if (op->is_for_next && makes_bytes(op[1]) &&
        !op[1].node->packed.requantize.clamps_values) {
      lookup.after = multiply_add(op[1]);
      if (lookup.after != nullptr) {
        lookup.bytes = bytes_of(*(++op)->out, span);
        lookup.bytes.grid = clamping_grid(*op);
      }
    }
    Simd::look_up(lookup);
    if (out != nullptr) store(*out, span, lookup.to);
    return static_cast<int>(op + 1 - first);
  }

  AQD_TARGET static void look_up(const Lookup &lookup, const TileCoord &tile,
                                 const Span &span, const int32_t *from,
                                 int32_t *to) {
    const auto starts = Simd::load(
        lookup.starts.data() + tile.vector * kLanes, span.lanes);
    for (int p = 0; p < span.pixels; ++p, from += kLanes, to += kLanes) {
      Simd::store(Simd::gather(lookup.values, Simd::load(from) + starts,
                               span.lanes),
                  to);
    }
  }

  AQD_TARGET static void add(const Grid &grid, int pixels, const int32_t *x,
                             const int32_t *y, int32_t *to) {
    const auto low = Simd::fill(grid.low), high = Simd::fill(grid.high);
    for (int i = 0; i < pixels * kLanes; i += kLanes) {
      Simd::store(clamp(Simd::load(x + i) + Simd::load(y + i), low, high),
                  to + i);
    }
  }

  AQD_TARGET void upsample(const PostOp &op, const TileCoord &tile,
                           const Span &span, int32_t *to) const {
    const Tensor &x = *op.inputs[0].tensor;
    const int64_t row = tile.row * x.size.height / fused_.size.height;
    const int64_t *columns = op.columns.data() + tile.column;
    Span each = span;
    each.pixels = 1;
    for (int p = 0; p < tile.pixels; ++p, to += kLanes) {
      each.at = (row * x.size.width + columns[p]) * x.channels +
                tile.vector * kLanes;
      load(x, each, to);
    }
  }

  template <void (*fetch)(const uint8_t *)>
  AQD_TARGET void prefetch(const Tensor &x, const TileCoord &tile,
                           int64_t vectors) const {
    const int64_t code = static_cast<int64_t>(bytes_of(x.type));
    const int64_t channel = tile.vector * kLanes;
    int64_t end = std::min(vectors * kLanes, x.channels - channel) * code;
    int64_t pixels = tile.pixels;
    if (end == x.channels * code) {  // of all pixels together
      end *= pixels;
      pixels = 1;
    }
    int64_t skipped = channel * code % kCacheLine;
    if (skipped != 0) skipped = kCacheLine - skipped;
    if (skipped >= end) return;
    const uint8_t *from = static_cast<const uint8_t *>(x.data) +
                          span_of(fused_, tile, kLanes, kLanes).at * code;
    for (int64_t p = 0; p < pixels; ++p, from += x.channels * code) {
      for (int64_t i = skipped; i < end; i += kCacheLine) fetch(from + i);
    }
  }

  const FusedOp &fused_;
};

}  // namespace aqd
