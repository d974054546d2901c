// The operators of a program: docs/integer_contract.md, section 3.
//
// A new operator is a struct here, one of Params, the name of its kernel, and
// an entry of the table in ops.cpp.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <variant>
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

  bool holds(int64_t least, int64_t most) const {
    return low <= least && most <= high;
  }
  // The largest one of its codes.
  int64_t magnitude() const {
    return std::max(std::abs(int64_t{low}), std::abs(int64_t{high}));
  }

  // The smallest of the contract's types that holds them.
  Type type() const {
    if (0 <= low && high <= UINT8_MAX) return Type::kU8;
    if (INT8_MIN <= low && high <= INT8_MAX) return Type::kI8;
    if (INT16_MIN <= low && high <= INT16_MAX) return Type::kI16;
    return Type::kI32;
  }
};

inline bool same(const Grid &a, const Grid &b) {
  return a.low == b.low && a.high == b.high;
}

// Rounds a sum a to (a * m + b) >> s; of each channel, or one for all.
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

  int64_t count() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
};

struct Window {
  Size kernel, stride, padding, dilation;
};

inline bool same(const Window &a, const Window &b) {
  return same(a.kernel, b.kernel) && same(a.stride, b.stride) &&
         same(a.padding, b.padding) && same(a.dilation, b.dilation);
}

// What the file says of an operator of each kind, by the names of these kinds.

struct ImageOp {
  std::vector<int32_t> means;  // of the colours
};

struct RegionOp {};

struct Convolution {
  Window window;
  int groups = 1;
  Weights *weights = nullptr;
  std::vector<int32_t> zeros;  // zero points of the input's channels
  int64_t input_magnitude = 0;  // largest one of codes minus zero points

  // Largest magnitude of an accumulator of a channel.
  int64_t bound(size_t channel) const {
    return weights->sums[channel] * input_magnitude;
  }
};

struct MaxPool {
  Window window;
};

struct Requantize {
  Multipliers multipliers;
  bool fits_int32 = true;  // whether all numbers do before they are clamped
};

struct Add {};
struct Multiply {};
struct Mean {};

struct GroupNorm {
  int32_t groups = 1;
  int64_t epsilon = 1;  // of the variance, in 2^-16 of a code squared
};

// The rows of a program's tables, one behind the other. Each has a value for
// each code of an input; most are read by several lookups.
struct Tables {
  std::vector<int32_t> values;
  std::map<std::vector<int32_t>, int32_t> starts;  // of rows

  // Where a row begins, which is added if it is new.
  int32_t start_of(const std::vector<int32_t> &row);
};

struct Lookup {
  const int32_t *values = nullptr;  // of the program's tables
  std::vector<int32_t> starts;  // of each channel, the place of the code 0

  int32_t value(size_t channel, int32_t code) const {
    return values[code + starts[channel]];
  }
};

struct Upsample {};
struct Concatenate {};

struct Slice {
  int32_t first = 0;  // channel
  Size offset, step;
};

using Params = std::variant<ImageOp, RegionOp, Convolution, MaxPool, Requantize,
                            Add, Multiply, Mean, GroupNorm, Lookup, Upsample,
                            Concatenate, Slice>;

struct OpInfo;

// An operator as the file has it.
struct Op {
  std::string name;              // of what it makes, in the file
  const OpInfo *info = nullptr;  // null once it was removed
  std::vector<size_t> inputs;  // positions of the operators that make them
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

class Value;
class Reader;
struct Tensor;
class ThreadPool;

// What an operator is read from.
struct OpSource {
  Reader &reader;
  const Value &value;
  std::vector<const Op *> inputs;
  std::vector<Weights> &weights;
  Tables &tables;

  const Op &x() const { return *inputs[0]; }
  const Op &y() const { return *inputs[1]; }
};

// Computes the output of an operator for one image.
using RunOp = void(const Op &op, const Tensor *const *inputs,
                   const Tensor &output, ThreadPool *pool);

// Portable kernels of operators that can stand alone (kernels/reference.cpp).
RunOp run_image, run_region, run_max_pool, run_multiply, run_mean,
    run_group_norm, run_upsample, run_concatenate, run_slice;

// All that is known of a kind of operators.
struct OpInfo {
  const char *kind;  // in the file
  size_t inputs;     // how many; 0 for one or more
  bool keeps;        // whether the output has the channels of each input
  // Reads the keys of the kind, and proves that nothing overflows.
  Params (*read)(const OpSource &source, const Op &op);
  // Size of the output for sizes of the inputs; without pixels if the operator
  // does not take these.
  Size (*size)(const Op &op, const std::vector<Size> &inputs);
  // Runs it on an image; null for operators that are always fused
  // (kernels/fused_op.h).
  RunOp *run;
};

// The kind of a name; null if there is none.
const OpInfo *find_op(std::string_view kind);

// How many windows there are in an input.
Size windowed(const Window &window, Size input);

}  // namespace aqd
