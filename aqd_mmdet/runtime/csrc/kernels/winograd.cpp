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

Grid weights_at(WinogradTile tile, int point, const Grid &weights) {
  return range_of(of_rows(tile).weights[point / kInputColumns], 3,
                  of_columns().weights[point % kInputColumns], 3, weights);
}

// Whether transformed inputs and weights fit the operands of the MAC.
bool operands_fit(const PackedWinograd &layer, const Grid &weights) {
  const WinogradTile &tile = layer.tile;
  for (int point = 0; point < tile.points(); ++point) {
    const Grid x = inputs_at(tile, point, layer.codes);
    const Grid w = weights_at(tile, point, weights);
    const bool fit = tile.is_bytes
                         ? x.high - x.low <= UINT8_MAX && w.low >= INT8_MIN &&
                               w.high <= INT8_MAX
                         : x.low >= INT16_MIN && x.high <= INT16_MAX &&
                               w.low >= INT16_MIN && w.high <= INT16_MAX;
    if (!fit) return false;
  }
  return true;
}

// Whether outputs are whole without the upper bits that the division takes.
bool outputs_fit(const PackedWinograd &layer, const Weights &weights) {
  const size_t outs = weights.sums.size();
  std::vector<int64_t> least(outs, 0), most(outs, 0);
  const int low = layer.codes.low, high = layer.codes.high;
  const int shift = layer.is_halved ? 1 : 0;
  for (size_t i = 0; i < weights.codes.size(); i += outs) {
    for (size_t o = 0; o < outs; ++o) {
      const int weight = weights.codes[i + o] >> shift;
      least[o] += std::min(weight * low, weight * high);
      most[o] += std::max(weight * low, weight * high);
    }
  }
  const int64_t limit = int64_t{1} << (31 - layer.tile.shift());
  return *std::min_element(least.begin(), least.end()) >= -limit &&
         *std::max_element(most.begin(), most.end()) < limit;
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

// Packs a vector of output channels, whose steps of K are so many bytes apart.
void pack_vector(const SimdShape &shape, const PackedWinograd &layer,
                 const Weights &weights, int64_t first_out, int64_t step_bytes,
                 int8_t *to) {
  const int64_t outs = weights.shape[0], channels = weights.shape[1];
  const int64_t count = std::min<int64_t>(shape.lanes, outs - first_out);
  const WinogradTile &tile = layer.tile;
  const int points = tile.points(), each = tile.codes_per_step();
  const uint32_t mask = tile.is_bytes ? UINT8_MAX : UINT16_MAX;
  const int64_t steps = tile.k_steps(channels);
  uint32_t shifts[kMaxPoints];
  for (int point = 0; point < points; ++point) {
    shifts[point] = static_cast<uint32_t>(
        layer.zero_point_shift(point, shape.lowest_byte));
  }
  AtPoints<uint32_t> acc_init = {};
  const auto put = [&](int64_t step, const AtPoints<uint32_t> &numbers) {
    for (int point = 0; point < points; ++point) {
      std::memcpy(to + (point * (1 + steps) + step) * step_bytes,
                  numbers[point], 4 * static_cast<size_t>(shape.lanes));
    }
  };
  for (int64_t step = 0; step < steps; ++step) {
    AtPoints<uint32_t> packed = {};
    AtPoints<int16_t> transformed;
    for (int i = 0; i < each && step * each + i < channels; ++i) {
      const int8_t *codes =
          weights.codes.data() + (step * each + i) * outs + first_out;
      transform_weights(layer, codes, channels * outs, count, transformed);
      for (int point = 0; point < points; ++point) {
        for (int lane = 0; lane < kMaxLanes; ++lane) {
          const uint32_t w = static_cast<uint32_t>(transformed[point][lane]);
          acc_init[point][lane] -= shifts[point] * w;
          packed[point][lane] |= (w & mask) << 32 / each * i;
        }
      }
    }
    put(1 + step, packed);
  }
  put(0, acc_init);
}

// The fastest tile that is exact, without weights.
PackedWinograd exact_layer(const SimdShape &shape, const Grid &codes,
                           const Weights &weights) {
  Grid range = {weights.codes[0], weights.codes[0]};
  int odd = 1;
  for (const int code : weights.codes) {
    range = {std::min(range.low, code), std::max(range.high, code)};
    odd &= code;
  }
  for (const WinogradTile &tile : kTiles) {
    const PackedWinograd layer = {tile, tile.is_bytes && odd != 0, codes, {}};
    const int shift = layer.is_halved ? 1 : 0;
    const bool has_mac =
        tile.is_bytes ? shape.winograd_bytes : shape.winograd_words;
    if (has_mac &&
        operands_fit(layer, {range.low >> shift, range.high >> shift}) &&
        outputs_fit(layer, weights)) {
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
         conv.weights->shape[1] >= kWinogradMinChannels &&
         conv.weights->codes.size() < kWinogradMaxWeights;
}

Grid with_zero(const Grid &codes) {
  return {std::min(codes.low, 0), std::max(codes.high, 0)};
}

PackedWinograd pack_winograd(const SimdShape &shape, const Grid &codes,
                             const Weights &weights) {
  PackedWinograd layer = exact_layer(shape, codes, weights);
  if (layer.tile.rows == 0) return layer;
  const int64_t vectors = vectors_of(weights.shape[0], shape.lanes);
  const int64_t bytes = 4 * int64_t{shape.lanes};
  const int64_t each =
      layer.tile.points() * (1 + layer.tile.k_steps(weights.shape[1])) * bytes;
  layer.weights = lines_of(vectors * each);
  for (int64_t v = 0; v < vectors; ++v) {
    const int64_t first = v / shape.nr * shape.nr;
    const int64_t block = std::min<int64_t>(shape.nr, vectors - first);
    pack_vector(shape, layer, weights, v * shape.lanes, block * bytes,
                layer.weights.data()->bytes + first * each +
                    (v - first) * bytes);
  }
  return layer;
}

WinogradScratch::WinogradScratch(const SimdShape &shape,
                                 const WinogradTile &tile, int64_t channels,
                                 uint8_t *memory)
    : inputs(memory) {
  const int64_t values = tile.points() * kWinogradTiles;
  input_bytes = values * tile.point_bytes(channels);
  acc_bytes = values * shape.nr * shape.lanes * 4;
  sum_bytes = kWinogradTiles * kMaxTileRows * kTileColumns * 4;
  zero_bytes = whole_lines(channels) + kSlack;
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
