// What is known of each kind of operators: how it is read and proven, and how
// large its output is.

#include "graph/ops.h"

#include <algorithm>
#include <cstdlib>

#include "format/reader.h"

namespace aqd {
namespace {

// Expects that the output holds all codes of a range.
void expect_holds(const OpSource &from, const Op &op, const Limits &codes,
                  const char *whose = "") {
  from.reader.expect(op.grid.holds(codes.least, codes.most), op.grid,
                     "a range that holds the codes %%", codes, whose);
}

void expect_holds_input(const OpSource &from, const Op &op) {
  const Grid &grid = from.x().grid;
  expect_holds(from, op, {grid.low, grid.high}, " of its input");
}

// Expects that an input has no codes beyond a magnitude.
void expect_small(const OpSource &from, const Op &input, int64_t limit) {
  from.reader.expect(input.grid.magnitude() <= limit, input.grid,
                     "an input with codes in %..%", -limit, limit);
}

void expect_channels(const OpSource &from, const Op &op, int64_t expected,
                     const char *whose) {
  from.reader.expect(op.channels == expected, op.channels,
                     "the % channels of %", expected, whose);
}

Window read_window(const Value &op) {
  return {op["kernel"].pair(kWindowKernel), op["stride"].pair(kWindowStride),
          op["padding"].pair(kWindowPadding),
          op["dilation"].pair(kWindowDilation)};
}

template <typename T>
Size size_of_windows(const Op &op, const std::vector<Size> &inputs) {
  return windowed(op.as<T>().window, inputs[0]);
}

// The size that all inputs have.
Size size_of_x(const Op &, const std::vector<Size> &inputs) {
  for (const Size &each : inputs) {
    if (!same(each, inputs[0])) return {};
  }
  return inputs[0];
}

Params read_image(const OpSource &from, const Op &op) {
  ImageOp image;
  image.means = from.value["mean"].numbers<int32_t>(kImageMean);
  const int64_t count = static_cast<int64_t>(image.means.size());
  from.reader.expect(count == op.channels, count,
                     "a mean of each of % channels", op.channels);
  expect_holds(from, op, {-255, 255});
  return image;
}

Params read_region(const OpSource &, const Op &) { return RegionOp(); }

void read_weights_of(const OpSource &from, const Op &op, Convolution *conv) {
  Reader &reader = from.reader;
  const Op &x = from.x();
  const std::string_view name = from.value["weights"].string();
  for (Weights &each : from.weights) {
    if (each.name == name) conv->weights = &each;
  }
  if (!reader.expect(conv->weights != nullptr, quoted(name),
                     "weights of the program")) {
    return;
  }
  const int groups = conv->groups;
  reader.expect(x.channels % groups == 0 && op.channels % groups == 0, groups,
                "groups that divide the channels % and %", x.channels,
                op.channels);
  const Size &kernel = conv->window.kernel;
  const std::vector<int64_t> shape = {op.channels, x.channels / groups,
                                      kernel.height, kernel.width};
  reader.expect(conv->weights->shape == shape, conv->weights->shape,
                "weights of %", shape);
}

// Numbers of each channel, or one for all. Files of version 3 have zeros there.
std::vector<int32_t> read_of_channels(const OpSource &from, const char *key,
                                      int32_t channels, const Limits &limits) {
  const size_t count = static_cast<size_t>(channels);
  if (from.reader.version() == 3) return std::vector<int32_t>(count, 0);
  const Value value = from.value[key];
  auto numbers = value.numbers<int32_t>(limits);
  if (!value.expect(numbers.size() == 1 || numbers.size() == count,
                    numbers.size(), "a number for each of % channels, or one",
                    channels)) {
    return {};
  }
  numbers.resize(count, numbers[0]);
  return numbers;
}

Params read_convolution(const OpSource &from, const Op &op) {
  Reader &reader = from.reader;
  const Grid &x = from.x().grid;
  Convolution conv;
  conv.window = read_window(from.value);
  conv.groups = from.value["groups"].int32({1, from.x().channels});
  read_weights_of(from, op, &conv);
  reader.expect(op.grid.low == -kInt32 && op.grid.high == kInt32, op.grid,
                "the range %..%", -kInt32, kInt32);
  conv.zeros = read_of_channels(from, "zero", from.x().channels,
                                {x.low, x.high});
  reader.expect(reader.version() > 3 || x.holds(0, 0), x,
                "an input whose range holds 0");
  // So that a product with a weight fits 24 bits.
  expect_small(from, from.x(), 1 << 15);
  if (!reader.ok()) return {};
  int32_t largest_zero = 0;
  for (const int32_t zero : conv.zeros) {
    largest_zero = std::max(largest_zero, std::abs(zero));
  }
  conv.input_magnitude = x.magnitude() + largest_zero;
  const std::vector<int64_t> &sums = conv.weights->sums;
  const int64_t largest =
      *std::max_element(sums.begin(), sums.end()) * conv.input_magnitude;
  reader.expect(largest <= kInt32, "values up to " + text(largest),
                "accumulators that fit 31 bits");
  return conv;
}

Params read_max_pool(const OpSource &from, const Op &op) {
  const Window w = read_window(from.value);
  const auto sees = [&](int32_t Size::*side) {
    return 2 * w.padding.*side <= w.dilation.*side * (w.kernel.*side - 1) + 1;
  };
  from.reader.expect(sees(&Size::height) && sees(&Size::width), w.padding,
                     "a padding of at most half the window");
  expect_holds_input(from, op);
  return MaxPool{w};
}

// Whether (a * m + b) >> s fits 32 bits for all |a * m + b| <= most.
//
// Vector kernels shift numbers of 64 bits, keep the lower 32 of each and clamp
// these as signed ones, which is right from -2^31 to 2^31 - 1. The highest is
// most >> s. Where it fits, most is less than 2^(31 + s), and the lowest, which
// is -most / 2^s rounded down, is not below -2^31.
bool fits_int32(int64_t most, int shift) { return most >> shift <= INT32_MAX; }

Params read_requantize(const OpSource &from, const Op &op) {
  const Op &x = from.x();
  Requantize made;
  const Multipliers &table = made.multipliers =
      from.value["multipliers"].multipliers(op.channels, kAll<int64_t>);
  if (!from.reader.ok()) return {};
  for (size_t c = 0; c < static_cast<size_t>(op.channels); ++c) {
    const size_t k = table.m.size() > 1 ? c : 0;
    const int64_t largest = x.is<Convolution>() ? x.as<Convolution>().bound(c)
                                                : x.grid.magnitude();
    const int64_t product = largest * std::abs(int64_t{table.m[k]});
    const int64_t b = table.b[k];
    const bool fits = b != INT64_MIN && std::abs(b) <= INT64_MAX - product;
    if (!from.reader.expect(fits, "more in channel " + text(c),
                            "products plus biases that fit 63 bits")) {
      return {};
    }
    if (!fits_int32(product + std::abs(b), table.s[k])) made.fits_int32 = false;
  }
  return made;
}

// The sum fits int32 before it is clamped.
Params read_add(const OpSource &from, const Op &op) {
  constexpr int64_t kMaxTerm = (1 << 30) - 1;
  for (const Op *input : from.inputs) expect_small(from, *input, kMaxTerm);
  return Add();
}

Params read_multiply(const OpSource &from, const Op &op) {
  const int64_t low = from.x().grid.low, high = from.x().grid.high;
  const Grid &y = from.y().grid;
  const auto [least, most] = std::minmax(
      {low * y.low, low * y.high, high * y.low, high * y.high});
  expect_holds(from, op, {least, most});
  return Multiply();
}

// The second input may have one code a channel, a gate.
Size size_of_multiply(const Op &, const std::vector<Size> &inputs) {
  const bool is_gate = same(inputs[1], {1, 1});
  return is_gate || same(inputs[0], inputs[1]) ? inputs[0] : Size{};
}

Params read_mean(const OpSource &from, const Op &op) {
  const Grid &x = from.x().grid;
  constexpr int64_t kUnit = 1 << kMeanBits;
  // So that the sum of a map of 2^32 pixels fits 63 bits.
  expect_small(from, from.x(), 1 << 15);
  expect_holds(from, op, {x.low * kUnit, x.high * kUnit});
  return Mean();
}

Size size_of_mean(const Op &, const std::vector<Size> &) { return {1, 1}; }

Params read_group_norm(const OpSource &from, const Op &op) {
  constexpr Limits kEpsilon = {1, int64_t{1} << 48};
  GroupNorm norm;
  norm.groups = from.value["groups"].int32({1, op.channels});
  norm.epsilon = from.value["epsilon"].integer(kEpsilon);
  from.reader.expect(op.channels % norm.groups == 0, norm.groups,
                     "groups that divide the channels %", op.channels);
  expect_small(from, from.x(), 1 << 15);
  return norm;
}

// Of larger groups the sum of squares does not fit 63 bits.
Size size_of_group_norm(const Op &op, const std::vector<Size> &inputs) {
  const int64_t channels = op.channels / op.as<GroupNorm>().groups;
  const int64_t count = channels * inputs[0].height * inputs[0].width;
  return count <= int64_t{1} << 32 ? inputs[0] : Size{};
}

Params read_lookup(const OpSource &from, const Op &op) {
  const Grid &x = from.x().grid;
  std::vector<int32_t> codes;
  const Value table = from.value["table"];
  const bool is_list = from.reader.version() > 4;
  for (const Value &part : is_list ? table.items() : std::vector{table}) {
    const auto some = part.integers(kAll<int32_t>);
    codes.insert(codes.end(), some.begin(), some.end());
  }
  from.value["first"].int32({x.low, x.low});
  Lookup lookup;
  lookup.starts = read_of_channels(from, "rows", op.channels, kLookupRows);
  if (!from.reader.ok()) return {};
  const int64_t each = int64_t{x.high} - x.low + 1;
  const int64_t rows =
      *std::max_element(lookup.starts.begin(), lookup.starts.end()) + 1;
  const int64_t count = static_cast<int64_t>(codes.size());
  const int64_t all =
      count + static_cast<int64_t>(from.tables.values.size());
  if (!from.reader.expect(count == rows * each && all <= kInt32,
                          text(count) + " values",
                          "% x a value for each of the codes %", rows, x)) {
    return {};
  }
  std::vector<int32_t> starts;
  for (auto at = codes.begin(); at != codes.end(); at += each) {
    starts.push_back(from.tables.start_of({at, at + each}) - x.low);
  }
  for (int32_t &row : lookup.starts) row = starts[static_cast<size_t>(row)];
  const auto [least, most] = std::minmax_element(codes.begin(), codes.end());
  expect_holds(from, op, {*least, *most});
  return lookup;
}

Params read_upsample(const OpSource &from, const Op &op) {
  expect_channels(from, op, from.x().channels, "its input");
  expect_holds_input(from, op);
  return Upsample();
}

Size size_of_upsample(const Op &, const std::vector<Size> &inputs) {
  return inputs[1];
}

Params read_concatenate(const OpSource &from, const Op &op) {
  int64_t channels = 0;
  for (const Op *input : from.inputs) {
    channels += input->channels;
    expect_holds(from, op, {input->grid.low, input->grid.high});
  }
  expect_channels(from, op, channels, "its inputs");
  return Concatenate();
}

Params read_slice(const OpSource &from, const Op &op) {
  Slice slice;
  const int64_t rest = int64_t{from.x().channels} - op.channels;
  slice.first = from.value["first"].int32({0, rest});
  slice.offset = from.value["offset"].pair(kSliceOffset);
  slice.step = from.value["step"].pair(kSliceStep);
  expect_holds_input(from, op);
  return slice;
}

Size size_of_slice(const Op &op, const std::vector<Size> &inputs) {
  const Slice &by = op.as<Slice>();
  const auto sliced = [&](int32_t Size::*side) {
    const int32_t rest = std::max(inputs[0].*side - by.offset.*side, 0);
    return (rest + by.step.*side - 1) / by.step.*side;
  };
  return {sliced(&Size::height), sliced(&Size::width)};
}

constexpr OpInfo kOps[] = {
    {"Image", 1, false, read_image, size_of_x, run_image},
    {"Region", 1, false, read_region, size_of_x, run_region},
    {"Convolution", 1, false, read_convolution, size_of_windows<Convolution>,
     nullptr},
    {"MaxPool", 1, true, read_max_pool, size_of_windows<MaxPool>, run_max_pool},
    {"Requantize", 1, true, read_requantize, size_of_x, nullptr},
    {"Add", 2, true, read_add, size_of_x, nullptr},
    {"Multiply", 2, true, read_multiply, size_of_multiply, run_multiply},
    {"Mean", 1, true, read_mean, size_of_mean, run_mean},
    {"GroupNorm", 1, true, read_group_norm, size_of_group_norm, run_group_norm},
    {"Lookup", 1, true, read_lookup, size_of_x, nullptr},
    {"Upsample", 2, false, read_upsample, size_of_upsample, run_upsample},
    {"Concatenate", 0, false, read_concatenate, size_of_x, run_concatenate},
    {"Slice", 1, false, read_slice, size_of_slice, run_slice},
};

}  // namespace

int32_t Tables::start_of(const std::vector<int32_t> &row) {
  const int32_t end = static_cast<int32_t>(values.size());
  const auto [at, is_new] = starts.emplace(row, end);
  if (is_new) values.insert(values.end(), row.begin(), row.end());
  return at->second;
}

const OpInfo *find_op(std::string_view kind) {
  for (const OpInfo &each : kOps) {
    if (kind == each.kind) return &each;
  }
  return nullptr;
}

Size windowed(const Window &window, Size input) {
  const auto count = [&](int32_t Size::*side) {
    const int32_t reach = window.dilation.*side * (window.kernel.*side - 1) + 1;
    const int32_t rest = input.*side + 2 * window.padding.*side - reach;
    return rest < 0 ? 0 : rest / window.stride.*side + 1;
  };
  return {count(&Size::height), count(&Size::width)};
}

}  // namespace aqd
