// Winograd's convolution F(m x n, 3 x 3) of integers: which tile a layer can
// take, the proof that it is exact, and the packing. conv_winograd.h runs it.

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace aqd {

struct SimdShape;

constexpr int kTileColumns = 4;                  // n, of the output
constexpr int kInputColumns = kTileColumns + 2;  // that these see
constexpr int kMaxTileRows = 4;
constexpr int kMaxPoints = (kMaxTileRows + 2) * kInputColumns;

// F(rows x 4, 3 x 3), with transformed inputs and weights of bytes or 16 bits.
struct WinogradTile {
  int rows = 0;  // 0 for none
  bool is_bytes = false;

  constexpr int points() const { return (rows + 2) * kInputColumns; }
  constexpr int codes_per_step() const { return is_bytes ? 4 : 2; }
  int64_t k_steps(int64_t channels) const {
    return (channels + codes_per_step() - 1) / codes_per_step();
  }
  // Bytes of a transformed tile at a point: whole cache lines.
  int64_t point_bytes(int64_t channels) const {
    return (channels * (is_bytes ? 1 : 2) + 63) / 64 * 64;
  }
  // The output transform leaves outputs times a scale, 2^shift x an odd number:
  // 2 or 6 or 24 for the rows, times 24 for the four columns.
  constexpr int shift() const { return rows == 4 ? 6 : 4; }
  // Of the odd number, 3 or 9, modulo 2^32.
  constexpr uint32_t inverse() const {
    return rows == 2 ? 0xaaaaaaab : 0x38e38e39;
  }
};

// How a convolution is computed. Its transformed weights: block of NR vectors
// of output channels, point, part of K, where accumulators start and then steps
// of K, vector, lane, 4 bytes.
struct PackedWinograd {
  WinogradTile tile;
  bool is_halved = false;  // weights 2v + 1 are transformed as v
  bool is_short = false;   // accumulators have 16 bits
  Grid codes;              // of the input and of the border around it
  // Of the channels of the input, which the border has; none if all are 0.
  std::vector<int32_t> zero_points;
  // Steps of K in a part (the last one may have fewer), and the lowest output
  // that a part can have. Only short accumulators need several parts; of others
  // there is one, and the lowest output is not used (0).
  int64_t part_steps = 0;
  int part_low = 0;
  std::vector<Line> weights;

  int64_t parts(int64_t channels) const {
    return (tile.k_steps(channels) + part_steps - 1) / part_steps;
  }

  int32_t zero_point(int64_t channel) const {
    return zero_points.empty() ? 0 : zero_points[static_cast<size_t>(channel)];
  }

  // Added to the transformed inputs of a point, so that the least possible one
  // is the MAC's lowest byte.
  int zero_point_shift(int point, int lowest_byte) const;
};

// Whether a convolution has a window of 3 x 3 without strides, and reads bytes.
bool has_winograd_window(const Op &op, const Grid &codes);

// The codes of an input and the zeros of its padding.
Grid with_zero(const Grid &codes);

// Packs for the fastest tile that is exact, for which nothing overflows; there
// is no tile if none is, or if there are too many weights.
PackedWinograd pack_winograd(const SimdShape &shape, const Grid &codes,
                             const std::vector<int32_t> &zero_points,
                             const Weights &weights);

// What a thread works with.
struct WinogradScratch {
  uint8_t *inputs;  // transformed: point, tile, channel
  int64_t input_bytes, acc_bytes, sum_bytes, border_bytes;

  WinogradScratch(const SimdShape &shape, const PackedWinograd &packed,
                  int64_t channels, uint8_t *memory);
  int64_t bytes() const {
    return input_bytes + acc_bytes + sum_bytes + border_bytes;
  }
  // Point, part, tile, vector, lane. (Two vectors of short ones are one.)
  int32_t *acc() const {
    return reinterpret_cast<int32_t *>(inputs + input_bytes);
  }
  // Of the codes in an output's window: tile, row, column.
  int32_t *window_sums() const { return acc() + acc_bytes / 4; }
  // A pixel of the border.
  uint8_t *border() const { return inputs + bytes() - border_bytes; }
};

// Tiles and blocks of output channels that one thread computes at a time.
struct WinogradShare {
  int64_t first_tile, tiles;
  int64_t first_block, end_block;
};

// Divides tiles among threads; where they are few, output channels instead.
std::vector<WinogradShare> winograd_shares(int64_t tiles, int64_t blocks,
                                           int threads);

}  // namespace aqd
