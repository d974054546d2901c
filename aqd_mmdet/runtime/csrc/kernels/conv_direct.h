// Kernels for any set of short vectors. A file that includes this defines
// AQD_TARGET, the attribute of functions that may use its instructions, and a
// class with what they do:
//
//   kVectors    see packing.h
//   kPixels     output pixels that a block makes at once, at most
//   Lanes       a register of 32-bit numbers, one for each lane
//   load        makes them of codes of any type
//   store       makes codes of 8, 16 or 32 bits of them, which hold them
//   weigh       adds products of two of them to a third one
//   requantize  shifts sums of a vector of channels of some pixels
//   block_of    the block for a number of pixels and vectors
//   kValues, kFetches, Product   see conv_winograd.h
//
// and classes of products, of what one instruction reads with the weights:
//
//   Sum, Weights  registers of sums and of what load reads
//   kIsShort    whether sums have 16 bits for some steps
//   broadcast   four bytes of codes, to meet weights in each lane
//   begin, end  take sums of 32 bits from memory, and bring them there
//   add         adds products of codes and weights

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "graph/schedule.h"
#include "kernels/conv_winograd.h"
#include "kernels/packing.h"
#include "kernels/padding.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {
namespace {

// Pixels that stages are run for at once.
constexpr int kMostPixels = 16;

// What the stages of a fused made of a vector of channels of some pixels.
template <typename Set>
struct Made {
  static constexpr int kCount = kMostPixels * Set::kVectors.lanes;
  alignas(64) int32_t codes[kMaxFused][kCount];
  const int32_t *head = codes[0];  // or where a block left its sums
};

// Vectors of codes of some pixels, which lie `next` codes apart.
struct Pixels {
  int count;
  int64_t next;
  int lanes;  // channels that there are
};

template <typename Set, typename T>
AQD_TARGET inline void store(const Pixels &pixels, const int32_t *codes,
                             T *to) {
  constexpr int kLanes = Set::kVectors.lanes;
  for (int p = 0; p < pixels.count; ++p, codes += kLanes, to += pixels.next) {
    if (pixels.lanes == kLanes) {
      Set::store(Set::load(codes), to);
    } else {
      for (int i = 0; i < pixels.lanes; ++i) to[i] = static_cast<T>(codes[i]);
    }
  }
}

template <typename Set>
AQD_TARGET inline void store(const Pixels &pixels, const int32_t *codes,
                             int64_t at, const Tensor &out) {
  switch (out.type) {
    case Type::kU8:
    case Type::kI8:
      return store<Set>(pixels, codes, static_cast<int8_t *>(out.data) + at);
    case Type::kI16:
      return store<Set>(pixels, codes, static_cast<int16_t *>(out.data) + at);
    case Type::kI32:
      return store<Set>(pixels, codes, static_cast<int32_t *>(out.data) + at);
  }
}

template <typename Set, typename T>
AQD_TARGET inline void load(const Pixels &pixels, const T *from,
                            int32_t *codes) {
  constexpr int kLanes = Set::kVectors.lanes;
  for (int p = 0; p < pixels.count; ++p, codes += kLanes, from += pixels.next) {
    if (pixels.lanes == kLanes) {
      Set::store(Set::load(from), codes);
    } else {
      for (int i = 0; i < pixels.lanes; ++i) codes[i] = from[i];
    }
  }
}

template <typename Set>
AQD_TARGET inline void load(const Pixels &pixels, const Tensor &x, int64_t at,
                            int32_t *codes) {
  switch (x.type) {
    case Type::kU8:
      return load<Set>(pixels, static_cast<const uint8_t *>(x.data) + at,
                          codes);
    case Type::kI8:
      return load<Set>(pixels, static_cast<const int8_t *>(x.data) + at,
                          codes);
    case Type::kI16:
      return load<Set>(pixels, static_cast<const int16_t *>(x.data) + at,
                          codes);
    case Type::kI32:
      return load<Set>(pixels, static_cast<const int32_t *>(x.data) + at,
                          codes);
  }
}

// Where an upsampling reads, by its output.
struct Nearest {
  std::vector<int64_t> rows, columns;
};

std::vector<Nearest> nearest_of(const FusedOp &fused) {
  std::vector<Nearest> made(fused.ops.size());
  for (size_t i = 0; i < made.size(); ++i) {
    if (!fused.ops[i].op().is<Upsample>()) continue;
    const Size &from = fused.ops[i].inputs[0].tensor->size;
    for (int64_t y = 0; y < fused.size.height; ++y) {
      made[i].rows.push_back(y * from.height / fused.size.height * from.width);
    }
    for (int64_t x = 0; x < fused.size.width; ++x) {
      made[i].columns.push_back(x * from.width / fused.size.width);
    }
  }
  return made;
}

// Runs the stages of a fused for a tile.
template <typename Set>
class Stages {
 public:
  explicit Stages(const FusedOp &fused)
      : fused_(fused), nearest_(nearest_of(fused)) {}

  AQD_TARGET void run(const TileCoord &tile, Made<Set> *made) const {
    const int64_t channel = tile.vector * kLanes;
    const int64_t left = fused_.channels - channel;
    const Pixels pixels = {tile.pixels, fused_.channels,
                           static_cast<int>(left < kLanes ? left : kLanes)};
    const int64_t pixel = tile.row * fused_.size.width + tile.column;
    const int64_t at = pixel * fused_.channels + channel;
    for (size_t i = 0; i < fused_.ops.size(); ++i) {
      const PostOp &stage = fused_.ops[i];
      const bool is_there = i == 0 && fused_.is_convolution();
      if (!is_there) run(i, tile, pixels, at, made);
      if (stage.out == nullptr) continue;
      store<Set>(pixels, is_there ? made->head : made->codes[i], at,
                    *stage.out);
    }
  }

 private:
  static constexpr int kLanes = Set::kVectors.lanes;

  AQD_TARGET void run(size_t index, const TileCoord &tile, const Pixels &pixels,
                      int64_t at, Made<Set> *made) const {
    const PostOp &stage = fused_.ops[index];
    const Node &node = *stage.node;
    int32_t *to = made->codes[index];
    if (node.op.is<Upsample>()) return upsample(index, tile, pixels, to);
    alignas(64) int32_t read[2][Made<Set>::kCount];
    const int32_t *x = input(stage.inputs[0], pixels, at, *made, read[0]);
    if (node.op.is<Add>()) {
      add(node, x, input(stage.inputs[1], pixels, at, *made, read[1]),
          pixels.count, to);
    } else if (node.packed.multipliers.empty()) {
      requantize(node, x, tile, pixels, to);
    } else {
      Set::requantize(node.packed.multipliers.data() + tile.vector * table_size(kLanes),
                      node.op.grid, x, pixels.count, to);
    }
  }

  AQD_TARGET static const int32_t *input(const PostOp::Input &input,
                                         const Pixels &pixels, int64_t at,
                                         const Made<Set> &made, int32_t *to) {
    if (input.tensor != nullptr) {
      load<Set>(pixels, *input.tensor, at, to);
      return to;
    }
    return input.index == 0 ? made.head : made.codes[input.index];
  }

  AQD_TARGET static void add(const Node &node, const int32_t *x, const int32_t *y,
                             int pixels, int32_t *to) {
    const int32_t low = node.op.grid.low, high = node.op.grid.high;
    for (int i = 0; i < pixels * kLanes; ++i) {
      const int32_t sum = x[i] + y[i];
      const int32_t raised = sum < low ? low : sum;
      to[i] = raised > high ? high : raised;
    }
  }

  // Of values that are not narrow.
  static void requantize(const Node &node, const int32_t *x, const TileCoord &tile,
                         const Pixels &pixels, int32_t *to) {
    const Multipliers &table = node.op.as<Requantize>().multipliers;
    for (int i = 0; i < pixels.count * kLanes; ++i) {
      const int lane = i % kLanes;
      if (lane >= pixels.lanes) continue;
      const size_t k = table.m.size() > 1
                           ? static_cast<size_t>(tile.vector * kLanes + lane)
                           : 0;
      const int64_t wide = (x[i] * int64_t{table.m[k]} + table.b[k]) >>
                           table.s[k];
      to[i] = static_cast<int32_t>(
          std::clamp<int64_t>(wide, node.op.grid.low, node.op.grid.high));
    }
  }

  AQD_TARGET void upsample(size_t index, const TileCoord &tile, Pixels pixels,
                           int32_t *to) const {
    const Tensor &x = *fused_.ops[index].inputs[0].tensor;
    const Nearest &nearest = nearest_[index];
    pixels.count = 1;
    const int64_t line = nearest.rows[static_cast<size_t>(tile.row)];
    const int64_t *column = nearest.columns.data() + tile.column;
    for (int p = 0; p < tile.pixels; ++p, to += kLanes) {
      load<Set>(pixels, x,
                   (line + column[p]) * x.channels + tile.vector * kLanes, to);
    }
  }

  const FusedOp &fused_;
  const std::vector<Nearest> nearest_;
};

// What all blocks of a convolution share.
struct Geometry {
  Runs runs;
  int64_t steps;           // of a run
  const int64_t *offsets;  // of runs, in bytes
  int64_t pixel;           // bytes from a pixel's window to the next's
};

template <typename Set>
using Block = void (*)(const Geometry &, const Node &node, const uint8_t *codes,
                       const int8_t *weights, const Stages<Set> &, TileCoord,
                       Made<Set> *);

// Sums of P pixels and V vectors of output channels, and what follows them.
template <typename Set, typename Product, int P, int V>
AQD_TARGET void block(const Geometry &g, const Node &node, const uint8_t *codes,
                      const int8_t *weights, const Stages<Set> &stages,
                      TileCoord tile, Made<Set> *made) {
  constexpr int kLanes = Set::kVectors.lanes;
  constexpr int64_t kStep = 4 * kLanes;  // bytes of weights
  typename Product::Sum sums[V][P];
  alignas(64) int32_t wide[V][P * kLanes];
  const int32_t *start = node.packed.start.data() + tile.vector * kLanes;
  for (int v = 0; v < V; ++v) {
    for (int p = 0; p < P; ++p) {
      std::memcpy(wide[v] + p * kLanes, start + v * kLanes, 4 * kLanes);
      sums[v][p] = Product::begin(wide[v] + p * kLanes);
    }
  }
  int64_t left = node.packed.reading.steps;
  for (int64_t run = 0; run < g.runs.count; ++run) {
    const uint8_t *from = codes + g.offsets[run];
    for (int64_t step = 0; step < g.steps;) {
      const int64_t rest = g.steps - step;
      const int64_t many = Product::kIsShort && left < rest ? left : rest;
      const int8_t *end = weights + many * V * kStep;
      for (; weights < end; from += 4, weights += V * kStep) {
        typename Product::Weights w[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) w[v] = Product::load(weights + v * kStep);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const auto x = Product::broadcast(from + p * g.pixel);
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            sums[v][p] = Product::add(sums[v][p], x, w[v]);
          }
        }
      }
      step += many;
      left -= many;
      if (!Product::kIsShort || left > 0) continue;
      left = node.packed.reading.steps;
      for (int v = 0; v < V; ++v) {
        for (int p = 0; p < P; ++p) {
          Product::end(sums[v][p], wide[v] + p * kLanes);
          sums[v][p] = Product::begin(wide[v] + p * kLanes);
        }
      }
    }
  }
  tile.pixels = P;
  for (int v = 0; v < V; ++v, ++tile.vector) {
    for (int p = 0; p < P; ++p) {
      Product::end(sums[v][p], wide[v] + p * kLanes);
    }
    made->head = wide[v];
    stages.run(tile, made);
  }
}

template <typename Set, typename Product, int V, int P = Set::kPixels>
Block<Set> block_of(int64_t pixels) {
  if constexpr (P > 1) {
    if (pixels < P) return block_of<Set, Product, V, P - 1>(pixels);
  }
  return block<Set, Product, P, V>;
}

// The block for so many pixels and vectors.
template <typename Set, typename Product, int V = Set::kVectors.together>
Block<Set> block_of(int64_t pixels, int64_t vectors) {
  if constexpr (V > 1) {
    if (vectors < V) return block_of<Set, Product, V - 1>(pixels, vectors);
  }
  return block_of<Set, Product, V>(pixels);
}

// Rows of a convolution's output from one on.
template <typename Set>
void make_rows(const FusedOp &fused, const Geometry &g, const Stages<Set> &stages,
               const uint8_t *codes, int64_t line, int64_t top, int64_t rows) {
  const Node &node = fused.root();
  const int8_t *weights = node.conv().weights->packed.lines.data()->bytes;
  constexpr Vectors kSet = Set::kVectors;
  const int64_t vectors = vectors_of(node.op.channels, kSet.lanes);
  const int64_t width = fused.size.width;
  Made<Set> made;
  for (int64_t v = 0; v < vectors; v += kSet.together) {
    const int64_t wide = std::min<int64_t>(kSet.together, vectors - v);
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t *window = codes + row * node.conv().window.stride.height * line;
      for (int64_t c = 0; c < width; c += Set::kPixels) {
        const int64_t many = std::min<int64_t>(Set::kPixels, width - c);
        const Block<Set> run = Set::block_of(node, many, wide);
        run(g, node, window + c * g.pixel, weights, stages,
            {top + row, c, static_cast<int>(many), v}, &made);
      }
    }
    weights += wide * g.runs.count * g.steps * 4 * kSet.lanes;
  }
}

// Sums of a vector of channels, each of which a convolution reads by itself.
// Lanes without a channel have whatever is behind.
template <typename Set, typename T>
AQD_TARGET inline void weigh(const Node &node, const T *window, int64_t line,
                             const int8_t *weights, int32_t *to) {
  const int32_t none[Set::kVectors.lanes] = {};
  typename Set::Lanes sums = Set::load(none);
  for (int v = 0; v < node.conv().window.kernel.height; ++v) {
    const T *codes = window + v * node.conv().window.dilation.height * line;
    for (int u = 0; u < node.conv().window.kernel.width; ++u) {
      sums = Set::weigh(sums, Set::load(codes), Set::load(weights));
      codes += int64_t{node.conv().window.dilation.width} * node.op.channels;
      weights += node.op.channels;
    }
  }
  Set::store(sums, to);
}

// Rows of such a convolution's output from one on.
template <typename Set, typename T>
AQD_TARGET void weigh_rows(const FusedOp &fused, const Stages<Set> &stages,
                           const T *codes, int64_t line, int64_t top,
                           int64_t rows) {
  constexpr int kLanes = Set::kVectors.lanes;
  const Node &node = fused.root();
  const int8_t *weights = node.conv().weights->packed.lines.data()->bytes;
  const int64_t step = int64_t{node.conv().window.stride.width} * node.op.channels;
  Made<Set> made;
  for (int64_t row = 0; row < rows; ++row) {
    const T *window = codes + row * node.conv().window.stride.height * line;
    for (int64_t c = 0; c < fused.size.width; c += kMostPixels) {
      const int64_t rest = fused.size.width - c;
      const bool whole = rest >= kMostPixels;
      const int many = whole ? kMostPixels : static_cast<int>(rest);
      for (int channel = 0; channel < node.op.channels; channel += kLanes) {
        for (int p = 0; p < many; ++p) {
          weigh<Set>(node, window + (c + p) * step + channel, line,
                     weights + channel, made.codes[0] + p * kLanes);
        }
        stages.run({top + row, c, many, channel / kLanes}, &made);
      }
    }
  }
}

template <typename Set>
void weigh_rows(const FusedOp &fused, const Stages<Set> &stages,
                const uint8_t *codes, int64_t line, int64_t top, int64_t rows) {
  switch (fused.x->type) {
    case Type::kU8:
      return weigh_rows<Set, uint8_t>(fused, stages, codes, line, top, rows);
    case Type::kI8:
      return weigh_rows<Set, int8_t>(fused, stages,
                                     reinterpret_cast<const int8_t *>(codes),
                                     line, top, rows);
    default:
      return weigh_rows<Set, int16_t>(fused, stages,
                                      reinterpret_cast<const int16_t *>(codes),
                                      line / 2, top, rows);
  }
}

// A row of the output of a convolution whose sums are pooled.
template <typename Set>
AQD_TARGET void pool_row(const FusedOp &fused, const Ring &ring,
                         const Stages<Set> &stages, int64_t row,
                         Made<Set> *made) {
  constexpr int kLanes = Set::kVectors.lanes;
  made->head = made->codes[0];
  for (int64_t c = 0; c < fused.size.width; c += kMostPixels) {
    const int64_t rest = fused.size.width - c;
    const int many = static_cast<int>(rest < kMostPixels ? rest : kMostPixels);
    for (int64_t v = 0; v < vectors_of(fused.channels, kLanes); ++v) {
      pool_sums<kLanes>(fused, ring, row, c, many, v * kLanes, made->codes[0]);
      stages.run({row, c, many, v}, made);
    }
  }
}

template <typename Set>
void convolve(const FusedOp &fused, uint8_t *scratch, int64_t step, ThreadPool *pool) {
  const Node &node = fused.root();
  const Tensor &x = *fused.x;
  const int64_t pixel = x.channels * bytes_read(node);
  const Source source = source_of(node, x);
  Geometry g;
  g.runs = runs_of(node, x.channels);
  g.steps = steps_of(node, g.runs.codes);
  const std::vector<int64_t> offsets =
      offsets_of(node, g.runs, source.line, pixel);
  g.offsets = offsets.data();
  g.pixel = node.conv().window.stride.width * pixel;
  const Stages<Set> stages(fused);
  in_bands(fused, source, scratch, step, pool, [&](const Rows &rows) {
    if (node.conv().groups > 1) {
      return weigh_rows(fused, stages, rows.windows, source.line, rows.top,
                        rows.end - rows.top);
    }
    if (node.pooling.kernel.height == 0) {
      return make_rows(fused, g, stages, rows.windows, source.line, rows.top,
                       rows.end - rows.top);
    }
    const Ring ring(fused, rows.ring);
    const Stages<Set> storing(ring.fused);
    Made<Set> made;
    in_turns(
        fused, rows, source,
        [&](const uint8_t *windows, int64_t row) {
          make_rows(ring.fused, g, storing, windows, source.line, row, 1);
        },
        [&](int64_t row) { pool_row(fused, ring, stages, row, &made); });
  });
}

template <typename Set>
void run_fused(const FusedOp &fused, uint8_t *scratch, int64_t step, ThreadPool *pool) {
  if (fused.is_convolution()) {
    if (fused.root().packed.method == Method::kWinograd) {
      return convolve_tiles<Set, Stages<Set>, Made<Set>>(fused, scratch, step,
                                                         pool);
    }
    return convolve<Set>(fused, scratch, step, pool);
  }
  const Stages<Set> stages(fused);
  const int64_t rows = fused.size.height;
  const int64_t parts = std::min<int64_t>(rows, 4 * pool->threads());
  const int64_t vectors = vectors_of(fused.channels, Set::kVectors.lanes);
  pool->run(parts, [&](int64_t part, int) {
    Made<Set> made;
    const int64_t end = rows * (part + 1) / parts;
    for (int64_t row = rows * part / parts; row < end; ++row) {
      for (int64_t c = 0; c < fused.size.width; c += kMostPixels) {
        const int64_t many =
            std::min<int64_t>(kMostPixels, fused.size.width - c);
        for (int64_t v = 0; v < vectors; ++v) {
          stages.run({row, c, static_cast<int>(many), v}, &made);
        }
      }
    }
  });
}

}  // namespace
}  // namespace aqd
