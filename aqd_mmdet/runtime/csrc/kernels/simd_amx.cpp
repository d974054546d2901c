// A microkernel of AMX, 32 pixels x 32 output channels: tiles 0 to 3 hold their
// accumulators, 16 x 16 each; 4 and 5 the input of 16 pixels, 64 bytes of K
// each; 6 and 7 the weights of 16 output channels for them. The epilogue is
// that of AVX-512.

#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include <cpuid.h>

#include <array>
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

// Accumulators of 16 pixels or 32, and of one vector of channels or two.
template <bool kTwoPixelTiles, bool kTwoVectors>
AQD_AMX void microkernel(const DirectConv &conv, const int32_t *acc_init,
                         const uint8_t *codes, const int8_t *weights,
                         const Epilogue<Avx512> &epilogue,
                         const TileCoord &tile, AccTile<Avx512> *values) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
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
  // The epilogue of a tile of accumulators, of some pixels and a vector.
  const auto finish = [&](int64_t column, int v) AQD_AMX {
    const auto init = Avx512::load(acc_init + v * kLanes);
    TileCoord each = tile;
    each.column += column;
    each.vector += v;
    each.pixels -= static_cast<int>(column);
    if (column == 0 && kTwoPixelTiles) each.pixels = static_cast<int>(kRows);
    for (int64_t i = 0; i < each.pixels * kLanes; i += kLanes) {
      Avx512::store(Avx512::load(values->acc + i) + init, values->acc + i);
    }
    epilogue.run(each, values);
  };
  // Stored one by one: the number of a tile is part of the instruction.
  _tile_stored(0, values->acc, 64);
  finish(0, 0);
  if (kTwoPixelTiles) {
    _tile_stored(2, values->acc, 64);
    finish(kRows, 0);
  }
  if (!kTwoVectors) return;
  _tile_stored(1, values->acc, 64);
  finish(0, 1);
  if (kTwoPixelTiles) {
    _tile_stored(3, values->acc, 64);
    finish(kRows, 1);
  }
}

// Pixels from one column of each row to another, by one tile configuration.
AQD_AMX void columns(const PackedAmx &packed, const DirectConv &conv,
                     const AccRows<Avx512> &to, int64_t first, int64_t end) {
  if (first == end) return;
  const int64_t pixels = std::min<int64_t>(2 * kRows, end - first);
  const bool two = pixels > kRows;
  const int64_t vectors = vectors_of(to.fused.channels, kLanes);
  const int64_t each = conv.weight_bytes(kLanes, kAmxSteps);
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
            packed.weights.data()->bytes + v * each, to.epilogue, tile,
            &values);
      }
    }
  }
  _tile_release();
}

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
    const int64_t whole = to.fused.size.width / (2 * kRows) * (2 * kRows);
    columns(packed, conv, to, 0, whole);
    columns(packed, conv, to, whole, to.fused.size.width);
  });
}

}  // namespace aqd

#endif
