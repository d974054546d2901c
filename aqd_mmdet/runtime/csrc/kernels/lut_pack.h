// Packing for LUT convolutions (lut_tables.h): weights become the offsets of
// tables in the order in which they are read.

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/lut_tables.h"
#include "kernels/tensor.h"

namespace aqd {

// What a microkernel makes: vectors of 64 pixels x output channels. With four
// vectors of indices, a table and what it gives these take all registers.
constexpr int64_t kLutMr = 4;
constexpr int64_t kLutNr = 4;
constexpr int64_t kLutPixels = 64;  // of a vector, one byte each

constexpr int64_t kLutIndexBlock = 64;  // K groups whose indices are made at once
constexpr int64_t kLutMaxRows = 3;      // of a window
constexpr int64_t kLutMaxLookups = kLutIndexBlock * kLutMaxRows;  // of a block

// K as lookups read it. A K group is what an index byte holds: a channel in
// three columns, or some channels of one pixel.
struct KGroups {
  bool is_wide;     // three columns
  int64_t count;    // of groups
  int64_t rows;     // of the window
  int64_t columns;  // of the window that are looked up by themselves
  int64_t block;    // groups that are summed together: their indices fit L1

  KGroups(const LutScheme &scheme, const Convolution &conv, int64_t channels);

  int64_t taps() const { return rows * columns; }
  int64_t lookups() const { return count * taps(); }
  int64_t blocks() const { return (count + block - 1) / block; }
};

// How many lookups of a block of K groups are summed in bytes, before these are
// widened to 16 bits. A byte holds at least four.
struct OverflowRuns {
  uint8_t lengths[kLutMaxLookups / 4];
};

struct PackedLut {
  const LutScheme *scheme;
  KGroups k_groups;
  // Of tables, in bytes: NR output channels, K group, tap, output channel.
  std::vector<uint16_t> offsets;
  std::vector<OverflowRuns> runs;  // NR output channels, block of K groups
  // The compensation of what entries exceed q * v by, twice.
  std::vector<int32_t> acc_init;

  int64_t out_groups(int64_t outs) const { return (outs + kLutNr - 1) / kLutNr; }
};

// The scheme for a convolution; null if lookups cannot compute it or do not pay.
const LutScheme *lut_scheme(const Op &op, const Op &x);

PackedLut pack_lut(const LutScheme &scheme, const Op &op, int64_t channels);

// Vectors of indices of a K group, which a tile of kLutMr vectors of pixels
// reads: rows of the input, which its vectors share if each of them is a row of
// the output, or some for each vector.
struct IndexPlanes {
  int64_t count, vector_step, row_step, columns;
  bool is_shared;

  IndexPlanes(const Convolution &conv, const KGroups &k_groups,
              int64_t tile_columns);
  // The plane of a tap, from the first one of a vector on.
  int64_t of_tap(int64_t tap) const {
    return tap / columns * row_step + tap % columns;
  }
};

// Sums of 64 pixels. Bytes are added as words of two: odd pixels are the sums
// of their upper bytes, even ones what is left of the words.
struct LutSums {
  alignas(64) uint16_t words[kLutPixels / 2];
  alignas(64) uint16_t uppers[kLutPixels / 2];
};

// What a thread works with.
struct LutScratch {
  uint8_t *indices;    // K group, plane, pixel
  LutSums *sums;       // output channel, vector
  LutSums *code_sums;  // by plane
  int64_t sums_bytes;  // of both

  LutScratch(const PackedLut &packed, const Op &op, uint8_t *memory);
};

int64_t lut_scratch(const PackedLut &packed, const Op &op);

}  // namespace aqd
