// A program of integers as it is run: docs/integer_contract.md, section 3.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/packed.h"

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

// Rounding of a sum to a code, (a * m + b) >> s, for each channel or one for all.
struct Multipliers {
  std::vector<int32_t> m;
  std::vector<int64_t> b;
  std::vector<uint8_t> s;
};

struct Weights {
  std::string_view name;
  std::vector<int64_t> shape;  // out x in x kernel height x kernel width
  std::vector<int8_t> codes;   // kernel height x kernel width x in x out
  std::vector<int64_t> sums;   // of magnitudes, for each output channel
};

struct Window {
  Size kernel, stride, padding, dilation;
};

// What the file says of an operator of each kind, by the names of these kinds.

struct ImageOp {
  std::vector<int32_t> means;  // of the colours
};

struct RegionOp {};

struct Convolution {
  Window window;
  int groups = 1;
  Weights *weights = nullptr;
};

struct MaxPool {
  Window window;
};

struct Requantize {
  Multipliers multipliers;
  bool fits_int32 = true;  // whether all shifted sums do, before they are clamped
};

struct Add {};

struct Multiply {};

struct Mean {};

// A table with a value for each code of its input.
struct Lookup {
  int32_t first = 0;  // the code of the first value
  std::vector<int32_t> table;
};

struct Upsample {};

struct Concatenate {};

struct Slice {
  int32_t first = 0;  // channel
  Size offset, step;
};

using Params =
    std::variant<ImageOp, RegionOp, Convolution, MaxPool, Requantize, Add,
                 Multiply, Mean, Lookup, Upsample, Concatenate, Slice>;

// An operator as the file has it.
struct Op {
  std::vector<int> inputs;  // positions of the operators that make them
  int32_t channels = 0;
  Grid grid;
  Params params;

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(params);
  }
  // The parameters of an operator that is of this kind.
  template <typename T>
  const T &as() const {
    return *std::get_if<T>(&params);
  }
  template <typename T>
  T &as() {
    return *std::get_if<T>(&params);
  }
};

// A max-pool of the accumulators of a convolution, before they are rounded.
struct Pooling {
  Size kernel, stride, padding;  // the kernel's height is 0 for none
};

// An operator and how it is run.
struct Node {
  Op op;

  // What fusion adds (schedule.h). A node is the root of a fused operator, or
  // one of the post-ops of another root.
  int root = 0;               // position of its root, its own one for a root
  std::vector<int> post_ops;  // positions, of a root
  Pooling pooling;            // of a convolution
  bool is_stored = true;      // whether another fused operator reads it
  bool is_placed = true;      // false if it is written to the caller's memory
  int last_use = 0;           // position of the last root that reads it

  // What the instruction set prepares (kernels/isa.h).
  Packed packed;

  const Convolution &conv() const { return op.as<Convolution>(); }
};

struct Program {
  std::vector<Weights> weights;
  std::vector<Node> nodes;
  std::vector<int> outputs;  // positions
  std::vector<int> levels;   // how many of these each kind of output has
  int32_t stride = 1;
  PackedStorePtr packed;     // what kernels read of all nodes
};

}  // namespace aqd
