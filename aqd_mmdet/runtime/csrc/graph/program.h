// A program of integers as it is run: docs/integer_contract.md, section 3.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aqd {

// Fractional bits of a mean.
constexpr int kMeanBits = 8;

struct Size {
  int32_t height = 0;
  int32_t width = 0;
};

enum class Type : uint8_t { kU8, kI8, kI16, kI32 };

inline size_t bytes_of(Type type) {
  return type == Type::kI32 ? 4 : type == Type::kI16 ? 2 : 1;
}

inline bool same(const Size &a, const Size &b) {
  return a.height == b.height && a.width == b.width;
}

// The codes that a tensor may hold.
struct Grid {
  int32_t low = 0;
  int32_t high = 0;

  // The smallest of the contract's types that holds them.
  Type type() const {
    if (0 <= low && high <= UINT8_MAX) return Type::kU8;
    if (INT8_MIN <= low && high <= INT8_MAX) return Type::kI8;
    if (INT16_MIN <= low && high <= INT16_MAX) return Type::kI16;
    return Type::kI32;
  }
};

enum class Kind : uint8_t {
  kImage,
  kRegion,
  kConvolution,
  kMaxPool,
  kRequantize,
  kAdd,
  kMultiply,
  kMean,
  kLookup,
  kUpsample,
  kConcatenate,
  kSlice,
};

// The one rounding, of each channel or of all alike.
struct Multipliers {
  std::vector<int32_t> m;
  std::vector<int64_t> b;
  std::vector<uint8_t> s;
};

// What one vector load reads; reading two lines of a cache takes twice as long.
struct alignas(64) Line {
  int8_t bytes[64];
};

// Codes of weights.
struct Weights {
  std::string_view name;
  std::vector<int64_t> shape;  // out x in x kernel rows x kernel columns
  std::vector<int8_t> codes;   // kernel rows x kernel columns x in x out
  // Sum of magnitudes of each output channel.
  std::vector<int64_t> sums;
  // For vector instructions, in a format of theirs; 0 for none.
  int format = 0;
  std::vector<Line> packed;
  // Instead, of tables (conv_lut.cpp), and how many of them bytes sum at once.
  std::vector<uint16_t> offsets;
  std::vector<uint8_t> parts;
};

// How vector kernels read the input of a convolution.
struct Reading {
  bool as_words = false;  // in 16 bits, whatever the codes' type
  int raise = 0;          // what is added to each code
  int64_t steps = 0;      // of products whose sums fit 16 bits; 0 if unused
};

// How a convolution is made of products: one by one, by tables (conv_lut.h), or
// by fewer of them (winograd.h).
enum class Method : uint8_t { kProducts, kLookup, kWinograd };

// A max-pool that a convolution's sums go through; its height is 0 for none.
struct Pooling {
  Size kernel, stride, padding;
};

// One operator; the fields that its kind does not have are unused.
struct Op {
  Kind kind = Kind::kImage;
  std::vector<int> inputs;  // positions of the operators that made them
  int32_t channels = 0;
  Grid grid;
  // Windows; offset and step of a slice.
  Size kernel, stride, padding, dilation;
  int32_t first = 0;  // channel of a slice, code of a table
  int groups = 1;
  Weights *weights = nullptr;
  Multipliers multipliers;
  bool is_narrow = true;  // shifted numbers fit 32 bits before they are clamped
  std::vector<int32_t> table;  // of a lookup; means of an image and its readers
  // When it runs: at its own position, or at that of the operator that it
  // follows code by code (schedule.h).
  int head = 0;
  std::vector<int> followers;  // those that run at this one's position
  bool is_stored = true;       // whether an operator of another head reads it
  bool is_placed = true;       // false if it is written to what the caller gave
  int last_use = 0;            // the last head that reads it
  bool is_packed = false;      // whether vector kernels run it
  Pooling pooling;             // of a convolution (schedule.h)
  Method method = Method::kProducts;  // of a convolution that vectors run
  bool reads_pixels = false;   // a convolution of an image's bytes themselves
  Reading reading;
  std::vector<int32_t> start;   // what a convolution's sums start from
  std::vector<int64_t> packed;  // multipliers for vector instructions
  std::vector<int32_t> thresholds;  // instead of them, for a few codes
};

struct Program {
  std::vector<Weights> weights;
  std::vector<Op> ops;
  std::vector<int> outputs;  // positions
  std::vector<int> levels;   // how many of these each kind of output has
  int32_t stride = 1;
};

}  // namespace aqd
