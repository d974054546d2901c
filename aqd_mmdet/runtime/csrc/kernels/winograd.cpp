// A convolution with a window of 3x3 needs fewer products for a tile of outputs
// at once (Lavin and Gray, "Fast algorithms for convolutional neural networks",
// 2016): tiles of codes and windows of weights become values of polynomials at a
// few points, which are multiplied point by point, and the products become
// outputs again. Four outputs in a row take the points 0, 1, -1, 2, -2 and
// infinity; three leave out -2, two leave out 2 as well.
//
//   tile    products   for as many by windows
//   3 x 4      30          108    2 bits: all values fit bytes
//   2 x 4      24           72    3 bits
//   4 x 4      36          144    8 bits: they fit 16 bits, whose products are
//                                 half as many to an instruction
//
// All is exact. Weights are not divided by what interpolation divides them by:
// outputs are, in the end, once for all. Sums may wrap around 2^32 until then,
// since additions and multiplications do not mind; a division by 2^n * k, k odd,
// is a multiplication by the inverse of k and a shift, which leaves all but the
// upper n bits of what was divided, and outputs are proven to need no more.
//
// Weights of few bits are odd, 2v + 1; then values of the v are multiplied, which
// take a bit less, and an output is twice their sum and the sum of its codes.

#include "kernels/winograd.h"

#include <algorithm>
#include <cstring>

namespace aqd {
namespace {

constexpr int kFormat = 1 << 8;  // of weights, beside those of other kernels
constexpr int kMostLanes = 16;
// Values of so many weights at points, 3 or 8 bytes of each, are too much to read
// for the small maps of such layers (512 channels of a ResNet).
constexpr size_t kMany = 1 << 21;

// How values of weights and codes come about for a row of so many outputs.
struct Points {
  int weights[kTileWide][3];
  int codes[kTileWide][kTileWide];
};

// Of two outputs, three and four.
constexpr Points kPoints[] = {
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 1}},
     {{-1, 0, 1}, {0, 1, 1}, {0, -1, 1}, {0, -1, 0, 1}}},
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {0, 0, 1}},
     {{2, -1, -2, 1}, {0, -2, -1, 1}, {0, 2, -3, 1}, {0, -1, 0, 1},
      {0, 2, -1, -2, 1}}},
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}},
     {{4, 0, -5, 0, 1}, {0, -4, -4, 1, 1}, {0, 4, -4, -1, 1},
      {0, -2, -1, 2, 1}, {0, 2, -1, -2, 1}, {0, 4, 0, -5, 0, 1}}}};

const Points &down(Form form) { return kPoints[form.rows - 2]; }
const Points &across() { return kPoints[kTileColumns - 2]; }

// The best first.
constexpr Form kForms[] = {{3, true}, {2, true}, {4, false}};

// What numbers of a range amount to, each times a factor for rows and columns.
Range range_of(const int *down, int rows, const int *across, int columns,
               Range each) {
  Range sum = {0, 0};
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      const int factor = down[y] * across[x];
      sum.low += factor * (factor < 0 ? each.high : each.low);
      sum.high += factor * (factor < 0 ? each.low : each.high);
    }
  }
  return sum;
}

Range codes_at(Form form, int point, Range codes) {
  return range_of(down(form).codes[point / kTileWide], form.rows + 2,
                  across().codes[point % kTileWide], kTileWide, codes);
}

// Weights of other layers are other numbers; 0 is for none.
int format_of(const Layer &layer) {
  const int codes = static_cast<int>(layer.codes.high * 256 - layer.codes.low);
  return kFormat * (1 + codes) + 4 * layer.form.rows +
         (layer.form.bytes ? 2 : 0) + (layer.is_halved ? 1 : 0);
}

bool fits(const Layer &layer, Range weights) {
  const Form &form = layer.form;
  for (int point = 0; point < form.points(); ++point) {
    const Range x = codes_at(form, point, layer.codes);
    const Range w = range_of(down(form).weights[point / kTileWide], 3,
                             across().weights[point % kTileWide], 3, weights);
    const bool right =
        form.bytes ? x.high - x.low <= UINT8_MAX && w.low >= INT8_MIN &&
                         w.high <= INT8_MAX
                   : x.low >= INT16_MIN && x.high <= INT16_MAX &&
                         w.low >= INT16_MIN && w.high <= INT16_MAX;
    if (!right) return false;
  }
  return true;
}

// Whether outputs are whole without the upper bits that a division takes.
bool is_exact(const Layer &layer, const Weights &weights) {
  const size_t outs = weights.sums.size();
  std::vector<int64_t> least(outs, 0), most(outs, 0);
  const int low = static_cast<int>(layer.codes.low);
  const int high = static_cast<int>(layer.codes.high);
  const int shift = layer.is_halved ? 1 : 0;
  for (size_t i = 0; i < weights.codes.size(); i += outs) {
    for (size_t o = 0; o < outs; ++o) {
      const int value = weights.codes[i + o] >> shift;
      least[o] += std::min(value * low, value * high);
      most[o] += std::max(value * low, value * high);
    }
  }
  const int64_t limit = int64_t{1} << (31 - layer.form.shift());
  return *std::min_element(least.begin(), least.end()) >= -limit &&
         *std::max_element(most.begin(), most.end()) < limit;
}

// How codes are multiplied by weights; there are no rows if they fit no form.
Layer layer_of(const ValueTypes &types, Range codes, const Weights &weights) {
  const std::vector<int8_t> &all = weights.codes;
  int low = all[0], high = all[0], odd = 1;
  for (const int code : all) {
    low = std::min(low, code);
    high = std::max(high, code);
    odd &= code;
  }
  for (const Form &form : kForms) {
    const Layer layer = {form, form.bytes && odd != 0, codes};
    const int shift = layer.is_halved ? 1 : 0;
    const bool can_multiply = form.bytes ? types.bytes : types.words;
    if (can_multiply && fits(layer, {low >> shift, high >> shift}) &&
        is_exact(layer, weights)) {
      return layer;
    }
  }
  return {{0, false}, false, codes};
}

// Some numbers for each point.
template <class T>
using AtPoints = T[kMostPoints][kMostLanes];

// Values of the weights of some output channels for one input channel.
void values_of(const Layer &layer, const int8_t *codes, int64_t next_tap,
               int64_t count, AtPoints<int16_t> to) {
  int16_t taps[9][kMostLanes] = {}, rows[3][kTileWide][kMostLanes];
  const auto weigh = [](const int *by, const int16_t *a, const int16_t *b,
                        const int16_t *c, int16_t *sums) {
    const int16_t x = static_cast<int16_t>(by[0]);
    const int16_t y = static_cast<int16_t>(by[1]);
    const int16_t z = static_cast<int16_t>(by[2]);
    for (int lane = 0; lane < kMostLanes; ++lane) {
      sums[lane] = static_cast<int16_t>(a[lane] * x + b[lane] * y + c[lane] * z);
    }
  };
  for (int tap = 0; tap < 9; ++tap) {
    for (int64_t lane = 0; lane < count; ++lane) {
      const int8_t code = codes[tap * next_tap + lane];
      taps[tap][lane] =
          static_cast<int16_t>(layer.is_halved ? code >> 1 : code);
    }
  }
  for (int y = 0; y < 3; ++y) {
    for (int point = 0; point < kTileWide; ++point) {
      weigh(across().weights[point], taps[3 * y], taps[3 * y + 1],
            taps[3 * y + 2], rows[y][point]);
    }
  }
  for (int point = 0; point < layer.form.points(); ++point) {
    const int x = point % kTileWide;
    weigh(down(layer.form).weights[point / kTileWide], rows[0][x], rows[1][x],
          rows[2][x], to[point]);
  }
}

// A vector of output channels of weights.
struct Column {
  const int8_t *codes;
  int64_t channels, outs, count;
  int8_t *to;
  int64_t next;  // bytes from an instruction's weights to the next's
  size_t bytes;  // of them
};

// Packs values of weights: at each point what sums start from, then
// instructions.
void pack(const Layer &layer, int lowest, const Column &column) {
  const Form &form = layer.form;
  const int points = form.points(), together = form.together();
  const int bits = 32 / together;
  const uint32_t mask = form.bytes ? UINT8_MAX : UINT16_MAX;
  const int64_t channels = column.channels;
  const int64_t steps = steps_of(form, channels);
  uint32_t raises[kMostPoints];
  AtPoints<uint32_t> start = {};
  for (int point = 0; point < points; ++point) {
    raises[point] = static_cast<uint32_t>(layer.raise(point, lowest));
  }
  const auto put = [&](int64_t step, const AtPoints<uint32_t> &numbers) {
    for (int point = 0; point < points; ++point) {
      std::memcpy(column.to + (point * (1 + steps) + step) * column.next,
                  numbers[point], column.bytes);
    }
  };
  for (int64_t step = 0; step < steps; ++step) {
    AtPoints<uint32_t> packed = {};
    AtPoints<int16_t> values;
    for (int i = 0; i < together && step * together + i < channels; ++i) {
      values_of(layer, column.codes + (step * together + i) * column.outs,
                channels * column.outs, column.count, values);
      for (int point = 0; point < points; ++point) {
        for (int lane = 0; lane < kMostLanes; ++lane) {
          const uint32_t value = static_cast<uint32_t>(values[point][lane]);
          start[point][lane] -= raises[point] * value;
          packed[point][lane] |= (value & mask) << bits * i;
        }
      }
    }
    put(1 + step, packed);
  }
  put(0, start);
}

// Weights: block of vectors, point, what sums start from and instructions,
// vector, lane.
void pack(const Vectors &set, const Layer &layer, int64_t channels,
          int64_t outs, Weights *weights) {
  const int64_t vectors = vectors_of(outs, set.lanes);
  const int64_t bytes = 4 * set.lanes;
  const int64_t each =
      layer.form.points() * (1 + steps_of(layer.form, channels)) * bytes;
  weights->packed.lines.resize(
      static_cast<size_t>(whole_lines(vectors * each)) / sizeof(Line));
  int8_t *to = weights->packed.lines.data()->bytes;
  for (int64_t v = 0; v < vectors; ++v) {
    const int64_t first = v / set.together * set.together;
    const int64_t wide = std::min<int64_t>(set.together, vectors - first);
    pack(layer, set.lowest,
         {weights->codes.data() + v * set.lanes, channels, outs,
          std::min<int64_t>(set.lanes, outs - v * set.lanes),
          to + first * each + (v - first) * bytes, wide * bytes,
          static_cast<size_t>(bytes)});
  }
}

// Bytes of what a thread works with.
int64_t values_bytes(Form form, int64_t channels) {
  return form.points() * kMostTiles * length_of(form, channels);
}

int64_t sums_bytes(const Vectors &set, Form form) {
  return form.points() * kMostTiles * set.together * set.lanes * 4;
}

constexpr int64_t kBoxesBytes = kMostTiles * kMostTileRows * kTileColumns * 4;

}  // namespace

int Layer::raise(int point, int lowest) const {
  if (!form.bytes) return 0;
  return lowest - static_cast<int>(codes_at(form, point, codes).low);
}

Layer layer_of(const Node &node) {
  const int64_t codes = node.conv().weights->packed.format / kFormat - 1;
  const int form = node.conv().weights->packed.format % kFormat;
  return {{form / 4, (form & 2) != 0},
          (form & 1) != 0,
          {-(codes % 256), codes / 256}};
}

bool prepare_winograd(const Vectors &set, const ValueTypes &types, Node *node,
                      const Node &x) {
  const auto is = [](const Size &size, int length) {
    return size.height == length && size.width == length;
  };
  const Type type = x.op.grid.type();
  Weights *weights = node->conv().weights;
  if (!is(node->conv().window.kernel, 3) || !is(node->conv().window.stride, 1) || !is(node->conv().window.dilation, 1) ||
      node->conv().groups != 1 || node->packed.reads_pixels || node->pooling.kernel.height != 0 ||
      (type != Type::kU8 && type != Type::kI8) ||
      weights->codes.size() >= kMany) {
    return false;
  }
  const Range codes = {std::min(x.op.grid.low, 0), std::max(x.op.grid.high, 0)};
  if (weights->packed.format == 0) {
    const Layer layer = layer_of(types, codes, *weights);
    if (layer.form.rows == 0) return false;
    weights->packed.format = format_of(layer);
    pack(set, layer, x.op.channels, node->op.channels, weights);
  }
  if (weights->packed.format < kFormat) return false;
  const Range packed = layer_of(*node).codes;
  if (packed.low != codes.low || packed.high != codes.high) return false;
  node->packed.method = Method::kWinograd;
  return true;
}

TileWork tile_work(const Vectors &set, const Node &node, int64_t channels,
                   uint8_t *scratch) {
  const Form form = layer_of(node).form;
  TileWork work;
  work.values = scratch;
  scratch += values_bytes(form, channels);
  work.sums = reinterpret_cast<int32_t *>(scratch);
  scratch += sums_bytes(set, form);
  work.boxes = reinterpret_cast<int32_t *>(scratch);
  work.zeros = scratch + kBoxesBytes;
  return work;
}

int64_t scratch_of_winograd(const Vectors &set, const Node &node,
                            int64_t channels) {
  const Form form = layer_of(node).form;
  return values_bytes(form, channels) + sums_bytes(set, form) + kBoxesBytes +
         whole_lines(channels) + kSlack;
}

int64_t steps_of(Form form, int64_t channels) {
  return (channels + form.together() - 1) / form.together();
}

int64_t length_of(Form form, int64_t channels) {
  return whole_lines(channels * (form.bytes ? 1 : 2));
}

std::vector<TileShare> shares_of(int64_t tiles, int64_t blocks, int threads) {
  std::vector<TileShare> shares;
  if (tiles <= kMostTiles) {
    const int64_t parts = std::min<int64_t>(threads, blocks);
    for (int64_t i = 0; i < parts; ++i) {
      shares.push_back(
          {0, tiles, blocks * i / parts, blocks * (i + 1) / parts});
    }
    return shares;
  }
  // As many for each thread.
  const int64_t least = (tiles + kMostTiles - 1) / kMostTiles;
  const int64_t parts = (least + threads - 1) / threads * threads;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t first = tiles * i / parts;
    shares.push_back({first, tiles * (i + 1) / parts - first, 0, blocks});
  }
  return shares;
}

}  // namespace aqd
