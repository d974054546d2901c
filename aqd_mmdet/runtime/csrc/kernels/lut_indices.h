// The indices of a LUT convolution: packs codes of the input into index bytes
// (lut.h), 64 pixels of each plane and K group.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <vector>

#include "kernels/lut.h"
#include "kernels/fused_op.h"

#define AQD_VBMI                                                      \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

namespace aqd {

// A part of the output: some vectors of 64 pixels, taken row by row from columns
// that are 64, or the rest on the right.
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

// Transposes 16 vectors of numbers of so many bytes, in each quarter of the
// vectors by itself. Each round turns the place of a number by one bit.
template <int kBytes>
AQD_VBMI inline void transpose(__m512i *x) {
  __m512i y[16];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < 8; ++i) {
      const __m512i a = x[i], b = x[i + 8];
      y[2 * i] = kBytes == 1 ? _mm512_unpacklo_epi8(a, b)
                             : _mm512_unpacklo_epi16(a, b);
      y[2 * i + 1] = kBytes == 1 ? _mm512_unpackhi_epi8(a, b)
                                 : _mm512_unpackhi_epi16(a, b);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

class IndexPacker {
 public:
  IndexPacker(const FusedOp &fused, const PackedLut &packed,
              const IndexPlanes &planes, const LutTile &tile)
      : window_(fused.conv().window), x_(*fused.x), out_(fused.size),
        scheme_(*packed.scheme), k_groups_(packed.k_groups), planes_(planes),
        tile_(tile) {}

  // Packs a block of K groups, to K group x plane x pixel. Codes of 64 groups of
  // a pixel lie together in the input, pixels of a group in the planes.
  AQD_VBMI void pack(int64_t first_group, uint8_t *to) {
    for (int i = 0; i < scheme_.per_index; ++i) {
      const int64_t channel =
          k_groups_.is_wide ? first_group : first_group + i * k_groups_.count;
      const int64_t left =
          std::min(k_groups_.count - first_group, x_.channels - channel);
      masks_[i] = left >= kLutIndexBlock ? ~0ull
                  : left <= 0            ? 0
                                         : (1ull << left) - 1;
      channels_[i] = channel;
    }
    for (int64_t plane = 0; plane < planes_.count; ++plane) {
      for (int64_t first = 0; first < kLutPixels; first += 16) {
        __m512i x[16];
        const int64_t pixel = first_pixel(plane) + first;
        for (int64_t i = 0, count; i < 16; i += count) {
          count = tile_.in_row(pixel + i, 16 - i);
          read(plane, pixel + i, count, x + i);
        }
        transpose<1>(x);
        store(x, to + plane * kLutPixels + first);
      }
    }
  }

 private:
  // Bytes of 16 pixels for each of 64 K groups.
  AQD_VBMI void store(const __m512i *x, uint8_t *to) const {
    const int64_t next = planes_.count * kLutPixels;
    for (int64_t i = 0; i < 16; ++i, to += next) {
      each_quarter(x[i], [&](int64_t quarter, __m128i bytes) AQD_VBMI {
        _mm_store_si128(
            reinterpret_cast<__m128i *>(to + 16 * quarter * next), bytes);
      });
    }
  }

  // The tile's pixel that is the first one of a plane.
  int64_t first_pixel(int64_t plane) const {
    return planes_.is_shared ? 0 : plane / k_groups_.taps() * kLutPixels;
  }

  // The row of the input that a pixel of a plane reads; none is -1.
  int64_t row_of(int64_t plane, int64_t pixel) const {
    const int64_t out = tile_.row_of(pixel);
    if (out >= out_.height) return -1;
    const int64_t below = planes_.is_shared
                              ? plane / k_groups_.columns
                              : plane % k_groups_.taps() / k_groups_.columns *
                                    window_.dilation.height;
    const int64_t row =
        out * window_.stride.height + below - window_.padding.height;
    return row < x_.size.height ? row : -1;
  }

  // Indices of 64 K groups at some pixels of a plane, neighbours in one row.
  AQD_VBMI void read(int64_t plane, int64_t pixel, int64_t count,
                     __m512i *to) const {
    const int64_t row = row_of(plane, pixel);
    const int64_t there = row < 0 ? 0 : count;
    const int64_t step = window_.stride.width;
    const int64_t next = k_groups_.is_wide ? window_.dilation.width : 0;
    const int64_t column = tile_.column_of(pixel) * step -
                           window_.padding.width +
                           plane % k_groups_.columns * window_.dilation.width;
    const int64_t last = column + (there - 1) * step + 2 * next;
    const bool is_inside = column >= 0 && last < x_.size.width;
    const int64_t row_codes = int64_t{x_.size.width} * x_.channels;
    const uint8_t *from = static_cast<const uint8_t *>(x_.data) +
                          row * row_codes + column * x_.channels;
    for (int64_t i = 0; i < there; ++i, from += step * x_.channels) {
      __m512i index = _mm512_setzero_si512();
      for (int j = 0; j < scheme_.per_index; ++j) {
        const uint8_t *codes = from + j * next * x_.channels + channels_[j];
        // The row below is that of the next plane, most often. Rows are longer
        // than what a processor prefetches by itself.
        if (!k_groups_.is_wide || j == 2) {
          _mm_prefetch(reinterpret_cast<const char *>(codes + row_codes),
                       _MM_HINT_T0);
        }
        const int64_t at = column + i * step + j * next;
        if (!is_inside && (at < 0 || at >= x_.size.width)) continue;
        // Codes have few bits, so that none is shifted into the byte beside it.
        const __m128i by = _mm_cvtsi32_si128(j * scheme_.bits);
        index = _mm512_or_si512(
            index,
            _mm512_sll_epi16(_mm512_maskz_loadu_epi8(masks_[j], codes), by));
      }
      to[i] = index;
    }
    for (int64_t i = there; i < count; ++i) to[i] = _mm512_setzero_si512();
  }

  const Window &window_;
  const Tensor &x_;
  const Size out_;
  const LutScheme &scheme_;
  const KGroups &k_groups_;
  const IndexPlanes &planes_;
  const LutTile &tile_;
  // Of the codes of an index: which of 64 K groups have one, and the channel of
  // the first.
  __mmask64 masks_[3];
  int64_t channels_[3];
};

}  // namespace aqd
