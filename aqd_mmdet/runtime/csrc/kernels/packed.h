// What vector kernels read in place of a node's weights and multipliers. It is
// made once, when a model is loaded (packing.cpp), and never changes then. Each
// algorithm has its own type, so that a kernel cannot be given another's
// weights. docs/engine.md draws the layouts.

#pragma once

#include <variant>
#include <vector>

#include "kernels/lut.h"
#include "kernels/winograd.h"

namespace aqd {

// How a kernel reads the input of a convolution.
struct InputFormat {
  bool widen = false;        // as 16 bits, whatever the type of the codes
  int zero_point_shift = 0;  // added to each code, so that bytes suit a ByteMac
  // Steps of K whose products accumulators of 16 bits hold; 0 for 32 bits.
  int64_t k_per_spill = 0;
  // Zero points of channels; of an image's bytes, its means with them. None if
  // all are 0.
  std::vector<int32_t> zero_points;

  int code_bytes() const { return widen ? 2 : 1; }
  // Steps of K, of one MAC instruction each, for so many codes.
  int64_t k_steps(int64_t codes) const {
    return widen ? (codes + 1) / 2 : (codes + 3) / 4;
  }
  // What stands for zero in each channel.
  std::vector<int> zeros(int64_t channels) const;
  bool operator==(const InputFormat &other) const;
};

// Weights of a direct convolution: block of up to NR vectors of output
// channels, K segment, step of K, vector, lane, 4 bytes (or two numbers of 16
// bits).
struct PackedDirect {
  InputFormat input;
  bool is_dilated;  // by columns, so that each tap is a segment
  std::vector<Line> weights;
  // Where accumulators start: the zero point compensation, by output channel.
  std::vector<int32_t> acc_init;
};

// The same for tiles of AMX: block of up to two vectors, segment, 16 steps of
// K, vector, step, lane, 4 bytes.
struct PackedAmx : PackedDirect {};

// Groups of columns of a depthwise convolution's input: 4 bytes of a channel,
// or 2 numbers of 16 bits, which are the operand of a MAC. Windows share groups
// if strides divide a group and windows are not dilated; groups are neighbours
// then. Otherwise each window has its own groups, of its taps alone.
struct ColumnGroups {
  int64_t columns;           // of a group
  int64_t stride, dilation;  // of windows, in columns
  bool are_shared;
  int64_t phases;  // windows that begin in a group
  int64_t count;   // of a row of a window, at most
  int64_t step;    // from a group where windows begin to the next such one
  int64_t first_of_last = 0;  // the first phase that reads the last of `count`

  ColumnGroups(const Window &window, const InputFormat &format);
  bool operator==(const ColumnGroups &other) const;

  // Groups of a row of the input, for so many outputs.
  int64_t of_row(int64_t width) const;
  // The first column of each of these. Others of a group follow, a dilation
  // apart.
  std::vector<int64_t> starts(int64_t width, int64_t padding) const;
};

// Pixels behind a row that microkernels may make. They are not stored.
constexpr int64_t kDepthwiseSlack = 8;

// Weights of a depthwise convolution: vector of channels, row of the window,
// group of columns, phase, lane, 4 bytes (or two numbers of 16 bits).
struct PackedDepthwise {
  InputFormat input;
  ColumnGroups groups;
  std::vector<Line> weights;
  std::vector<int32_t> acc_init;  // as of PackedDirect
};

struct PackedConv {
  const Weights *source;  // what was packed
  std::variant<PackedDirect, PackedAmx, PackedDepthwise, PackedWinograd,
               PackedLut>
      weights;
};

constexpr int kLines = 64;  // of a row of a table
// Of tables that the channels of one vector read.
constexpr size_t kMaxRows = 8;
// So that codes, counted from the first one, have 16 bits.
constexpr int kMaxLineShift = 10;

constexpr int kThresholds = 3;  // of four codes

// 64-bit numbers, and 32-bit ones, that PackedRequantize has for a vector.
constexpr int64_t multipliers_stride(int64_t lanes) {
  return lanes / 2 + 2 * lanes;
}
constexpr int64_t thresholds_stride(int64_t lanes) {
  return (2 + kThresholds) * lanes;
}

constexpr int64_t multiply_adds_stride(int64_t lanes) { return 5 * lanes; }

// Floats of 2^23..2^24 are whole numbers, in units of the last bit: they are
// 2^23 and what their bits exceed kFloatUnitBits by.
constexpr int64_t kFloatUnit = 1 << 23;
constexpr int64_t kFloatUnitBits = 0x4b000000;
// Stands for the code 0 there, in the middle.
constexpr int64_t kFloatZero = kFloatUnit + kFloatUnit / 2;
constexpr int32_t kFloatZeroBits = 0x4b400000;

// A requantisation (requantize.h), with one of the tables filled. Beside
// thresholds there may be multiply-adds, which kernels take where accumulators
// are in registers, in front of a lookup and behind it. There is no table where
// values do not fit 32 bits before they are clamped; plain code computes them
// then.
struct PackedRequantize {
  // For each vector of channels: m, 32 bits a lane; b, then s, 64 bits a lane
  // (SimdShape::even_first).
  std::vector<int64_t> multipliers;
  // For each vector of channels, 32 bits a lane: what x is combined with by XOR
  // (all ones where m is negative), the lowest code, the thresholds.
  std::vector<int32_t> thresholds;
  // For each vector of channels, 32 bits a lane: what is added to values, the
  // floats by which they are multiplied and which are added then; the least
  // and the greatest value that are told apart.
  std::vector<int32_t> multiply_adds;
  // Whether values are clamped to these before, since floats do not hold all
  // that may occur, and whether codes are clamped to the grid.
  bool clamps_values = false, clamps_codes = false;
  // Whether thresholds tell values apart that are saturated to 16 bits.
  bool thresholds_fit_int16 = false;

  // The numbers of MultiplyAdd for a vector of channels; null for none.
  const int32_t *multiply_add(int64_t vector, int64_t lanes) const {
    if (multiply_adds.empty()) return nullptr;
    return multiply_adds.data() + vector * multiply_adds_stride(lanes);
  }
  bool has_rule() const {
    return !multipliers.empty() || !thresholds.empty() ||
           !multiply_adds.empty();
  }
};

// A lookup of tables that consist of straight lines, each of 2^shift codes:
//
//   value(x) = first + ((slope * (x - the line's first code) + half) >> shift)
//
// Registers hold the lines of a row, where they do not hold its values.
struct PackedLookup {
  // A row, and the lanes of a vector of channels that read it.
  struct alignas(64) Row {
    // With 2^15. For SimdShape::line_bytes both have 64 lower bytes, then 64
    // upper ones.
    uint16_t firsts[kLines];
    int16_t slopes[kLines];
    // Of two vectors as 16 bits, four lanes of each in turn.
    uint32_t words;
  };
  int32_t first_code = 0, last_code = 0;
  int shift = 0;
  // None if some row is not of lines, or a vector reads too many.
  std::vector<Row> rows;
  std::vector<size_t> begins;  // of each vector, and the end

  int rows_of(int64_t vector) const {
    const size_t v = static_cast<size_t>(vector);
    return static_cast<int>(begins[v + 1] - begins[v]);
  }
};

// Of a node.
struct Packed {
  bool has_kernel = false;    // whether vector kernels run it, or portable ones
  bool reads_pixels = false;  // a convolution that reads an image's bytes
  const PackedConv *conv = nullptr;  // Program::packed has it
  PackedRequantize requantize;
  PackedLookup lookup;
};

}  // namespace aqd
