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
#include "kernels/winograd_input.h"
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
      : packed_(packed), fused_(fused), epilogue_(epilogue),
        input_(fused, packed),
        point_bytes_(kTile.point_bytes(fused.x->channels)),
        k_steps_(kTile.k_steps(fused.x->channels)),
        parts_(packed.parts(fused.x->channels)) {
    const int64_t tiles_across = input_.tiles_across();
    for (int64_t row = 0; row < fused_.size.height; row += kRows) {
      const int64_t end = std::min<int64_t>(row + kRows, fused_.size.height);
      for (int64_t across = 0; across < tiles_across; ++across) {
        if (is_wanted(row, end, across * kTileColumns)) {
          tiles_.push_back(row / kRows * tiles_across + across);
        }
      }
    }
  }

  int64_t tiles() const { return static_cast<int64_t>(tiles_.size()); }

  void run(const WinogradShare &share, const WinogradScratch &work) const {
    input_.make_border(work);
    for (int64_t i = 0; i < share.tiles; ++i) {
      input_.transform_tile(tile_at(share.first_tile + i), i, work);
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

  using Mac = typename WinogradInput<Simd, kRows, kIsBytes>::Mac;
  using Numbers = typename VectorOf<uint32_t, kBytes>::type;
  // Short accumulators of two vectors of channels are one vector in memory.
  static constexpr int kTogether = Mac::kIsShort ? 2 : 1;
  using Sums = typename VectorOf<
      std::conditional_t<Mac::kIsShort, uint16_t, uint32_t>, kBytes>::type;

  // A row of a group of tiles.
  struct AccRow {
    alignas(64) int32_t acc[AccTile<Simd>::kCount];
  };
  using AccGroup = AccRow[kTogether][kRows];

  // Accumulators of that MAC in registers, which begin with what is in memory
  // even if they are short.
  struct PointMac : Mac {
    AQD_TARGET static typename Mac::Acc begin(const int32_t *from) {
      return load_as<typename Mac::Acc>(from);
    }
  };

  int64_t tile_at(int64_t i) const { return tiles_[static_cast<size_t>(i)]; }

  // Whether any pixel is wanted of a tile that begins at a column.
  bool is_wanted(int64_t row, int64_t end, int64_t column) const {
    for (; row < end; ++row) {
      if (fused_.wants_any(row, column, column + kTileColumns)) return true;
    }
    return false;
  }

  // The microkernel: accumulators of T tiles and V vectors at a point.
  template <int T, int V>
  AQD_TARGET static void multiply(const uint8_t *inputs, int64_t tile_bytes,
                                  int64_t k_steps, const int8_t *weights,
                                  int32_t *to) {
    Accumulators<PointMac, T, V> acc;
    acc.begin(reinterpret_cast<const int32_t *>(weights), kLanes, 0);
    weights += kBytes * V;
    acc.add(k_steps, tile_bytes, inputs, weights);
    if constexpr (Mac::kIsShort) {
      acc.end_folded(to, kLanes, stored_vectors(V) * kLanes);
    } else {
      acc.end(to, kLanes, V * kLanes);
    }
  }

  // Vectors in memory that hold the accumulators of a block.
  static constexpr int64_t stored_vectors(int64_t block) {
    return (block + kTogether - 1) / kTogether;
  }

  // Accumulators of a block of output channels for all parts, at all points.
  void multiply(const WinogradShare &share, int64_t vector, int64_t block,
                const WinogradScratch &work) const {
    const int8_t *weights = packed_.weights.data()->bytes +
                            vector * kTile.points() * (parts_ + k_steps_) *
                                kBytes;
    int32_t *acc = work.acc();
    for (int point = 0; point < kTile.points(); ++point) {
      const uint8_t *inputs =
          work.inputs + point * kWinogradTiles * point_bytes_;
      for (int64_t step = 0; step < k_steps_; step += packed_.part_steps) {
        const int64_t steps = std::min(packed_.part_steps, k_steps_ - step);
        multiply_part(share.tiles, block, inputs + 4 * step, steps, weights,
                      acc);
        weights += block * (1 + steps) * kBytes;
        acc += kWinogradTiles * stored_vectors(block) * kLanes;
      }
    }
  }

  // Those of a part at a point.
  void multiply_part(int64_t tiles, int64_t block, const uint8_t *inputs,
                     int64_t k_steps, const int8_t *weights,
                     int32_t *acc) const {
    const int64_t calls = (tiles + kMr - 1) / kMr;
    for (int64_t call = 0; call < calls; ++call) {
      const int64_t first = tiles * call / calls;
      const int64_t end = tiles * (call + 1) / calls;
      const auto run = microkernel_for<kMr, kNr>(
          end - first, block,
          [](auto mr, auto nr) { return multiply<mr, nr>; });
      run(inputs + first * point_bytes_, point_bytes_, k_steps, weights,
          acc + first * stored_vectors(block) * kLanes);
    }
  }

  // Makes the outputs of a tile, times 2^shift, from accumulators whose points
  // are `next` apart. Calls with each output, its row and its column.
  template <class Take>
  AQD_TARGET AQD_INLINE static void transform_acc(const int32_t *acc,
                                                  int64_t next,
                                                  const Take &take) {
    Sums rows[kInputRows][kTileColumns];
#pragma GCC unroll 6
    for (int y = 0; y < kInputRows; ++y) {
      Sums m[kInputColumns];
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x, acc += next) {
        m[x] = load_as<Sums>(acc);
      }
      transform_output<kTileColumns>(m, 1, rows[y]);
    }
    constexpr auto kInverse =
        static_cast<std::decay_t<decltype(Sums{}[0])>>(kTile.inverse());
#pragma GCC unroll 4
    for (int x = 0; x < kTileColumns; ++x) {
      Sums column[kRows];
      transform_output<kRows>(rows[0] + x, kTileColumns, column);
#pragma GCC unroll 4
      for (int y = 0; y < kRows; ++y) take(column[y] * kInverse, y, x);
    }
  }

  // Makes the outputs of a tile for a vector of channels, or for two together,
  // and stores each row of them at `to` of one of `outputs`.
  AQD_TARGET void make_tile(const int32_t *acc, int64_t part_step,
                            const int32_t *window_sums, int64_t to,
                            AccGroup &outputs) const {
    using Lanes = typename Simd::Lanes;
    const int64_t next = parts_ * part_step;
    if constexpr (Mac::kIsShort) {
      const auto low =
          static_cast<uint16_t>(packed_.part_low * (1 << kTile.shift()));
      for (int64_t part = 0; part < parts_; ++part, acc += part_step) {
        transform_acc(acc, next, [&](Sums sums, int y, int x) AQD_TARGET {
          // The outputs of a part less the lowest one have no sign.
          const Numbers both = Numbers(sums - low);
          const Numbers twice[] = {both << 16 >> (16 + kTile.shift() - 1),
                                   both >> (16 + kTile.shift() - 1)};
          const int32_t window_sum = window_sums[y * kTileColumns + x];
#pragma GCC unroll 2
          for (int v = 0; v < kTogether; ++v) {
            int32_t *out = outputs[v][y].acc + to + x * kLanes;
            const Lanes sum =
                part == 0 ? Simd::fill(window_sum) : Simd::load(out);
            Simd::store(Lanes(twice[v]) + sum, out);
          }
        });
      }
    } else {
      transform_acc(acc, next, [&](Sums scaled, int y, int x) AQD_TARGET {
        Lanes sum = Lanes(scaled);
        if (kIsBytes && packed_.is_halved) {
          sum =
              (sum >> (kTile.shift() - 1)) + window_sums[y * kTileColumns + x];
        } else {
          sum >>= kTile.shift();
        }
        Simd::store(sum, outputs[0][y].acc + to + x * kLanes);
      });
    }
  }

  // The tiles of a share from one on that an epilogue takes at a time; none
  // behind the last one.
  TileGroup group_at(const WinogradShare &share, int64_t i) const {
    if (i == share.tiles) return {i, 0, 0, 0};
    const int64_t tiles_across = input_.tiles_across();
    const int64_t first = share.first_tile + i, tile = tile_at(first);
    const int64_t across = tile % tiles_across;
    const int64_t most = std::min<int64_t>(
        {kTilePixels / kTileColumns, share.tiles - i, tiles_across - across});
    int64_t count = 1;
    while (count < most && tile_at(first + count) == tile + count) ++count;
    return {i, count, tile / tiles_across * kRows, across * kTileColumns};
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
    AccGroup outputs;
    AccTile<Simd> values;
    const int64_t stored = stored_vectors(block);
    const auto prefetch = [&](const TileCoord &tile, int64_t) {
      epilogue_.prefetch(tile, block);
    };
    TileGroup group = group_at(share, 0), following;
    each_row(group, vector, prefetch);
    for (; group.count > 0; group = following) {
      following = group_at(share, group.first + group.count);
      each_row(following, vector, prefetch);
      for (int64_t v = 0; v < block; ++v) {
        for (int64_t t = 0; t < group.count && v % kTogether == 0; ++t) {
          const int64_t tile = group.first + t;
          make_tile(work.acc() + (tile * stored + v / kTogether) * kLanes,
                    kWinogradTiles * stored * kLanes,
                    work.window_sums() + tile * kRows * kTileColumns,
                    t * kTileColumns * kLanes, outputs);
        }
        each_row(group, vector + v, [&](const TileCoord &tile, int64_t y) {
          values.acc = outputs[v % kTogether][y].acc;
          epilogue_.run(tile, &values);
        });
      }
    }
  }

  const PackedWinograd &packed_;
  const FusedOp &fused_;
  const Epilogue<Simd> &epilogue_;
  const WinogradInput<Simd, kRows, kIsBytes> input_;
  const int64_t point_bytes_, k_steps_, parts_;
  std::vector<int64_t> tiles_;  // that are wanted, row by row
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
             WinogradScratch(kShape, packed, fused.x->channels, memory));
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
