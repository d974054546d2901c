// What follows the sums of a tile of a LUT convolution: sums of 64 pixels for
// each output channel become accumulators of 16 channels for each pixel, which
// the epilogue takes. Where a requantisation to at most four codes is all that
// follows, it is done before that, with 16 bits.

#pragma once

#include "kernels/simd_avx512.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/lut_indices.h"
#include "kernels/lut_pack.h"

namespace aqd {

// The thresholds of one output channel (PackedRequantize), with 16 bits.
struct ChannelThresholds {
  int16_t acc_init, table[2 + kThresholds];
};

// The thresholds of all channels, if they are all that follows; otherwise none.
inline std::vector<ChannelThresholds> channel_thresholds(
    const FusedOp &fused, const PackedLut &packed) {
  constexpr int kLanes = Avx512::kShape.lanes;
  const PostOp &last = fused.ops.back();
  const std::vector<int32_t> &rules = last.node->packed.requantize.thresholds;
  const int64_t max_code = packed.scheme->max_code();
  const int64_t max_acc = packed.k_groups.lookups() *
                          packed.scheme->per_index * max_code * max_code;
  if (fused.ops.size() != 2 || rules.empty() ||
      fused.ops[0].out != nullptr || last.out == nullptr ||
      bytes_of(last.out->type) != 1 || fused.channels % kLanes != 0 ||
      max_acc > INT16_MAX) {
    return {};
  }
  const auto saturate = [](int32_t x) {
    return static_cast<int16_t>(std::clamp<int32_t>(x, INT16_MIN, INT16_MAX));
  };
  std::vector<ChannelThresholds> all(static_cast<size_t>(fused.channels));
  for (size_t c = 0; c < all.size(); ++c) {
    const int32_t *from =
        rules.data() + c / kLanes * thresholds_stride(kLanes) + c % kLanes;
    all[c].acc_init = saturate(packed.acc_init[c]);
    for (int16_t &number : all[c].table) {
      number = saturate(*from);
      from += kLanes;
    }
  }
  return all;
}

class LutEpilogue {
 public:
  LutEpilogue(const FusedOp &fused, const PackedLut &packed,
              const IndexPlanes &planes, const LutTile &tile,
              const Epilogue<Avx512> &epilogue)
      : packed_(packed), planes_(planes), tile_(tile), size_(fused.size),
        channels_(fused.channels), epilogue_(epilogue) {}

  // Where thresholds are all that follows.
  AQD_VBMI void run(const std::vector<ChannelThresholds> &thresholds,
                    const LutScratch &work, const Tensor &out) const {
    int64_t pixels[kLutMr * kLutPixels];  // where they are stored; -1 for none
    for (int64_t i = 0; i < tile_.vectors * kLutPixels; ++i) {
      const int64_t row = tile_.row_of(i);
      pixels[i] = row < size_.height
                      ? (row * size_.width + tile_.column_of(i)) * channels_
                      : -1;
    }
    for (int64_t y = 0; y < tile_.vectors; ++y) {
      __m512i even = _mm512_setzero_si512(), odd = even;
      for (int64_t tap = 0; tap < packed_.k_groups.taps(); ++tap) {
        const LutSums &codes =
            work.code_sums[y * planes_.vector_step + planes_.of_tap(tap)];
        even = _mm512_add_epi16(even, even_pixels(codes));
        odd = _mm512_add_epi16(odd, odd_pixels(codes));
      }
      for (int64_t c = 0; c < channels_; c += kLanes) {
        __m512i x[kLanes];
        for (int64_t i = 0; i < kLanes; ++i) {
          const LutSums &sums = work.sums[(c + i) * kLutMr + y];
          const ChannelThresholds &rule = thresholds[static_cast<size_t>(c + i)];
          const __m512i first = requantized(rule, even_pixels(sums), even);
          const __m512i second = requantized(rule, odd_pixels(sums), odd);
          x[i] = _mm512_mask_mov_epi8(first, 0xaaaaaaaaaaaaaaaa,
                                      _mm512_slli_epi16(second, 8));
        }
        transpose_bytes(x);
        store(x, pixels + y * kLutPixels,
              static_cast<uint8_t *>(out.data) + c);
      }
    }
  }

  AQD_VBMI void run(const LutScratch &work) {
    const int64_t vectors = vectors_of(channels_, kLanes);
    for (int64_t y = 0; y < tile_.vectors; ++y) {
      prefetch(y, 0, 0, kLutPixels);
      sum_windows(work.code_sums + y * planes_.vector_step);
      for (int64_t v = 0; v < vectors; ++v) {
        for (int64_t i = 0; i < kLanes; ++i) {
          // The last vector repeats the last channel; it is not stored again.
          const int64_t out = std::min<int64_t>(v * kLanes + i, channels_ - 1);
          separate(work.sums[out * kLutMr + y], lanes_[i]);
        }
        for (int64_t first = 0; first < kLutPixels; first += kLanes) {
          if (v + 1 < vectors) prefetch(y, v + 1, first, kLanes);
          finish(y, v, first);
        }
      }
    }
  }

 private:
  static constexpr int kLanes = Avx512::kShape.lanes;

  AQD_VBMI static __m512i odd_pixels(const LutSums &sums) {
    return _mm512_load_si512(sums.uppers);
  }
  AQD_VBMI static __m512i even_pixels(const LutSums &sums) {
    return _mm512_sub_epi16(_mm512_load_si512(sums.words),
                            _mm512_slli_epi16(odd_pixels(sums), 8));
  }

  // Sums of 64 pixels in their order.
  AQD_VBMI static void separate(const LutSums &sums, uint16_t *to) {
    const __m512i odd = odd_pixels(sums), even = even_pixels(sums);
    const __m512i low = _mm512_unpacklo_epi16(even, odd);
    const __m512i high = _mm512_unpackhi_epi16(even, odd);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_store_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_store_si512(to + 32, _mm512_permutex2var_epi64(low, second, high));
  }

  // Codes of a channel, of its sums and those of the codes in the windows.
  AQD_VBMI static __m512i requantized(const ChannelThresholds &rule,
                                      __m512i sums, __m512i window_sums) {
    const __m512i init = _mm512_set1_epi16(rule.acc_init);
    const __m512i acc = _mm512_add_epi16(_mm512_slli_epi16(sums, 1),
                                         _mm512_add_epi16(window_sums, init));
    const auto thresholds = thresholds_from<Words>(
        rule.table, 1, [&](const int16_t *number) AQD_VBMI {
      return Words(_mm512_set1_epi16(*number));
    });
    return __m512i(thresholds(Words(acc)));
  }

  // Stores 16 channels of 64 pixels.
  AQD_VBMI static void store(const __m512i *x, const int64_t *pixels,
                             uint8_t *out) {
    for (int64_t p = 0; p < kLanes; ++p) {
      each_quarter(x[p], [&](int quarter, __m128i codes) AQD_VBMI {
        const int64_t at = pixels[16 * quarter + p];
        if (at < 0) return;
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + at), codes);
      });
    }
  }

  // Of each pixel of a vector the sum of the codes in its window.
  AQD_VBMI void sum_windows(const LutSums *codes) {
    alignas(64) uint16_t row[kLutPixels];
    std::memset(window_sums_, 0, sizeof window_sums_);
    for (int64_t tap = 0; tap < packed_.k_groups.taps(); ++tap) {
      separate(codes[planes_.of_tap(tap)], row);
      for (int64_t p = 0; p < kLutPixels; ++p) window_sums_[p] += row[p];
    }
  }

  // Transposes 16 x 16 numbers. Each round turns a place by one bit.
  AQD_VBMI static void transpose(__m512i *x) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                          21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                           13, 29, 14, 30, 15, 31);
    __m512i y[16];
#pragma GCC unroll 4
    for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        y[2 * i] = _mm512_permutex2var_epi32(x[i], low, x[i + 8]);
        y[2 * i + 1] = _mm512_permutex2var_epi32(x[i], high, x[i + 8]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) x[i] = y[i];
    }
  }

  // Calls with the coordinates of some pixels of a vector, as many of a row at
  // once as there are, and with the number of the first in the vector.
  template <class Take>
  AQD_VBMI void each_coord(int64_t y, int64_t vector, int64_t first,
                           int64_t count, const Take &take) const {
    const int64_t pixel = y * kLutPixels + first;
    for (int64_t p = 0, together; p < count; p += together) {
      together = tile_.in_row(pixel + p, std::min<int64_t>(count - p, kLanes));
      const int64_t row = tile_.row_of(pixel + p);
      if (row >= size_.height) continue;
      take(TileCoord{row, tile_.column_of(pixel + p),
                     static_cast<int>(together), vector},
           first + p);
    }
  }

  AQD_VBMI void prefetch(int64_t y, int64_t vector, int64_t first,
                         int64_t count) const {
    each_coord(y, vector, first, count,
               [&](const TileCoord &tile, int64_t) AQD_VBMI {
      epilogue_.prefetch(tile, 1);
    });
  }

  // The epilogue of 16 pixels of a vector.
  AQD_VBMI void finish(int64_t y, int64_t vector, int64_t first) {
    __m512i x[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      x[i] = _mm512_cvtepu16_epi32(_mm256_load_si256(
          reinterpret_cast<const __m256i *>(lanes_[i] + first)));
    }
    transpose(x);
    const __m512i init =
        _mm512_loadu_si512(packed_.acc_init.data() + vector * kLanes);
    each_coord(y, vector, first, kLanes,
               [&](const TileCoord &tile, int64_t pixel) AQD_VBMI {
      for (int64_t i = 0; i < tile.pixels; ++i) {
        const __m512i codes = _mm512_set1_epi32(window_sums_[pixel + i]);
        const __m512i twice = _mm512_slli_epi32(x[pixel - first + i], 1);
        _mm512_store_si512(
            values_.acc + i * kLanes,
            _mm512_add_epi32(_mm512_add_epi32(twice, init), codes));
      }
      epilogue_.run(tile, &values_);
    });
  }

  const PackedLut &packed_;
  const IndexPlanes &planes_;
  const LutTile &tile_;
  const Size size_;
  const int64_t channels_;
  const Epilogue<Avx512> &epilogue_;
  alignas(64) uint16_t lanes_[kLanes][kLutPixels];
  int32_t window_sums_[kLutPixels];
  AccTile<Avx512> values_;
};

}  // namespace aqd
