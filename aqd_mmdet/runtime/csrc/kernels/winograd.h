// Convolutions with windows of 3x3 by fewer products (Winograd), of integers:
// what is multiplied, and the proof that it is exact. Kernels are in conv_winograd.h.

#pragma once

#include "kernels/packing.h"

namespace aqd {

constexpr int kTileColumns = 4;  // outputs of a row of a tile
constexpr int kTileWide = kTileColumns + 2;  // codes that they see
constexpr int kMostTileRows = 4;
constexpr int kMostPoints = (kMostTileRows + 2) * kTileWide;
// Tiles of a thread at a time: their values and sums stay in an L2 cache, and
// are enough to read all weights for.
constexpr int64_t kMostTiles = 36;

// Tiles of so many rows, and whether their values are bytes or have 16 bits.
struct Form {
  int rows;
  bool bytes;

  constexpr int points() const { return (rows + 2) * kTileWide; }
  // Codes of an instruction.
  constexpr int together() const { return bytes ? 4 : 2; }
  // What an output is multiplied by, a power of two and an odd number: 48, 144
  // or 576, as a row of two outputs is by 2, of three by 6 and of four by 24.
  constexpr int shift() const { return rows == 4 ? 6 : 4; }
  constexpr uint32_t inverse() const {
    return rows == 2 ? 0xaaaaaaab : 0x38e38e39;  // of 3, of 9
  }
};

struct Range {
  int64_t low, high;
};

// What a layer is multiplied as.
struct Layer {
  Form form;
  bool is_halved;  // whether values are those of v, for weights 2v + 1
  Range codes;

  // What the values of codes at a point are raised by, so that bytes from a
  // lowest one on hold them.
  int raise(int point, int lowest) const;
};

// The layer of weights that are packed.
Layer layer_of(const Node &node);

// Makes what the convolution reads, if its window is 3x3 without steps or gaps
// and it is proven that nothing is cut off; otherwise returns false.
bool prepare_winograd(const Vectors &set, const ValueTypes &types, Node *node,
                      const Node &x);

// What a thread works with, in its scratch.
struct TileWork {
  uint8_t *values;  // of codes: point, tile, channel
  int32_t *sums;    // point, tile, lane
  int32_t *boxes;   // of an output's codes: tile, row, column
  uint8_t *zeros;   // a pixel of the padding
};

TileWork tile_work(const Vectors &set, const Node &node, int64_t channels,
                   uint8_t *scratch);

// Bytes that a thread needs.
int64_t scratch_of_winograd(const Vectors &set, const Node &node,
                            int64_t channels);

// Instructions for all channels at a point.
int64_t steps_of(Form form, int64_t channels);

// Bytes of a tile's values at a point.
int64_t length_of(Form form, int64_t channels);

// Some tiles, and blocks of output channels.
struct TileShare {
  int64_t first, count;
  int64_t block, end;
};

// Divides tiles among threads; where they are few, output channels instead.
std::vector<TileShare> shares_of(int64_t tiles, int64_t blocks, int threads);

}  // namespace aqd
