// A part of the output of a LUT convolution: some vectors of 64 pixels, taken
// row by row from columns that are 64, or the rest on the right.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <vector>

#include "kernels/lut_pack.h"

#define AQD_VBMI                                                      \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

namespace aqd {

struct LutTile {
  int64_t left, columns;
  int64_t first;    // pixel of these columns
  int64_t vectors;  // kLutMr at most

  int64_t row_of(int64_t pixel) const { return (first + pixel) / columns; }
  int64_t column_of(int64_t pixel) const {
    return left + (first + pixel) % columns;
  }
  // How many pixels from one on are in one row.
  int64_t in_row(int64_t pixel, int64_t most) const {
    return std::min(most, columns - (first + pixel) % columns);
  }
};

inline std::vector<LutTile> lut_tiles(Size size, int threads) {
  const int64_t vectors =
      size.height * ((size.width + kLutPixels - 1) / kLutPixels);
  // Small maps are divided among threads rather than into large tiles.
  const int64_t each =
      std::clamp<int64_t>((vectors + threads - 1) / threads, 1, kLutMr);
  std::vector<LutTile> tiles;
  for (int64_t left = 0; left < size.width; left += kLutPixels) {
    const int64_t columns = std::min<int64_t>(kLutPixels, size.width - left);
    const int64_t pixels = columns * size.height;
    for (int64_t first = 0; first < pixels; first += each * kLutPixels) {
      const int64_t rest = (pixels - first + kLutPixels - 1) / kLutPixels;
      tiles.push_back({left, columns, first, std::min(each, rest)});
    }
  }
  return tiles;
}

// Transposes bytes, 16 x 16 in each quarter of the vectors. Each round turns the
// place of a byte, a number of 8 bits, by one bit.
AQD_VBMI inline void transpose_bytes(__m512i *x) {
  __m512i y[16];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm512_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm512_unpackhi_epi8(x[i], x[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

}  // namespace aqd
