// A tile: what an epilogue makes at once, some pixels of a row of a fused
// operator's output, and a vector of channels.

#pragma once

#include <algorithm>

#include "kernels/fused_op.h"
#include "kernels/simd.h"
#include "kernels/tuning.h"

namespace aqd {

// Columns of each of the tiles of a row, all about as wide: a multiple of 4, as
// four pixels are stored at a time, and as depthwise convolutions have up to
// four phases.
inline int64_t tile_columns(int64_t width) {
  const int64_t tiles = (width + kTilePixels - 1) / kTilePixels;
  return (width + 4 * tiles - 1) / (4 * tiles) * 4;
}

struct TileCoord {
  int64_t row, column;
  int pixels;
  int64_t vector;
};

// Where the codes of a tile lie in a tensor.
struct Span {
  int64_t at;    // of the first code
  int64_t next;  // codes from a pixel to the next
  int pixels;
  int lanes;  // channels that there are
};

// Of so many channels from the tile's vector on; a vector has `lanes`.
inline Span span_of(const FusedOp &fused, const TileCoord &tile, int64_t lanes,
                    int64_t count) {
  const int64_t channels = fused.channels, channel = tile.vector * lanes;
  return {(tile.row * fused.size.width + tile.column) * channels + channel,
          channels, tile.pixels,
          static_cast<int>(std::min(channels - channel, count))};
}

// The same of a tensor of bytes.
inline ByteSpan bytes_of(const Tensor &out, const Span &span) {
  return {static_cast<int8_t *>(out.data) + span.at, span.next, span.lanes,
          out.type == Type::kU8, nullptr};
}

// Whether a grid is all codes of a byte.
inline bool is_all_of_a_byte(const Grid &grid) {
  return int64_t{grid.high} - grid.low == UINT8_MAX &&
         (grid.low == 0 || grid.low == INT8_MIN);
}

// The grid to which bytes are clamped that multiply-adds of a requantisation
// make; null if that is not needed.
inline const Grid *clamping_grid(const PostOp &op) {
  const Grid &grid = op.op().grid;
  const bool is_clamped = op.node->packed.requantize.clamps_codes;
  return is_clamped && !is_all_of_a_byte(grid) ? &grid : nullptr;
}

// Whether a requantisation to bytes is only stored: then it need not be in a
// buffer.
inline bool makes_bytes(const PostOp &op) {
  return op.is_stored_only && op.op().is<Requantize>() &&
         bytes_of(op.out->type) == 1;
}

}  // namespace aqd
