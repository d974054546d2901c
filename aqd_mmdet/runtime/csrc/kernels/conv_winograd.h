// Winograd's convolution F(m x n, 3 x 3) (winograd.h), for any Simd (simd.h): a
// thread transforms some tiles of the input, multiplies them by the transformed
// weights at each point, which is a GEMM of tiles x channels x output channels,
// and transforms the accumulators into outputs.

#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/isa.h"
#include "kernels/tuning.h"
#include "kernels/winograd_transforms.h"

namespace aqd {

// Tiles that are neighbours in a row, as many as an epilogue takes at a time,
// and where their outputs begin.
struct TileGroup {
  int64_t first, count;  // among those of a share
  int64_t row, column;
};

// F(kRows x 4, 3 x 3).
template <class Simd, int kRows, bool kIsBytes>
class WinogradConv {
 public:
  static constexpr WinogradTile kTile = {kRows, kIsBytes};

  WinogradConv(const FusedOp &fused, const PackedWinograd &packed,
               const Epilogue<Simd> &epilogue)
      : packed_(packed), fused_(fused), x_(*fused.x), epilogue_(epilogue),
        tiles_across_((fused.size.width + kTileColumns - 1) / kTileColumns),
        point_bytes_(kTile.point_bytes(x_.channels)),
        k_steps_(kTile.k_steps(x_.channels)) {
    for (int point = 0; point < kTile.points(); ++point) {
      shifts_[point] = static_cast<Input>(
          packed.zero_point_shift(point, Simd::kShape.lowest_byte));
    }
    for (int64_t row = 0; row < fused_.size.height; row += kRows) {
      const int64_t end = std::min<int64_t>(row + kRows, fused_.size.height);
      for (int64_t across = 0; across < tiles_across_; ++across) {
        if (is_wanted(row, end, across * kTileColumns)) {
          tiles_.push_back(row / kRows * tiles_across_ + across);
        }
      }
    }
  }

  int64_t tiles() const { return static_cast<int64_t>(tiles_.size()); }

  void run(const WinogradShare &share, const WinogradScratch &work) const {
    std::memset(work.zeros(), 0, static_cast<size_t>(x_.channels));
    for (int64_t i = 0; i < share.tiles; ++i) {
      transform_tile(tile_at(share.first_tile + i), i, work);
    }
    const int64_t vectors = vectors_of(fused_.channels, kLanes);
    const int64_t end = std::min(share.end_block * kNr, vectors);
    for (int64_t v = share.first_block * kNr; v < end; v += kNr) {
      const int64_t block = std::min<int64_t>(kNr, vectors - v);
      multiply(share, v, block, work);
      make_outputs(share, v, block, work);
    }
  }

 private:
  static constexpr int64_t kLanes = Simd::kShape.lanes;
  static constexpr int kNr = Simd::kShape.nr, kMr = Simd::kMr;
  static constexpr int64_t kBytes = 4 * kLanes;  // of a vector
  static constexpr int kInputRows = kRows + 2;

  using Mac = std::conditional_t<kIsBytes, typename Simd::ByteMac,
                                 typename Simd::WordMac>;
  using Input = std::conditional_t<kIsBytes, uint8_t, uint16_t>;
  using Inputs = typename VectorOf<Input, kBytes>::type;
  using Numbers = typename VectorOf<uint32_t, kBytes>::type;

  AQD_TARGET Inputs load(const uint8_t *from) const {
    using Codes = typename VectorOf<uint8_t, kBytes / 2>::type;
    using SignedCodes = typename VectorOf<int8_t, kBytes / 2>::type;
    using Words = typename VectorOf<int16_t, kBytes>::type;
    if constexpr (kIsBytes) {
      return load_as<Inputs>(from);
    } else if (x_.type == Type::kI8) {
      return Inputs(__builtin_convertvector(load_as<SignedCodes>(from), Words));
    } else {
      return __builtin_convertvector(load_as<Codes>(from), Inputs);
    }
  }

  int64_t tile_at(int64_t i) const { return tiles_[static_cast<size_t>(i)]; }

  // Whether any pixel is wanted of a tile that begins at a column.
  bool is_wanted(int64_t row, int64_t end, int64_t column) const {
    for (; row < end; ++row) {
      if (fused_.wants_any(row, column, column + kTileColumns)) return true;
    }
    return false;
  }

  // Where each pixel that a tile reads is. One that was not made is as good as
  // zeros, since no wanted output reads it.
  using Pixels = const uint8_t *[kInputRows][kInputColumns];
  void find_pixels(int64_t tile, const uint8_t *zeros, Pixels &pixels) const {
    const Size &padding = fused_.conv().window.padding;
    const int64_t top = tile / tiles_across_ * kRows - padding.height;
    const int64_t left = tile % tiles_across_ * kTileColumns - padding.width;
    for (int y = 0; y < kInputRows; ++y) {
      for (int x = 0; x < kInputColumns; ++x) {
        const bool is_inside =
            top + y >= 0 && top + y < x_.size.height && left + x >= 0 &&
            left + x < x_.size.width &&
            (x_.made == nullptr || x_.made->has(top + y, left + x));
        const int64_t at = ((top + y) * x_.size.width + left + x) * x_.channels;
        pixels[y][x] =
            is_inside ? static_cast<const uint8_t *>(x_.data) + at : zeros;
      }
    }
  }

  // Transforms a tile, the i-th of a share.
  AQD_TARGET void transform_tile(int64_t tile, int64_t i,
                                 const WinogradScratch &work) const {
    Pixels pixels;
    find_pixels(tile, work.zeros(), pixels);
    constexpr int kCodes = kBytes / static_cast<int>(sizeof(Input));
    const int64_t next = kWinogradTiles * point_bytes_;
    uint8_t *to = work.inputs + i * point_bytes_;
    for (int64_t c = 0; c < x_.channels; c += kCodes, to += kBytes) {
      Inputs rows[kInputRows][kInputColumns];
#pragma GCC unroll 6
      for (int y = 0; y < kInputRows; ++y) {
        Inputs codes[kInputColumns];
#pragma GCC unroll 6
        for (int x = 0; x < kInputColumns; ++x)
          codes[x] = load(pixels[y][x] + c);
        transform_input<kTileColumns>(codes, 1, rows[y]);
      }
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x) {
        Inputs column[kInputRows];
        transform_input<kRows>(rows[0] + x, kInputColumns, column);
#pragma GCC unroll 6
        for (int y = 0; y < kInputRows; ++y) {
          const int point = y * kInputColumns + x;
          if constexpr (kIsBytes) column[y] += shifts_[point];
          store_as(column[y], to + point * next);
        }
      }
    }
    if constexpr (kIsBytes) {
      if (packed_.is_halved) {
        sum_windows(pixels, work.window_sums() + i * kRows * kTileColumns);
      }
    }
  }

  // Sums of the codes in the window of each output of a tile.
  AQD_TARGET void sum_windows(const Pixels &pixels, int32_t *to) const {
    Numbers sums[kInputRows][kInputColumns];
    for (int y = 0; y < kInputRows; ++y) sum_pixels(pixels[y], sums[y]);
    for (int i = 0; i < kRows * kTileColumns; ++i) {
      const int y = i / kTileColumns, x = i % kTileColumns;
      Numbers all = {};
      for (int tap = 0; tap < 9; ++tap) all += sums[y + tap / 3][x + tap % 3];
      uint32_t sum = 0;
      for (int lane = 0; lane < kLanes; ++lane) sum += all[lane];
      to[i] = static_cast<int32_t>(sum);
    }
  }

  // Sums of the codes of each pixel, a part in each lane. Codes are the signed
  // operand of the MAC, as they have few bits.
  AQD_TARGET void sum_pixels(const uint8_t *const *pixels, Numbers *to) const {
    // Zeros meet what is behind the channels.
    alignas(64) int8_t ones[2 * kBytes] = {};
    std::memset(ones, 1, kBytes);
    typename Mac::Acc sums[kInputColumns] = {};
    for (int64_t c = 0; c < x_.channels; c += kBytes) {
      const int64_t behind = std::max<int64_t>(c + kBytes - x_.channels, 0);
      const auto by = Mac::load(ones + behind);
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x) {
        const int8_t *codes = reinterpret_cast<const int8_t *>(pixels[x] + c);
        sums[x] = Mac::add(sums[x], by, Mac::load(codes));
      }
    }
#pragma GCC unroll 6
    for (int x = 0; x < kInputColumns; ++x) to[x] = Numbers(sums[x]);
  }

  // The microkernel: accumulators of T tiles and V vectors at a point.
  template <int T, int V>
  AQD_TARGET static void multiply(const uint8_t *inputs, int64_t tile_bytes,
                                  int64_t k_steps, const int8_t *weights,
                                  int32_t *to) {
    Accumulators<Mac, T, V> acc;
    acc.begin(reinterpret_cast<const int32_t *>(weights), kLanes, 0);
    weights += kBytes * V;
    acc.add(k_steps, tile_bytes, inputs, weights);
    acc.end(to, kLanes, V * kLanes);
  }

  // Accumulators of a block of output channels at all points.
  void multiply(const WinogradShare &share, int64_t vector, int64_t block,
                const WinogradScratch &work) const {
    const int8_t *weights = packed_.weights.data()->bytes +
                            vector * kTile.points() * (1 + k_steps_) * kBytes;
    const int64_t parts = (share.tiles + kMr - 1) / kMr;
    for (int point = 0; point < kTile.points(); ++point) {
      const uint8_t *inputs =
          work.inputs + point * kWinogradTiles * point_bytes_;
      int32_t *acc = work.acc() + point * kWinogradTiles * block * kLanes;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = share.tiles * part / parts;
        const int64_t end = share.tiles * (part + 1) / parts;
        const auto run = microkernel_for<kMr, kNr>(
            end - first, block,
            [](auto mr, auto nr) { return multiply<mr, nr>; });
        run(inputs + first * point_bytes_, point_bytes_, k_steps_, weights,
            acc + first * block * kLanes);
      }
      weights += block * (1 + k_steps_) * kBytes;
    }
  }

  // A row of a group of tiles.
  struct AccRow {
    alignas(64) int32_t acc[AccTile<Simd>::kCount];
  };

  // Outputs of a tile for a vector of channels, of which each row goes to `to`
  // of one of `outputs`; points are `next` apart.
  AQD_TARGET void transform_acc(const int32_t *acc, int64_t next,
                                const int32_t *window_sums, int64_t to,
                                AccRow *outputs) const {
    Numbers rows[kInputRows][kTileColumns];
#pragma GCC unroll 6
    for (int y = 0; y < kInputRows; ++y) {
      Numbers m[kInputColumns];
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x, acc += next) {
        m[x] = load_as<Numbers>(acc);
      }
      transform_output<kTileColumns>(m, 1, rows[y]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kTileColumns; ++x) {
      Numbers column[kRows];
      transform_output<kRows>(rows[0] + x, kTileColumns, column);
#pragma GCC unroll 4
      for (int y = 0; y < kRows; ++y) {
        auto sum = typename Simd::Lanes(column[y] * kTile.inverse());
        if (kIsBytes && packed_.is_halved) {
          sum =
              (sum >> (kTile.shift() - 1)) + window_sums[y * kTileColumns + x];
        } else {
          sum >>= kTile.shift();
        }
        Simd::store(sum, outputs[y].acc + to + x * kLanes);
      }
    }
  }

  // The tiles of a share from one on that an epilogue takes at a time; none
  // behind the last one.
  TileGroup group_at(const WinogradShare &share, int64_t i) const {
    if (i == share.tiles) return {i, 0, 0, 0};
    const int64_t first = share.first_tile + i, tile = tile_at(first);
    const int64_t across = tile % tiles_across_;
    const int64_t most = std::min<int64_t>(
        {kTilePixels / kTileColumns, share.tiles - i, tiles_across_ - across});
    int64_t count = 1;
    while (count < most && tile_at(first + count) == tile + count) ++count;
    return {i, count, tile / tiles_across_ * kRows, across * kTileColumns};
  }

  // Calls with each row of a group that the output has, and its number.
  template <class Take>
  void each_row(const TileGroup& group, int64_t vector,
                const Take& take) const {
    const Size &size = fused_.size;
    const int64_t pixels =
        std::min(group.count * kTileColumns, size.width - group.column);
    const int64_t rows = std::min<int64_t>(kRows, size.height - group.row);
    for (int64_t y = 0; y < rows && group.count > 0; ++y) {
      take(TileCoord{group.row + y, group.column, static_cast<int>(pixels),
                     vector}, y);
    }
  }

  // Transforms accumulators of a block and runs the epilogue; what that needs
  // is prefetched a group of tiles ahead.
  void make_outputs(const WinogradShare &share, int64_t vector, int64_t block,
                    const WinogradScratch &work) const {
    AccRow outputs[kRows];
    AccTile<Simd> values;
    const int64_t next = kWinogradTiles * block * kLanes;
    const auto prefetch = [&](const TileCoord &tile, int64_t) {
      epilogue_.prefetch(tile, block);
    };
    TileGroup group = group_at(share, 0), following;
    each_row(group, vector, prefetch);
    for (; group.count > 0; group = following) {
      following = group_at(share, group.first + group.count);
      each_row(following, vector, prefetch);
      for (int64_t v = 0; v < block; ++v) {
        for (int64_t t = 0; t < group.count; ++t) {
          const int64_t tile = group.first + t;
          transform_acc(work.acc() + (tile * block + v) * kLanes, next,
                        work.window_sums() + tile * kRows * kTileColumns,
                        t * kTileColumns * kLanes, outputs);
        }
        each_row(group, vector + v, [&](const TileCoord &tile, int64_t y) {
          values.acc = outputs[y].acc;
          epilogue_.run(tile, &values);
        });
      }
    }
  }

  const PackedWinograd &packed_;
  const FusedOp &fused_;
  const Tensor &x_;
  const Epilogue<Simd> &epilogue_;
  const int64_t tiles_across_, point_bytes_, k_steps_;
  std::vector<int64_t> tiles_;  // that are wanted, row by row
  Input shifts_[kMaxPoints];
};

template <class Simd, int kRows, bool kIsBytes>
void convolve_winograd(const FusedOp &fused, const PackedWinograd &packed,
                       const Workers &workers) {
  constexpr SimdShape kShape = Simd::kShape;
  const Epilogue<Simd> epilogue(fused);
  const WinogradConv<Simd, kRows, kIsBytes> conv(fused, packed, epilogue);
  const int64_t block = int64_t{kShape.lanes} * kShape.nr;
  const std::vector<WinogradShare> shares = winograd_shares(
      conv.tiles(), (fused.channels + block - 1) / block, workers.threads());
  workers.run(static_cast<int64_t>(shares.size()),
              [&](int64_t i, uint8_t *memory) {
    conv.run(shares[static_cast<size_t>(i)],
             WinogradScratch(kShape, packed.tile, fused.x->channels, memory));
  });
}

template <class Simd>
void convolve(const FusedOp &fused, const PackedWinograd &packed,
              const Workers &workers) {
  if constexpr (Simd::kShape.winograd_bytes) {
    if (packed.tile.rows == 3) {
      return convolve_winograd<Simd, 3, true>(fused, packed, workers);
    }
    if (packed.tile.rows == 2) {
      return convolve_winograd<Simd, 2, true>(fused, packed, workers);
    }
  }
  if constexpr (Simd::kShape.winograd_words) {
    convolve_winograd<Simd, 4, false>(fused, packed, workers);
  }
}

}  // namespace aqd
