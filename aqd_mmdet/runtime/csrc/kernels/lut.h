// LUT convolutions, their tables and packing: codes of two bits, or three, are
// multiplied by weights of as many by lookups of bytes.
//
// An index byte has three codes of two bits or two of three bits, and stands
// for 64 combinations. A table has what each of them gives with as many
// weights; it depends on nothing else, so that 64 tables serve all layers. A
// vector instruction looks 64 pixels up in one table, which is 192 products, or
// 128.
//
// A weight w is odd, 2v + 1, so that a sum of products q * w is twice the sum
// of q * v plus the sum of q. The latter is the same for all output channels; a
// table has the former, less its smallest value, so that entries are unsigned.
//
// An example of two bits, three channels of a pixel:
//
//   codes     q = 3, 0, 2      index = 3 | 0 << 2 | 2 << 4 = 35
//   weights   w = -3, 1, 3     v = -2, 0, 1, which are the levels v + 2 = 0, 2,
//   3
//                              table = 0 | 2 << 2 | 3 << 4 = 56
//   entry     q * v = -6 + 0 + 2 = -4; the smallest is 3 * -2 = -6; so 2
//   product   2 * (2 - 6) + (3 + 0 + 2) = -3 = 3 * -3 + 0 * 1 + 2 * 3
//
// Entries are 18 at most, or 56, and bytes hold the sums of at least four, most
// often of 30 or 13 (OverflowRuns).

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace aqd {

constexpr int kLutEntries = 64;
constexpr int kLutTables = 64;  // of a scheme

struct LutScheme {
  int bits;       // of a code and of a weight
  int per_index;  // codes of an index
  int first_table;

  constexpr int max_code() const { return (1 << bits) - 1; }
  // v of a weight's level, 0 to max_code.
  constexpr int half(int level) const { return level - (1 << (bits - 1)); }
  // The level of a weight, from -max_code to max_code.
  constexpr int level(int weight) const { return (weight + max_code()) / 2; }
  constexpr int zero_level() const { return 1 << (bits - 1); }  // v is 0
  // A code of an index, or a level of a table's number.
  constexpr int field(int packed, int i) const {
    return packed >> i * bits & max_code();
  }
  // The table whose entries are sums of codes: v is 1.
  constexpr int sum_table() const {
    int table = 0;
    for (int i = 0; i < per_index; ++i) {
      table |= (zero_level() + 1) << i * bits;
    }
    return first_table + table;
  }
  // The largest entry.
  constexpr int max_entry() const {
    return per_index * max_code() * -half(0);
  }
};

inline constexpr LutScheme kLut2Bits = {2, 3, 0};
inline constexpr LutScheme kLut3Bits = {3, 2, kLutTables};

struct LutTables {
  alignas(64) uint8_t entries[2 * kLutTables][kLutEntries];
  uint8_t max_entry[2 * kLutTables];  // the smallest is 0
};

constexpr void add_tables(const LutScheme &scheme, LutTables *tables) {
  for (int levels = 0; levels < kLutTables; ++levels) {
    const int table = scheme.first_table + levels;
    int smallest = 0, largest = 0;
    for (int i = 0; i < scheme.per_index; ++i) {
      const int product =
          scheme.half(scheme.field(levels, i)) * scheme.max_code();
      smallest += product < 0 ? product : 0;
      largest += product < 0 ? 0 : product;
    }
    tables->max_entry[table] = static_cast<uint8_t>(largest - smallest);
    for (int index = 0; index < kLutEntries; ++index) {
      int sum = -smallest;
      for (int i = 0; i < scheme.per_index; ++i) {
        sum += scheme.half(scheme.field(levels, i)) * scheme.field(index, i);
      }
      tables->entries[table][index] = static_cast<uint8_t>(sum);
    }
  }
}

constexpr LutTables make_tables() {
  LutTables tables = {};
  add_tables(kLut2Bits, &tables);
  add_tables(kLut3Bits, &tables);
  return tables;
}

inline constexpr LutTables kAllLutTables = make_tables();

static_assert(kAllLutTables.entries[56][35] == 2, "the example above");

// A microkernel makes MR vectors of 64 pixels x NR output channels. Its 16
// sums, 4 vectors of indices, table and 4 vectors of looked-up entries are 25
// of 32 registers.
constexpr int64_t kLutMr = 4;
constexpr int64_t kLutNr = 4;
constexpr int64_t kLutPixels = 64;  // of a vector, one byte each

// K groups whose indices are made at once.
constexpr int64_t kLutIndexBlock = 64;
constexpr int64_t kLutMaxRows = 3;  // of a window
constexpr int64_t kLutMaxLookups = kLutIndexBlock * kLutMaxRows;  // of a block

// K as lookups read it. A K group is what an index byte holds: two or three
// channels of a pixel, which are `count` apart.
struct KGroups {
  int64_t count, taps;
  int64_t block;  // groups that are summed together: their indices fit L1

  KGroups(const LutScheme &scheme, const Convolution &conv, int64_t channels);

  int64_t lookups() const { return count * taps; }
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
  // The compensation of what entries exceed q * v by, twice, and of the zero
  // points of the input's channels, which no padding has then.
  std::vector<int32_t> acc_init;
  std::vector<int32_t> zero_points;

  int64_t out_groups(int64_t outs) const {
    return (outs + kLutNr - 1) / kLutNr;
  }
};

// The scheme for a convolution; null if lookups cannot compute it or do not
// pay.
const LutScheme *lut_scheme(const Op &op, const Op &x);

PackedLut pack_lut(const LutScheme &scheme, const Op &op, int64_t channels);

// Sums of 64 pixels. Bytes are added as words of two: odd pixels are the sums
// of their upper bytes, even ones what is left of the words.
struct LutSums {
  alignas(64) uint16_t words[kLutPixels / 2];
  alignas(64) uint16_t uppers[kLutPixels / 2];
};

// What a thread works with. A plane is a vector of indices of a K group, of a
// vector of a tile and a tap.
struct LutScratch {
  uint8_t *indices;  // K group, plane, pixel
  int64_t index_bytes, outs, sums_bytes;

  LutScratch(const PackedLut &packed, const Op &op, uint8_t *memory);
  int64_t bytes() const { return index_bytes + sums_bytes; }
  // By output channel and vector, then those of codes by plane.
  LutSums *sums() const {
    return reinterpret_cast<LutSums *>(indices + index_bytes);
  }
  LutSums *code_sums() const { return sums() + outs * kLutMr; }
};

}  // namespace aqd
