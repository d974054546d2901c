// A convolution with a window of 3 x 3 needs fewer products for a tile of
// outputs at once (Lavin and Gray, "Fast algorithms for convolutional neural
// networks", 2016): tiles of the input and windows of the weights become values
// of polynomials at a few points, which are multiplied point by point, and the
// products become outputs again. Four outputs in a row take the points 0, 1,
// -1, 2, -2 and infinity; three leave out -2, two leave out 2 as well.
//
// By windows, F(4 x 4) takes 144 products and this way 36; F(3 x 4) 108 and 30;
// F(2 x 4) 72 and 24. docs/engine.md says which is for which bits.
//
// All is exact. Weights are not divided by what interpolation divides them by;
// outputs are, once, in the end. Accumulators may wrap around 2^32 until then,
// since additions and multiplications do not mind. A division by 2^n * k, k
// odd, is a multiplication by the inverse of k and a shift, which leaves all
// but the upper n bits of what was divided, and outputs are proven to need no
// more.
//
// Weights of few bits are odd, 2v + 1. Then v is transformed, which takes a bit
// less, and an output is twice its result plus the sum of the codes in its
// window.
//
// Where a ByteMac has accumulators of 16 bits (AVX2), these wrap around 2^16 in
// the same way. Then outputs must fit 16 - n bits. K is cut into parts whose
// outputs do, and the outputs of the parts are summed.

#include "kernels/winograd.h"

#include <algorithm>
#include <cstring>

#include "graph/memory_plan.h"
#include "kernels/isa.h"
#include "kernels/tuning.h"

namespace aqd {
namespace {

constexpr int kMaxLanes = 16;

// The matrices of the transforms, for a row or column of so many outputs:
// weights are G g, inputs B^T d.
struct Transforms {
  int weights[kInputColumns][3];
  int inputs[kInputColumns][kInputColumns];
};

// Of two outputs, three and four.
constexpr Transforms kTransforms[] = {
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 1}},
     {{-1, 0, 1}, {0, 1, 1}, {0, -1, 1}, {0, -1, 0, 1}}},
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {0, 0, 1}},
     {{2, -1, -2, 1}, {0, -2, -1, 1}, {0, 2, -3, 1}, {0, -1, 0, 1},
      {0, 2, -1, -2, 1}}},
    {{{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}},
     {{4, 0, -5, 0, 1}, {0, -4, -4, 1, 1}, {0, 4, -4, -1, 1},
      {0, -2, -1, 2, 1}, {0, 2, -1, -2, 1}, {0, 4, 0, -5, 0, 1}}}};

const Transforms &of_rows(WinogradTile tile) {
  return kTransforms[tile.rows - 2];
}
const Transforms &of_columns() { return kTransforms[kTileColumns - 2]; }

// The fastest first.
constexpr WinogradTile kTiles[] = {{3, true}, {2, true}, {4, false}};

// What a sum of numbers of a range can be, each times a factor of its row and
// one of its column.
Grid range_of(const int *by_row, int rows, const int *by_column, int columns,
              const Grid &each) {
  Grid sum;
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      const int factor = by_row[y] * by_column[x];
      sum.low += factor * (factor < 0 ? each.high : each.low);
      sum.high += factor * (factor < 0 ? each.low : each.high);
    }
  }
  return sum;
}

Grid inputs_at(WinogradTile tile, int point, const Grid &codes) {
  return range_of(of_rows(tile).inputs[point / kInputColumns], tile.rows + 2,
                  of_columns().inputs[point % kInputColumns], kInputColumns,
                  codes);
}

// What a tile whose codes are all 1 is transformed to.
int ones_at(WinogradTile tile, int point) {
  return inputs_at(tile, point, {1, 1}).low;
}

Grid weights_at(WinogradTile tile, int point, const Grid &weights) {
  return range_of(of_rows(tile).weights[point / kInputColumns], 3,
                  of_columns().weights[point % kInputColumns], 3, weights);
}

// Whether no sum of two products of bytes is saturated to 16 bits.
bool pairs_fit(const PackedWinograd &layer, const Grid &x, const Grid &w) {
  const int most = 2 * (x.high - x.low) * std::max(-w.low, w.high);
  return !layer.is_short || most <= INT16_MAX;
}

// Whether transformed inputs and weights fit the operands of the MAC.
bool operands_fit(const PackedWinograd &layer, const Grid &weights) {
  const WinogradTile &tile = layer.tile;
  for (int point = 0; point < tile.points(); ++point) {
    const Grid x = inputs_at(tile, point, layer.codes);
    const Grid w = weights_at(tile, point, weights);
    const bool fit = tile.is_bytes
                         ? x.high - x.low <= UINT8_MAX && w.low >= INT8_MIN &&
                               w.high <= INT8_MAX && pairs_fit(layer, x, w)
                         : x.low >= INT16_MIN && x.high <= INT16_MAX &&
                               w.low >= INT16_MIN && w.high <= INT16_MAX;
    if (!fit) return false;
  }
  return true;
}

// The range of the outputs of all channels, if only some steps of K are summed.
// (Of v, where weights are 2v + 1.)
struct OutputRange {
  int64_t low = 0, high = 0;

  OutputRange(const PackedWinograd &layer, const Weights &weights,
              int64_t first_step, int64_t steps) {
    const int64_t outs = weights.shape[0], channels = weights.shape[1];
    const int64_t each = layer.tile.codes_per_step();
    const int64_t first = first_step * each;
    const int64_t count = std::min(steps * each, channels - first);
    // Sums of negative weights, of others, and of weights times zero points,
    // of each output channel.
    std::vector<int32_t> less(static_cast<size_t>(outs), 0), more = less;
    std::vector<int64_t> zeros(less.size(), 0);
    const int shift = layer.is_halved ? 1 : 0;
    for (int64_t i = 0; i < 9 * count; ++i) {
      const int64_t tap = i / count, channel = first + i % count;
      const int8_t *codes =
          weights.codes.data() + (tap * channels + channel) * outs;
      const int32_t zero = layer.zero_point(channel);
      for (size_t o = 0; o < less.size(); ++o) {
        const int32_t weight = codes[o] >> shift;
        less[o] += std::min(weight, 0);
        more[o] += std::max(weight, 0);
        zeros[o] += int64_t{weight} * zero;
      }
    }
    const int64_t lowest = layer.codes.low, highest = layer.codes.high;
    for (size_t o = 0; o < less.size(); ++o) {
      low = std::min(low, more[o] * lowest + less[o] * highest - zeros[o]);
      high = std::max(high, more[o] * highest + less[o] * lowest - zeros[o]);
    }
  }
};

// Whether outputs are whole without the upper bits that the division takes.
bool outputs_fit(const PackedWinograd &layer, const Weights &weights) {
  const OutputRange range(layer, weights, 0, layer.part_steps);
  const int64_t limit = int64_t{1} << (31 - layer.tile.shift());
  return range.low >= -limit && range.high < limit;
}

// Cuts K into as few parts as possible, whose outputs fit the bits that the
// division leaves of 16. False if parts would be too small to be fast.
bool cut_into_parts(const Weights &weights, PackedWinograd *layer) {
  const int64_t channels = weights.shape[1];
  const int64_t steps = layer->tile.k_steps(channels);
  const int64_t most = std::max<int64_t>(channels / kMinPartChannels, 1);
  for (int64_t parts = 1; parts <= most; ++parts) {
    layer->part_steps = (steps + parts - 1) / parts;
    int64_t low = 0, high = 0;
    for (int64_t i = 0; i < steps; i += layer->part_steps) {
      const OutputRange range(*layer, weights, i, layer->part_steps);
      low = std::min(low, range.low);
      high = std::max(high, range.high);
    }
    layer->part_low = static_cast<int>(low);
    if (high - low < int64_t{1} << (16 - layer->tile.shift())) return true;
  }
  return false;
}

// Numbers of some output channels for each point.
template <class T>
using AtPoints = T[kMaxPoints][kMaxLanes];

// Sums of three vectors of numbers, each times a factor.
void combine(const int *by, const int16_t *a, const int16_t *b,
             const int16_t *c, int16_t *sums) {
  const int16_t x = static_cast<int16_t>(by[0]);
  const int16_t y = static_cast<int16_t>(by[1]);
  const int16_t z = static_cast<int16_t>(by[2]);
  for (int lane = 0; lane < kMaxLanes; ++lane) {
    sums[lane] = static_cast<int16_t>(a[lane] * x + b[lane] * y + c[lane] * z);
  }
}

// Transforms the weights of some output channels for one input channel.
void transform_weights(const PackedWinograd &layer, const int8_t *codes,
                       int64_t tap_step, int64_t count,
                       AtPoints<int16_t> to) {
  int16_t taps[9][kMaxLanes] = {}, rows[3][kInputColumns][kMaxLanes];
  const int shift = layer.is_halved ? 1 : 0;
  for (int tap = 0; tap < 9; ++tap) {
    for (int64_t lane = 0; lane < count; ++lane) {
      const int code = codes[tap * tap_step + lane];
      taps[tap][lane] = static_cast<int16_t>(code >> shift);
    }
  }
  for (int64_t y = 0; y < 3; ++y) {
    for (int point = 0; point < kInputColumns; ++point) {
      combine(of_columns().weights[point], taps[3 * y], taps[3 * y + 1],
              taps[3 * y + 2], rows[y][point]);
    }
  }
  for (int point = 0; point < layer.tile.points(); ++point) {
    const int x = point % kInputColumns;
    combine(of_rows(layer.tile).weights[point / kInputColumns], rows[0][x],
            rows[1][x], rows[2][x], to[point]);
  }
}

// Packs transformed weights.
class WinogradPacker {
 public:
  WinogradPacker(const SimdShape &shape, const Weights &weights,
                 PackedWinograd *layer)
      : shape_(shape), weights_(weights), layer_(*layer),
        steps_(layer_.tile.k_steps(weights.shape[1])),
        parts_(layer_.parts(weights.shape[1])) {
    for (int point = 0; point < layer_.tile.points(); ++point) {
      shifts_[point] = static_cast<uint32_t>(
          layer_.zero_point_shift(point, shape.lowest_byte));
      ones_[point] = static_cast<uint32_t>(ones_at(layer_.tile, point));
    }
  }

  void pack() const {
    const int64_t vectors = vectors_of(weights_.shape[0], shape_.lanes);
    const int64_t bytes = 4 * int64_t{shape_.lanes};
    const int64_t each = layer_.tile.points() * (parts_ + steps_) * bytes;
    layer_.weights = lines_of(vectors * each);
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t first = v / shape_.nr * shape_.nr;
      const int64_t block = std::min<int64_t>(shape_.nr, vectors - first);
      int8_t *to = layer_.weights.data()->bytes + first * each +
                   (v - first) * bytes;
      for (int64_t part = 0; part < parts_; ++part) {
        pack_part(part, v * shape_.lanes, block * bytes, to);
      }
    }
  }

 private:
  // A part of K for a vector of output channels, whose steps are so many bytes
  // apart.
  void pack_part(int64_t part, int64_t first_out, int64_t step_bytes,
                 int8_t *to) const {
    const int64_t outs = weights_.shape[0], channels = weights_.shape[1];
    const int64_t count = std::min<int64_t>(shape_.lanes, outs - first_out);
    const WinogradTile &tile = layer_.tile;
    const int each = tile.codes_per_step();
    const uint32_t mask = tile.is_bytes ? UINT8_MAX : UINT16_MAX;
    const int64_t first = part * layer_.part_steps;
    const int64_t end = std::min(first + layer_.part_steps, steps_);
    AtPoints<uint32_t> acc_init = {};
    for (int64_t step = first; step < end; ++step) {
      AtPoints<uint32_t> packed = {};
      AtPoints<int16_t> transformed;
      for (int i = 0; i < each && step * each + i < channels; ++i) {
        const int8_t *codes =
            weights_.codes.data() + (step * each + i) * outs + first_out;
        transform_weights(layer_, codes, channels * outs, count, transformed);
        const uint32_t zero =
            static_cast<uint32_t>(layer_.zero_point(step * each + i));
        for (int point = 0; point < tile.points(); ++point) {
          const uint32_t excess = shifts_[point] + zero * ones_[point];
          for (int lane = 0; lane < kMaxLanes; ++lane) {
            const uint32_t w = static_cast<uint32_t>(transformed[point][lane]);
            acc_init[point][lane] -= excess * w;
            packed[point][lane] |= (w & mask) << 32 / each * i;
          }
        }
      }
      put(packed, part + 1 + step, step_bytes, to);
    }
    // Of two short accumulators in a lane, one starts at 0.
    for (auto &at_point : acc_init) {
      for (uint32_t &init : at_point) {
        if (layer_.is_short) init &= UINT16_MAX;
      }
    }
    put(acc_init, part + first, step_bytes, to);
  }

  // Puts numbers at a step of all points.
  void put(const AtPoints<uint32_t> &numbers, int64_t step, int64_t step_bytes,
           int8_t *to) const {
    for (int point = 0; point < layer_.tile.points(); ++point) {
      std::memcpy(to + (point * (parts_ + steps_) + step) * step_bytes,
                  numbers[point], 4 * static_cast<size_t>(shape_.lanes));
    }
  }

  const SimdShape &shape_;
  const Weights &weights_;
  PackedWinograd &layer_;
  const int64_t steps_, parts_;
  uint32_t shifts_[kMaxPoints], ones_[kMaxPoints];
};

// The fastest tile that is exact, without weights.
PackedWinograd exact_layer(const SimdShape &shape, const Grid &codes,
                           const std::vector<int32_t> &zero_points,
                           const Weights &weights) {
  Grid range = {weights.codes[0], weights.codes[0]};
  int odd = 1;
  for (const int code : weights.codes) {
    range = {std::min(range.low, code), std::max(range.high, code)};
    odd &= code;
  }
  for (const WinogradTile &tile : kTiles) {
    PackedWinograd layer;
    layer.tile = tile;
    layer.is_halved = tile.is_bytes && odd != 0;
    layer.is_short = tile.is_bytes && shape.short_bytes;
    layer.codes = codes;
    layer.zero_points = zero_points;
    layer.part_steps = tile.k_steps(weights.shape[1]);
    const int shift = layer.is_halved ? 1 : 0;
    const bool has_mac =
        tile.is_bytes ? shape.winograd_bytes : shape.winograd_words;
    const size_t most_weights =
        layer.is_short ? kShortWinogradMaxWeights : kWinogradMaxWeights;
    // Short accumulators have a kernel for halved weights alone.
    if (has_mac && weights.codes.size() < most_weights &&
        (layer.is_halved || !layer.is_short) &&
        operands_fit(layer, {range.low >> shift, range.high >> shift}) &&
        (layer.is_short ? cut_into_parts(weights, &layer)
                        : outputs_fit(layer, weights))) {
      return layer;
    }
  }
  return {};
}

}  // namespace

int PackedWinograd::zero_point_shift(int point, int lowest_byte) const {
  if (!tile.is_bytes) return 0;
  return lowest_byte - inputs_at(tile, point, codes).low;
}

bool has_winograd_window(const Op &op, const Grid &codes) {
  const auto is = [](const Size &size, int length) {
    return size.height == length && size.width == length;
  };
  const Convolution &conv = op.as<Convolution>();
  const Type type = codes.type();
  return is(conv.window.kernel, 3) && is(conv.window.stride, 1) &&
         is(conv.window.dilation, 1) && conv.groups == 1 &&
         (type == Type::kU8 || type == Type::kI8) &&
         conv.weights->shape[1] >= kWinogradMinChannels;
}

Grid with_zero(const Grid &codes) {
  return {std::min(codes.low, 0), std::max(codes.high, 0)};
}

PackedWinograd pack_winograd(const SimdShape &shape, const Grid &codes,
                             const std::vector<int32_t> &zero_points,
                             const Weights &weights) {
  PackedWinograd layer = exact_layer(shape, codes, zero_points, weights);
  if (layer.tile.rows != 0) WinogradPacker(shape, weights, &layer).pack();
  return layer;
}

WinogradScratch::WinogradScratch(const SimdShape &shape,
                                 const PackedWinograd &packed, int64_t channels,
                                 uint8_t *memory)
    : inputs(memory) {
  const int64_t values = packed.tile.points() * kWinogradTiles;
  input_bytes = values * packed.tile.point_bytes(channels);
  // An odd vector of short accumulators takes as much as two.
  const int64_t vectors = packed.is_short ? (shape.nr + 1) / 2 : shape.nr;
  acc_bytes = packed.parts(channels) * values * vectors * shape.lanes * 4;
  sum_bytes = kWinogradTiles * kMaxTileRows * kTileColumns * 4;
  border_bytes = whole_lines(channels) + kSlack;
}

std::vector<WinogradShare> winograd_shares(int64_t tiles, int64_t blocks,
                                           int threads) {
  std::vector<WinogradShare> shares;
  if (tiles <= kWinogradTiles) {
    const int64_t parts = std::min<int64_t>(threads, blocks);
    for (int64_t i = 0; i < parts; ++i) {
      shares.push_back(
          {0, tiles, blocks * i / parts, blocks * (i + 1) / parts});
    }
    return shares;
  }
  // As many for each thread.
  const int64_t least = (tiles + kWinogradTiles - 1) / kWinogradTiles;
  const int64_t parts = (least + threads - 1) / threads * threads;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t first = tiles * i / parts;
    shares.push_back({first, tiles * (i + 1) / parts - first, 0, blocks});
  }
  return shares;
}

}  // namespace aqd
