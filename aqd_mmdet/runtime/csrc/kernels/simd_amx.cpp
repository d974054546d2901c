// A microkernel of AMX, 32 pixels x 32 output channels: tiles 0 to 3 hold their
// accumulators, 16 x 16 each; 4 and 5 the input of 16 pixels, 64 bytes of K
// each; 6 and 7 the weights of 16 output channels for them. The epilogue is
// that of AVX-512.

#include "kernels/isa.h"

#ifdef AQD_HAS_AMX

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

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

// Accumulators of 16 pixels or 32, and of one vector of channels or two. Those
// of a channel begin as the same number.
template <bool kTwoPixelTiles, bool kTwoVectors>
AQD_AMX void microkernel(const DirectConv &conv, const int32_t *acc_init,
                         const uint8_t *codes, const int8_t *weights,
                         AmxAcc *acc) {
  _tile_loadd(0, acc_init, 0);
  if (kTwoVectors) _tile_loadd(1, acc_init + kLanes, 0);
  if (kTwoPixelTiles) _tile_loadd(2, acc_init, 0);
  if (kTwoPixelTiles && kTwoVectors) _tile_loadd(3, acc_init + kLanes, 0);
  for (const int64_t offset : conv.offsets) {
    const uint8_t *from = codes + offset;
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
  _tile_stored(0, acc->values[0][0], 64);
  if (kTwoVectors) _tile_stored(1, acc->values[1][0], 64);
  if (kTwoPixelTiles) _tile_stored(2, acc->values[0][kRows], 64);
  if (kTwoPixelTiles && kTwoVectors) {
    _tile_stored(3, acc->values[1][kRows], 64);
  }
}

// The epilogue of the pixels of a block that are wanted.
AQD_AMX void finish(const AccRows<Avx512> &to, const TileCoord &block,
                    int64_t vectors, AmxAcc *acc, AccTile<Avx512> *values) {
  to.fused.each_run(block.row, [&](int64_t first, int64_t end) AQD_AMX {
    TileCoord tile = block;
    tile.column = std::max(first, block.column);
    end = std::min(end, block.column + block.pixels);
    if (tile.column >= end) return;
    tile.pixels = static_cast<int>(end - tile.column);
    for (int64_t v = 0; v < vectors; ++v, ++tile.vector) {
      int32_t(*from)[kLanes] = acc->values[v] + (tile.column - block.column);
      values->acc = *from;
      if (tile.pixels < block.pixels) {
        // The epilogue may overwrite some pixels behind a run.
        values->acc = values->buffers[0];
        std::memcpy(values->acc, from,
                    static_cast<size_t>(tile.pixels) * sizeof *from);
      }
      to.epilogue.run(tile, values);
    }
  });
}

// Pixels from one column of each row to another, by one tile configuration.
AQD_AMX void columns(const PackedAmx &packed, const DirectConv &conv,
                     const AccRows<Avx512> &to, int64_t first, int64_t end) {
  if (first == end) return;
  const int64_t pixels = std::min<int64_t>(2 * kRows, end - first);
  const bool two = pixels > kRows;
  const int64_t vectors = vectors_of(to.fused.channels, kLanes);
  const int64_t each = conv.weight_bytes(kLanes, kAmxSteps);
  AmxAcc acc;
  AccTile<Avx512> values;
  _tile_loadconfig(&kTileConfigs[static_cast<size_t>(pixels)]);
  for (int64_t row = 0; row < to.rows.count; ++row) {
    for (int64_t v = 0; v < vectors; v += kAmxNr) {
      const bool both = v + 1 < vectors;
      const auto run =
          two ? (both ? microkernel<true, true> : microkernel<true, false>)
              : (both ? microkernel<false, true> : microkernel<false, false>);
      for (int64_t c = first; c < end; c += 2 * kRows) {
        const TileCoord tile = {to.rows.top + row, c, static_cast<int>(pixels),
                                v};
        if (!to.fused.wants_any(tile.row, c, c + pixels)) continue;
        to.epilogue.prefetch(tile, both ? 2 : 1);
        run(conv, packed.acc_init.data() + v * kLanes,
            to.windows + row * conv.row_step + c * conv.pixel_step,
            packed.weights.data()->bytes + v * each, &acc);
        finish(to, tile, both ? 2 : 1, &acc, &values);
      }
    }
  }
  _tile_release();
}

}  // namespace

bool has_amx() {
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

void Avx512::convolve(const FusedOp &fused, const PackedAmx &packed,
                      const Workers &workers) {
  const InputView view(fused.root(), *fused.x, packed.input);
  const DirectConv conv(fused, packed.input, view);
  convolve_strips<Avx512>(fused, packed.input, view, workers,
                          [&](const AccRows<Avx512> &to) {
    // Whole pairs of tiles first, as the machine is set up for a number of
    // pixels.
    const int64_t whole = to.fused.size.width / (2 * kRows) * (2 * kRows);
    columns(packed, conv, to, 0, whole);
    columns(packed, conv, to, whole, to.fused.size.width);
  });
}

}  // namespace aqd

#endif
