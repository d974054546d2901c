// A microkernel of AMX, 32 pixels x 32 output channels: tiles 0 to 3 hold their
// accumulators, 16 x 16 each; 4 and 5 the input of 16 pixels, 64 bytes of K
// each; 6 and 7 the weights of 16 output channels for them. The epilogue is
// that of AVX-512.

#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include <cpuid.h>

#include <array>
#include <cstring>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels/simd_avx512.h"

#include "kernels/conv_direct.h"

#define AQD_AMX                                                       \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")))

namespace aqd {
namespace {

constexpr int64_t kRows = 16;  // of a tile
constexpr int64_t kTileBytes = 64 * kRows;
constexpr int64_t kLanes = Avx512::kShape.lanes;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// For each number of pixels. (Not on the stack: GCC knows of 8 of its bytes
// alone that they are read.)
using TileConfigs = std::array<TileConfig, 2 * kRows + 1>;

constexpr TileConfigs make_configs() {
  TileConfigs made = {};
  for (int64_t pixels = 1; pixels <= 2 * kRows; ++pixels) {
    const int64_t first = pixels < kRows ? pixels : kRows;
    const int64_t second = pixels > kRows ? pixels - kRows : 1;
    uint8_t *rows = made[static_cast<size_t>(pixels)].rows;
    rows[0] = rows[1] = rows[4] = static_cast<uint8_t>(first);
    rows[2] = rows[3] = rows[5] = static_cast<uint8_t>(second);
  }
  return made;
}

constexpr TileConfigs kTileConfigs = make_configs();

// Accumulators of 32 pixels and two vectors of channels: tiles 0 and 2 are the
// pixels of the first vector, 1 and 3 those of the second.
struct alignas(64) AmxAcc {
  int32_t values[kAmxNr][2 * kRows][kLanes];
};

// Part of K: segments of the window, and the weights for them.
struct KChunk {
  size_t first, end;
  const int8_t *weights;
};

// Adds a part of K to accumulators of 16 pixels or 32, and of one vector of
// channels or two. They begin as numbers of each vector, the same ones for all
// pixels, or as what they are.
template <bool kTwoPixelTiles, bool kTwoVectors>
AQD_AMX void microkernel(const DirectConv &conv, const KChunk &chunk,
                         const int32_t *init, const uint8_t *codes,
                         AmxAcc *acc) {
  int32_t(*values)[2 * kRows][kLanes] = acc->values;
  const int64_t stride = init == nullptr ? 64 : 0;
  const auto begin = [&](int v, int64_t pixel) {
    return init == nullptr ? values[v][pixel] : init + v * kLanes;
  };
  _tile_loadd(0, begin(0, 0), stride);
  if (kTwoVectors) _tile_loadd(1, begin(1, 0), stride);
  if (kTwoPixelTiles) _tile_loadd(2, begin(0, kRows), stride);
  if (kTwoPixelTiles && kTwoVectors) _tile_loadd(3, begin(1, kRows), stride);
  const int8_t *weights = chunk.weights;
  for (size_t i = chunk.first; i < chunk.end; ++i) {
    const uint8_t *from = codes + conv.offsets[i];
    for (int64_t k = 0; k < conv.k_steps; k += kAmxSteps, from += 64) {
      _tile_loadd(4, from, conv.pixel_step);
      _tile_loadd(6, weights, 64);
      _tile_dpbusd(0, 4, 6);
      if (kTwoVectors) {
        _tile_loadd(7, weights + kTileBytes, 64);
        _tile_dpbusd(1, 4, 7);
      }
      if (kTwoPixelTiles) {
        _tile_loadd(5, from + kRows * conv.pixel_step, conv.pixel_step);
        _tile_dpbusd(2, 5, 6);
        if (kTwoVectors) _tile_dpbusd(3, 5, 7);
      }
      weights += kTwoVectors ? 2 * kTileBytes : kTileBytes;
    }
  }
  _tile_stored(0, values[0][0], 64);
  if (kTwoVectors) _tile_stored(1, values[1][0], 64);
  if (kTwoPixelTiles) _tile_stored(2, values[0][kRows], 64);
  if (kTwoPixelTiles && kTwoVectors) _tile_stored(3, values[1][kRows], 64);
}

// Runs the rows of some columns, by one tile configuration.
class AmxColumns {
 public:
  AmxColumns(const PackedAmx &packed, const DirectConv &conv,
             const AccRows<Avx512> &to, int64_t pixels)
      : packed_(packed), conv_(conv), to_(to), pixels_(pixels),
        segment_bytes_(conv.weight_bytes(kLanes, kAmxSteps) /
                       static_cast<int64_t>(conv.offsets.size())) {
    const int64_t most = kAmxChunkBytes / (kAmxNr * segment_bytes_);
    chunk_ = static_cast<size_t>(std::max<int64_t>(most, 1));
  }

  // From one column to before another.
  AQD_AMX void run(int64_t first, int64_t end) {
    if (first == end) return;
    _tile_loadconfig(&kTileConfigs[static_cast<size_t>(pixels_)]);
    const int64_t vectors = vectors_of(to_.fused.channels, kLanes);
    for (int64_t i = 0; i < to_.rows.count; ++i) {
      for (int64_t c = first; c < end; c += kBlocks * 2 * kRows) {
        find_blocks(to_.rows.top + i, c, end);
        for (int64_t v = 0; v < vectors; v += kAmxNr) {
          make(i, v, v + 1 < vectors ? 2 : 1);
        }
      }
    }
    _tile_release();
  }

 private:
  // Blocks of 32 pixels whose accumulators are kept: the 24 kB stay in the L1
  // cache beside a part of K.
  static constexpr int64_t kBlocks = 6;

  // The blocks of a row that are wanted, from a column on.
  void find_blocks(int64_t row, int64_t first, int64_t end) {
    count_ = 0;
    end = std::min(end, first + kBlocks * 2 * kRows);
    for (int64_t c = first; c < end; c += 2 * kRows) {
      if (to_.fused.wants_any(row, c, c + pixels_)) columns_[count_++] = c;
    }
  }

  // All blocks of a row for one vector of channels or two.
  AQD_AMX void make(int64_t row, int64_t vector, int64_t vectors) {
    const bool two = pixels_ > kRows, both = vectors == 2;
    const auto add = two ? (both ? microkernel<true, true>
                                 : microkernel<true, false>)
                         : (both ? microkernel<false, true>
                                 : microkernel<false, false>);
    const size_t segments = conv_.offsets.size();
    const uint8_t *windows = to_.windows + row * conv_.row_step;
    const int32_t *init = packed_.acc_init.data() + vector * kLanes;
    const int8_t *weights = packed_.weights.data()->bytes +
                            vector * segment_bytes_ *
                                static_cast<int64_t>(segments);
    for (size_t first = 0; first < segments; first += chunk_) {
      const KChunk chunk = {first, std::min(first + chunk_, segments),
                            weights + static_cast<int64_t>(first) * vectors *
                                          segment_bytes_};
      for (int64_t i = 0; i < count_; ++i) {
        TileCoord tile = {to_.rows.top + row, columns_[i],
                          static_cast<int>(pixels_), vector};
        const bool is_last = chunk.end == segments;
        if (is_last) to_.epilogue.prefetch(tile, vectors);
        add(conv_, chunk, first == 0 ? init : nullptr,
            windows + columns_[i] * conv_.pixel_step, &acc_[i]);
        if (is_last) finish(tile, vectors, &acc_[i]);
      }
    }
  }

  // The epilogue of the pixels of a block that are wanted.
  AQD_AMX void finish(const TileCoord &block, int64_t vectors, AmxAcc *acc) {
    to_.fused.each_run(block.row, [&](int64_t first, int64_t end) AQD_AMX {
      TileCoord tile = block;
      tile.column = std::max(first, block.column);
      end = std::min(end, block.column + pixels_);
      if (tile.column >= end) return;
      tile.pixels = static_cast<int>(end - tile.column);
      for (int64_t v = 0; v < vectors; ++v, ++tile.vector) {
        values_.acc = acc->values[v][tile.column - block.column];
        if (tile.pixels < pixels_) {
          // The epilogue may overwrite some pixels behind a run.
          std::memcpy(values_.buffers[0], values_.acc,
                      static_cast<size_t>(tile.pixels) * sizeof acc->values[v][0]);
          values_.acc = values_.buffers[0];
        }
        to_.epilogue.run(tile, &values_);
      }
    });
  }

  const PackedAmx &packed_;
  const DirectConv &conv_;
  const AccRows<Avx512> &to_;
  const int64_t pixels_;         // of a block
  const int64_t segment_bytes_;  // of the weights of a vector
  size_t chunk_;                 // segments that are summed together
  int64_t columns_[kBlocks], count_ = 0;
  AmxAcc acc_[kBlocks];
  AccTile<Avx512> values_;
};

}  // namespace

bool has_amx() {
#ifdef __linux__
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

void Avx512::convolve(const FusedOp &fused, const PackedAmx &packed,
                      const Workers &workers) {
  const InputView view(fused.root(), *fused.x, packed.input);
  const DirectConv conv(fused, packed.input, view);
  convolve_strips<Avx512>(fused, packed.input, view, workers,
                          [&](const AccRows<Avx512> &to) {
    // Whole pairs of tiles first, as the machine is set up for a number of
    // pixels.
    const int64_t width = to.fused.size.width, rest = width % (2 * kRows);
    AmxColumns(packed, conv, to, 2 * kRows).run(0, width - rest);
    AmxColumns(packed, conv, to, rest).run(width - rest, width);
  });
}

}  // namespace aqd

#endif
