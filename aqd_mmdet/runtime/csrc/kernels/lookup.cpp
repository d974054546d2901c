// Lines of tables (packed.h).

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/isa.h"

namespace aqd {
namespace {

// Values of codes that follow each other.
struct Part {
  const int32_t *values;
  int64_t count;
  int shift;

  int64_t rise() const { return values[count - 1] - int64_t{values[0]}; }
  bool is_line(int64_t slope) const {
    const int64_t half = (int64_t{1} << shift) / 2;
    for (int64_t i = 0; i < count; ++i) {
      if (values[0] + ((slope * i + half) >> shift) != values[i]) return false;
    }
    return true;
  }
};

// Finds a part's line of a row; false if there is none of 16 bits.
bool find_line(const Part &part, int64_t number, PackedLookup::Row *row) {
  const int64_t unit = int64_t{1} << part.shift, last = part.count - 1;
  // From the least slope that makes the last value.
  int64_t slope = 0;
  if (last > 0) {
    const int64_t most = part.rise() * unit + unit - 1 - unit / 2;
    slope = most / last - (most % last < 0);
    // Of the slopes that do, one makes the other values as well.
    while (!part.is_line(slope)) {
      --slope;
      if (slope * last < part.rise() * unit - unit / 2) return false;
    }
  }
  const Grid word = {INT16_MIN, INT16_MAX};
  const auto [low, high] =
      std::minmax(part.values[0], part.values[last]);
  if (!word.holds(low, high) || !word.holds(slope, slope)) return false;
  row->firsts[number] = static_cast<uint16_t>(part.values[0] - INT16_MIN);
  row->slopes[number] = static_cast<int16_t>(slope);
  return true;
}

// Finds the lines of a row of so many codes.
bool find_lines(const int32_t *row, int64_t codes, int shift,
                PackedLookup::Row *lines) {
  const int64_t each = int64_t{1} << shift;
  for (int64_t i = 0; i * each < codes; ++i) {
    const Part part = {row + i * each, std::min(each, codes - i * each), shift};
    if (!find_line(part, i, lines)) return false;
  }
  return true;
}

// Replaces numbers by all their lower bytes, and all upper ones behind these.
template <class T>
void split_bytes(T (&numbers)[kLines]) {
  uint8_t halves[2][kLines];
  for (size_t i = 0; i < kLines; ++i) {
    halves[0][i] = static_cast<uint8_t>(numbers[i] & 255);
    halves[1][i] = static_cast<uint8_t>(numbers[i] >> 8 & 255);
  }
  static_assert(sizeof halves == sizeof numbers);
  std::memcpy(numbers, halves, sizeof halves);
}

}  // namespace

PackedLookup pack_lookup(const SimdShape &shape, const Op &op, const Op &x) {
  const Lookup &lookup = op.as<Lookup>();
  const int64_t codes = int64_t{x.grid.high} - x.grid.low + 1;
  PackedLookup packed;
  packed.first_code = x.grid.low;
  packed.last_code = x.grid.high;
  while (codes > int64_t{kLines} << packed.shift) ++packed.shift;
  if (packed.shift > kMaxLineShift) return {};
  const size_t channels = lookup.starts.size();
  const size_t lanes = static_cast<size_t>(shape.lanes);
  for (size_t first = 0; first < channels; first += lanes) {
    packed.begins.push_back(packed.rows.size());
    std::vector<int32_t> starts;
    for (size_t c = first; c < std::min(channels, first + lanes); ++c) {
      const auto known =
          std::find(starts.begin(), starts.end(), lookup.starts[c]);
      const auto index = static_cast<size_t>(known - starts.begin());
      if (known == starts.end()) {
        if (starts.size() == kMaxRows) return {};
        starts.push_back(lookup.starts[c]);
        packed.rows.push_back({});
        const int32_t *row = lookup.values + lookup.starts[c] + x.grid.low;
        if (!find_lines(row, codes, packed.shift, &packed.rows.back())) {
          return {};
        }
      }
      const size_t lane = c - first;
      packed.rows[packed.begins.back() + index].words |=
          0x11u << (lane / 4 * 8 + lane % 4);
    }
  }
  packed.begins.push_back(packed.rows.size());
  for (PackedLookup::Row &row : packed.rows) {
    if (!shape.line_bytes) break;
    split_bytes(row.firsts);
    split_bytes(row.slopes);
  }
  return packed;
}

}  // namespace aqd
