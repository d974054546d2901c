// Winograd's convolutions (winograd.h) for any set of vectors. A file that
// includes this defines AQD_TARGET, as for conv_direct.h, and a class of a set with
//
//   kVectors    see packing.h
//   kPixels     tiles that are multiplied at once, at most
//   kFetches    whether its stages fetch what they read and write
//   kValues     what values may be
//   Product     products of bytes, if they are that, or words, as for conv_direct.h

#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/reference.h"
#include "kernels/winograd.h"
#include "thread_pool.h"

namespace aqd {
namespace {

// A register of numbers, and what is read or written as one.
template <class T, int kBytes>
struct Register {
  typedef T type __attribute__((vector_size(kBytes)));
  typedef type memory __attribute__((aligned(1), may_alias));
};

// Values at points of a row or column of codes, `next` apart; all wraps around.
template <int kOutputs, class T>
AQD_TARGET inline void to_values(const T *d, int next, T *to) {
  const T d0 = d[0], d1 = d[next], d2 = d[2 * next], d3 = d[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = d2 - d0;
    to[1] = d1 + d2;
    to[2] = d2 - d1;
    to[3] = d3 - d1;
    return;
  }
  const T d4 = d[4 * next], odd = d3 - d1, even = d4 - d2, odds = odd + odd;
  const T first = d0 - d2, twice = first + first;
  if constexpr (kOutputs == 3) {
    const T less = d1 - d2;
    to[0] = twice + odd;
    to[1] = odd - (d1 + d2);
    to[2] = odd + (less + less + less);
    to[3] = odd;
    to[4] = even - odds;
  } else {
    const T d5 = d[5 * next], twice1 = d1 + d1;
    const T far = even - (d2 + d2 + d2), off = d3 - (twice1 + twice1);
    to[0] = twice + twice + even;
    to[1] = far + off;
    to[2] = far - off;
    to[3] = even + odds;
    to[4] = even - odds;
    to[5] = (d5 - d3) - (odds + odds);
  }
}

// A row or column of outputs, times 2, 6 or 24, of sums at points.
template <int kOutputs, class T>
AQD_TARGET inline void to_outputs(const T *m, int next, T *to) {
  const T m0 = m[0], m1 = m[next], m2 = m[2 * next], m3 = m[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = m1 + m2 - (m0 << 1);
    to[1] = m1 - m2 + (m3 << 1);
  } else if constexpr (kOutputs == 3) {
    const T m4 = m[4 * next], thrice = (m1 << 1) + m1;
    to[0] = (m0 << 1) + m0 - thrice + (m3 - m2);
    to[1] = (m3 << 1) + m2 - thrice;
    to[2] = (m3 << 2) - m2 - thrice + ((m4 << 2) + (m4 << 1));
  } else {
    const T m4 = m[4 * next], m5 = m[5 * next];
    const T near = (m1 + m2) << 2, apart = (m1 - m2) << 2;
    const T far = m3 + m4, off = (m3 - m4) << 1;
    to[0] = (m0 << 2) + (m0 << 1) - near + far;
    to[1] = off - apart;
    to[2] = (far << 2) - near;
    to[3] = (off << 2) - apart + ((m5 << 4) + (m5 << 3));
  }
}

// Tiles that are neighbours, as many as stages run for at once, and where
// their outputs begin.
struct FewTiles {
  int64_t first, count;
  int64_t row, column;
};

template <class Set, class Stages, class Made, int kRows, bool kBytes>
class Tiles {
 public:
  static constexpr Form kForm = {kRows, kBytes};

  Tiles(const FusedOp &fused, const Layer &layer, const Stages &stages)
      : node_(fused.root()), x_(*fused.x), size_(fused.size), layer_(layer),
        stages_(stages),
        across_((fused.size.width + kTileColumns - 1) / kTileColumns),
        length_(length_of(kForm, x_.channels)),
        steps_(steps_of(kForm, x_.channels)) {
    for (int point = 0; point < kForm.points(); ++point) {
      raises_[point] =
          static_cast<Value>(layer.raise(point, Set::kVectors.lowest));
    }
  }

  int64_t count() const {
    return across_ * ((size_.height + kRows - 1) / kRows);
  }

  void run(const TileShare &share, const TileWork &work) const {
    std::memset(work.zeros, 0, static_cast<size_t>(x_.channels));
    for (int64_t i = 0; i < share.count; ++i) {
      transform(share.first + i, i, work);
    }
    const int64_t vectors = vectors_of(node_.op.channels, kLanes);
    const int64_t end = std::min(share.end * kTogether, vectors);
    for (int64_t v = share.block * kTogether; v < end; v += kTogether) {
      const int64_t wide = std::min<int64_t>(kTogether, vectors - v);
      multiply(share, v, wide, work);
      finish(share, v, wide, work);
    }
  }

 private:
  static constexpr int kLanes = Set::kVectors.lanes;
  static constexpr int kTogether = Set::kVectors.together;
  static constexpr int kWidth = 4 * kLanes;  // bytes of a register
  static constexpr int kHigh = kRows + 2;
  static constexpr int kWide = kTileWide;
  static constexpr int kPixels = 16;  // that stages run for at once

  using Product = typename Set::template Product<kBytes>;
  using Value = std::conditional_t<kBytes, uint8_t, uint16_t>;
  using Values = typename Register<Value, kWidth>::type;
  using Numbers = typename Register<uint32_t, kWidth>::type;
  using Signed = typename Register<int32_t, kWidth>::type;
  template <class T, int kSize = kWidth>
  using Memory = typename Register<T, kSize>::memory;

  AQD_TARGET void load(const uint8_t *from, Values *to) const {
    if constexpr (kBytes) {
      *to = *reinterpret_cast<const Memory<uint8_t> *>(from);
    } else if (x_.type == Type::kI8) {
      using Wide = typename Register<int16_t, kWidth>::type;
      const typename Register<int8_t, kWidth / 2>::type codes =
          *reinterpret_cast<const Memory<int8_t, kWidth / 2> *>(from);
      *to = reinterpret_cast<Values>(__builtin_convertvector(codes, Wide));
    } else {
      const typename Register<uint8_t, kWidth / 2>::type codes =
          *reinterpret_cast<const Memory<uint8_t, kWidth / 2> *>(from);
      *to = __builtin_convertvector(codes, Values);
    }
  }

  AQD_TARGET void transform(int64_t tile, int64_t i,
                            const TileWork &work) const {
    const int64_t top = tile / across_ * kRows - node_.conv().window.padding.height;
    const int64_t left = tile % across_ * kTileColumns - node_.conv().window.padding.width;
    const uint8_t *pixels[kHigh][kWide];
    for (int y = 0; y < kHigh; ++y) {
      for (int x = 0; x < kWide; ++x) {
        const bool inside = top + y >= 0 && top + y < x_.size.height &&
                            left + x >= 0 && left + x < x_.size.width;
        const int64_t at =
            ((top + y) * x_.size.width + left + x) * x_.channels;
        pixels[y][x] = inside ? static_cast<const uint8_t *>(x_.data) + at
                              : work.zeros;
      }
    }
    constexpr int kEach = kWidth / static_cast<int>(sizeof(Value));
    const int64_t next = kMostTiles * length_;
    uint8_t *to = work.values + i * length_;
    for (int64_t c = 0; c < x_.channels; c += kEach, to += kWidth) {
      Values rows[kHigh][kWide];
#pragma GCC unroll 6
      for (int y = 0; y < kHigh; ++y) {
        Values codes[kWide];
#pragma GCC unroll 6
        for (int x = 0; x < kWide; ++x) load(pixels[y][x] + c, codes + x);
        to_values<kTileColumns>(codes, 1, rows[y]);
      }
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x) {
        Values values[kHigh];
        to_values<kRows>(rows[0] + x, kWide, values);
#pragma GCC unroll 6
        for (int y = 0; y < kHigh; ++y) {
          const int point = y * kWide + x;
          if constexpr (kBytes) values[y] += raises_[point];
          *reinterpret_cast<Memory<Value> *>(to + point * next) = values[y];
        }
      }
    }
    if constexpr (kBytes) {
      int32_t *boxes = work.boxes + i * kRows * kTileColumns;
      if (layer_.is_halved) sum_boxes(pixels, boxes);
    }
  }

  // Sums of the codes that each output of a tile sees.
  AQD_TARGET void sum_boxes(const uint8_t *const (*pixels)[kWide],
                            int32_t *to) const {
    Numbers rows[kHigh][kTileColumns];
    for (int y = 0; y < kHigh; ++y) {
      Numbers sums[kWide];
      sum_pixels(pixels[y], sums);
      for (int x = 0; x < kTileColumns; ++x) {
        rows[y][x] = sums[x] + sums[x + 1] + sums[x + 2];
      }
    }
    for (int y = 0; y < kRows; ++y) {
      for (int x = 0; x < kTileColumns; ++x) {
        const Numbers sums = rows[y][x] + rows[y + 1][x] + rows[y + 2][x];
        uint32_t sum = 0;
        for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
        *to++ = static_cast<int32_t>(sum);
      }
    }
  }

  // Sums of the codes of each pixel, one in each lane. Signed bytes hold them,
  // as they are of few bits.
  AQD_TARGET void sum_pixels(const uint8_t *const *pixels, Numbers *to) const {
    alignas(64) int8_t bytes[kWidth];
    std::memset(bytes, 1, kWidth);
    const auto ones = Product::load(bytes);
    alignas(64) const int32_t none[kLanes] = {};
    typename Product::Sum sums[kWide];
#pragma GCC unroll 6
    for (int x = 0; x < kWide; ++x) sums[x] = Product::begin(none);
    const int64_t whole = x_.channels / kWidth * kWidth;
    for (int64_t c = 0; c < whole; c += kWidth) {
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x) {
        const int8_t *codes = reinterpret_cast<const int8_t *>(pixels[x] + c);
        sums[x] = Product::add(sums[x], ones, Product::load(codes));
      }
    }
    for (int x = 0; x < kWide && whole < x_.channels; ++x) {
      std::memset(bytes, 0, kWidth);
      std::memcpy(bytes, pixels[x] + whole,
                  static_cast<size_t>(x_.channels - whole));
      sums[x] = Product::add(sums[x], ones, Product::load(bytes));
    }
#pragma GCC unroll 6
    for (int x = 0; x < kWide; ++x) {
      Product::end(sums[x], reinterpret_cast<int32_t *>(to + x));
    }
  }

  template <int T, int V>
  AQD_TARGET static void multiply(const uint8_t *values, int64_t length,
                                  int64_t steps, const int8_t *weights,
                                  int32_t *to) {
    typename Product::Sum sums[T][V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int32_t *start =
          reinterpret_cast<const int32_t *>(weights + kWidth * v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t][v] = Product::begin(start);
    }
    weights += kWidth * V;
    for (int64_t k = 0; k < steps; ++k, values += 4, weights += kWidth * V) {
      typename Product::Weights w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = Product::load(weights + kWidth * v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto x = Product::broadcast(values + t * length);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[t][v] = Product::add(sums[t][v], x, w[v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Product::end(sums[t][v], to + (t * V + v) * kLanes);
      }
    }
  }

  using Multiply = void (*)(const uint8_t *, int64_t, int64_t, const int8_t *,
                            int32_t *);

  // For a number of tiles and of vectors.
  template <int V = kTogether, int T = Set::kPixels>
  static Multiply multiply_of(int64_t tiles, int64_t vectors) {
    if constexpr (V > 1) {
      if (vectors < V) return multiply_of<V - 1, T>(tiles, vectors);
    }
    if constexpr (T > 1) {
      if (tiles < T) return multiply_of<V, T - 1>(tiles, vectors);
    }
    return multiply<T, V>;
  }

  // Sums of a block of output channels at all points.
  void multiply(const TileShare &share, int64_t vector, int64_t wide,
                const TileWork &work) const {
    const int8_t *weights = node_.conv().weights->packed.lines.data()->bytes +
                            vector * kForm.points() * (1 + steps_) * kWidth;
    const int64_t parts = (share.count + Set::kPixels - 1) / Set::kPixels;
    for (int point = 0; point < kForm.points(); ++point) {
      const uint8_t *values = work.values + point * kMostTiles * length_;
      int32_t *sums = work.sums + point * kMostTiles * wide * kLanes;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = share.count * part / parts;
        const int64_t end = share.count * (part + 1) / parts;
        multiply_of(end - first, wide)(values + first * length_, length_,
                                       steps_, weights,
                                       sums + first * wide * kLanes);
      }
      weights += wide * (1 + steps_) * kWidth;
    }
  }

  // Outputs of a vector of channels of a tile, to rows of several tiles.
  AQD_TARGET void outputs(const int32_t *sums, int64_t next,
                          const int32_t *boxes, int32_t *const *to) const {
    Numbers rows[kHigh][kTileColumns];
#pragma GCC unroll 6
    for (int y = 0; y < kHigh; ++y) {
      Numbers m[kWide];
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x, sums += next) {
        m[x] = *reinterpret_cast<const Memory<uint32_t> *>(sums);
      }
      to_outputs<kTileColumns>(m, 1, rows[y]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kTileColumns; ++x) {
      Numbers column[kRows];
      to_outputs<kRows>(rows[0] + x, kTileColumns, column);
#pragma GCC unroll 4
      for (int y = 0; y < kRows; ++y) {
        Signed sum = reinterpret_cast<Signed>(column[y] * kForm.inverse());
        if (kBytes && layer_.is_halved) {
          sum = (sum >> (kForm.shift() - 1)) + boxes[y * kTileColumns + x];
        } else {
          sum >>= kForm.shift();
        }
        *reinterpret_cast<Memory<int32_t> *>(to[y] + x * kLanes) = sum;
      }
    }
  }

  FewTiles few_of(const TileShare &share, int64_t i) const {
    const int64_t tile = share.first + i, across = tile % across_;
    const int64_t count = std::min<int64_t>(
        {kPixels / kTileColumns, share.count - i, across_ - across});
    return {i, count, tile / across_ * kRows, across * kTileColumns};
  }

  // Calls what takes a row, its column, its pixels and its number among those
  // of the tiles for each row that the output has.
  template <class Take>
  void each_row(const FewTiles &few, const Take &take) const {
    const int64_t pixels =
        std::min(few.count * kTileColumns, size_.width - few.column);
    const int64_t rows = std::min<int64_t>(kRows, size_.height - few.row);
    for (int64_t y = 0; y < rows; ++y) {
      take(few.row + y, few.column, static_cast<int>(pixels), y);
    }
  }

  void fetch(const FewTiles &few, int64_t vector, int64_t wide) const {
    if constexpr (Set::kFetches) {
      each_row(few, [&](int64_t row, int64_t column, int pixels, int64_t) {
        stages_.fetch({row, column, pixels, vector}, wide);
      });
    }
  }

  // Runs the stages for a block of output channels.
  void finish(const TileShare &share, int64_t vector, int64_t wide,
              const TileWork &work) const {
    Made made[kRows];
    int32_t *rows[kRows];
    const int64_t next = kMostTiles * wide * kLanes;
    FewTiles few = few_of(share, 0);
    fetch(few, vector, wide);
    while (few.count != 0) {
      const FewTiles following = few_of(share, few.first + few.count);
      if (following.count != 0) fetch(following, vector, wide);
      for (int64_t v = 0; v < wide; ++v) {
        for (int64_t t = 0; t < few.count; ++t) {
          const int64_t tile = few.first + t;
          for (int y = 0; y < kRows; ++y) {
            rows[y] = made[y].codes[0] + t * kTileColumns * kLanes;
          }
          outputs(work.sums + (tile * wide + v) * kLanes, next,
                  work.boxes + tile * kRows * kTileColumns, rows);
        }
        each_row(few, [&](int64_t row, int64_t column, int pixels, int64_t y) {
          stages_.run({row, column, pixels, vector + v}, made + y);
        });
      }
      few = following;
    }
  }

  const Node &node_;
  const Tensor &x_;
  const Size size_;
  const Layer layer_;
  const Stages &stages_;
  const int64_t across_;  // tiles
  const int64_t length_, steps_;
  Value raises_[kMostPoints];
};

template <class Set, class Stages, class Made, int kRows, bool kBytes>
void convolve_tiles(const FusedOp &fused, const Layer &layer, uint8_t *scratch,
                    int64_t step, ThreadPool *pool) {
  const Stages stages(fused);
  const Tiles<Set, Stages, Made, kRows, kBytes> tiles(fused, layer, stages);
  const int64_t each = Set::kVectors.lanes * Set::kVectors.together;
  const std::vector<TileShare> shares = shares_of(
      tiles.count(), (fused.channels + each - 1) / each, pool->threads());
  pool->run(static_cast<int64_t>(shares.size()), [&](int64_t i, int thread) {
    tiles.run(shares[static_cast<size_t>(i)],
              tile_work(Set::kVectors, fused.root(), fused.x->channels,
                        scratch + step * thread));
  });
}

template <class Set, class Stages, class Made>
void convolve_tiles(const FusedOp &fused, uint8_t *scratch, int64_t step,
                    ThreadPool *pool) {
  const Layer layer = layer_of(fused.root());
  if constexpr (Set::kValues.bytes) {
    if (layer.form.bytes && layer.form.rows == 3) {
      return convolve_tiles<Set, Stages, Made, 3, true>(fused, layer, scratch,
                                                        step, pool);
    }
    if (layer.form.bytes) {
      return convolve_tiles<Set, Stages, Made, 2, true>(fused, layer, scratch,
                                                        step, pool);
    }
  }
  if constexpr (Set::kValues.words) {
    convolve_tiles<Set, Stages, Made, 4, false>(fused, layer, scratch, step,
                                                pool);
  }
}

}  // namespace
}  // namespace aqd
