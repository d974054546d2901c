// The tables of LUT convolutions: codes of two bits, or three, are multiplied by
// weights of as many by lookups of bytes.
//
// An index byte has three codes of two bits or two of three bits, and stands for
// 64 combinations. A table has what each of them gives with as many weights; it
// depends on nothing else, so that 64 tables serve all layers. A vector
// instruction looks 64 pixels up in one table, which is 192 products, or 128.
//
// A weight w is odd, 2v + 1, so that a sum of products q * w is twice the sum of
// q * v plus the sum of q. The latter is the same for all output channels; a
// table has the former, less its smallest value, so that entries are unsigned.
//
// An example of two bits, a channel of three neighbouring pixels:
//
//   codes     q = 3, 0, 2      index = 3 | 0 << 2 | 2 << 4 = 35
//   weights   w = -3, 1, 3     v = -2, 0, 1, which are the levels v + 2 = 0, 2, 3
//                              table = 0 | 2 << 2 | 3 << 4 = 56
//   entry     q * v = -6 + 0 + 2 = -4; the smallest is 3 * -2 = -6; so 2
//   product   2 * (2 - 6) + (3 + 0 + 2) = -3 = 3 * -3 + 0 * 1 + 2 * 3
//
// Entries are 18 at most, or 56, and bytes hold the sums of at least four, most
// often of 30 or 13 (OverflowRuns in lut_pack.h).

#pragma once

#include <cstdint>

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
      const int product = scheme.half(scheme.field(levels, i)) * scheme.max_code();
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

}  // namespace aqd
