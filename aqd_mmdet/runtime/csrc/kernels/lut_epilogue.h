// What follows the sums of a tile of a LUT convolution: sums of 64 pixels for
// each output channel become accumulators of 16 channels for each pixel, which
// the epilogue takes. Where a requantisation to at most four codes is all that
// follows, it is done before that, with 16 bits.

#pragma once

#include "kernels/simd_avx512.h"

#include <algorithm>

#include "kernels/epilogue.h"
#include "kernels/lut_indices.h"

namespace aqd {

class LutEpilogue {
 public:
  LutEpilogue(const FusedOp &fused, const PackedLut &packed,
              const LutTile &tile)
      : packed_(packed), tile_(tile), size_(fused.size),
        channels_(fused.channels), last_(fused.ops.back()), epilogue_(fused) {
    const LutScheme &scheme = *packed.scheme;
    const int64_t max_acc = packed.k_groups.lookups() * scheme.per_index *
                            scheme.max_code() * scheme.max_code();
    is_for_int16_ = fused.ops.size() == 2 && fused.ops[0].out == nullptr &&
                    !last_.node->packed.requantize.thresholds.empty() &&
                    last_.out != nullptr && bytes_of(last_.out->type) == 1 &&
                    fused.channels % kLanes == 0 && max_acc < INT16_MAX;
  }

  AQD_VBMI void run(const LutScratch &work) {
    const int64_t vectors = vectors_of(channels_, kLanes);
    for (int64_t y = 0; y < tile_.vectors(); ++y) {
      sum_windows(work.code_sums() + y * packed_.k_groups.taps);
      if (is_for_int16_) {
        store_by_thresholds(work.sums() + y, y);
        continue;
      }
      for (int64_t first = 0; first < kLutPixels; first += LutTile::kGroup) {
        prefetch(y, 0, first);
      }
      for (int64_t v = 0; v < vectors; ++v) {
        gather(work.sums() + y, v);
        for (int64_t first = 0; first < kLutPixels; first += LutTile::kGroup) {
          if (v + 1 < vectors) prefetch(y, v + 1, first);
          finish(y, v, first);
        }
      }
    }
  }

 private:
  static constexpr int64_t kLanes = Avx512::kShape.lanes;
  // A group of pixels fits a tile of the epilogue.
  static_assert(LutTile::kGroup <= kTilePixels);

  AQD_VBMI static __m512i odd_pixels(const LutSums &sums) {
    return _mm512_load_si512(sums.uppers);
  }
  AQD_VBMI static __m512i even_pixels(const LutSums &sums) {
    return _mm512_sub_epi16(_mm512_load_si512(sums.words),
                            _mm512_slli_epi16(odd_pixels(sums), 8));
  }

  // Of each pixel of a vector the sum of the codes in its window.
  AQD_VBMI void sum_windows(const LutSums *codes) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int64_t tap = 0; tap < packed_.k_groups.taps; ++tap) {
      even = _mm512_add_epi16(even, even_pixels(codes[tap]));
      odd = _mm512_add_epi16(odd, odd_pixels(codes[tap]));
    }
    _mm512_store_si512(window_sums_[0], even);
    _mm512_store_si512(window_sums_[1], odd);
  }

  // Codes of a channel, whose thresholds are those of a vector's lane.
  AQD_VBMI static __m512i requantize(const int16_t *table, __m512i sums,
                                     const uint16_t *window_sums) {
    const auto splat = [&](const int16_t *number) AQD_VBMI {
      return Words(_mm512_set1_epi16(*number));
    };
    const auto rule = thresholds_from<Words>(table, kLanes, splat);
    const __m512i init = _mm512_add_epi16(
        _mm512_load_si512(window_sums),
        __m512i(splat(table + (2 + kThresholds) * kLanes)));
    return __m512i(rule(
        Words(_mm512_add_epi16(_mm512_slli_epi16(sums, 1), init))));
  }

  // Numbers of a vector of channels as 16 bits.
  AQD_VBMI static void saturate(const int32_t *from, int16_t *to) {
    _mm256_store_si256(reinterpret_cast<__m256i *>(to),
                       _mm512_cvtsepi32_epi16(_mm512_loadu_si512(from)));
  }

  AQD_VBMI void store_by_thresholds(const LutSums *sums, int64_t y) const {
    int64_t places[kLutPixels];  // negative for none
    int64_t *next = places;
    for (int64_t p = 0; p < kLutPixels; p += LutTile::kGroup) {
      tile_.each_run(y * kLutPixels + p, [&](const PixelRun &run) {
        int64_t place = run.row < 0 ? -kLutPixels
                                    : run.row * size_.width + run.column;
        for (int64_t i = 0; i < run.count; ++i) *next++ = place++;
      });
    }
    const int32_t *rules = last_.node->packed.requantize.thresholds.data();
    uint8_t *out = static_cast<uint8_t *>(last_.out->data);
    for (int64_t c = 0; c < channels_; c += kLanes) {
      // Thresholds, then where accumulators start.
      alignas(32) int16_t table[3 + kThresholds][kLanes];
      for (int i = 0; i < 2 + kThresholds; ++i, rules += kLanes) {
        saturate(rules, table[i]);
      }
      // Modulo 2^16: accumulators fit in the end.
      _mm256_store_si256(
          reinterpret_cast<__m256i *>(table[2 + kThresholds]),
          _mm512_cvtepi32_epi16(
              _mm512_loadu_si512(packed_.acc_init.data() + c)));
      __m512i x[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const LutSums &each = sums[(c + i) * kLutMr];
        const __m512i even =
            requantize(table[0] + i, even_pixels(each), window_sums_[0]);
        const __m512i odd =
            requantize(table[0] + i, odd_pixels(each), window_sums_[1]);
        x[i] = _mm512_mask_mov_epi8(even, 0xaaaaaaaaaaaaaaaa,
                                    _mm512_slli_epi16(odd, 8));
      }
      transpose<1>(x);
      for (int p = 0; p < kLanes; ++p) {
        each_quarter(x[p], [&](int quarter, __m128i codes) AQD_VBMI {
          const int64_t place = places[16 * quarter + p];
          if (place < 0) return;
          _mm_storeu_si128(
              reinterpret_cast<__m128i *>(out + place * channels_ + c), codes);
        });
      }
    }
  }

  // The sums of a vector of output channels, transposed. In each quarter of the
  // vectors, which has 8 of the even or odd pixels, 8 channels of one follow
  // one another, and 8 more are in the next vector.
  AQD_VBMI void gather(const LutSums *sums, int64_t vector) {
    __m512i even[kLanes], odd[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      // The last vector repeats the last channel; it is not stored again.
      const int64_t out = std::min<int64_t>(vector * kLanes + i, channels_ - 1);
      even[i] = even_pixels(sums[out * kLutMr]);
      odd[i] = odd_pixels(sums[out * kLutMr]);
    }
    transpose<2>(even);
    transpose<2>(odd);
    for (int i = 0; i < kLanes; ++i) {
      _mm512_store_si512(sums_[0][i], even[i]);
      _mm512_store_si512(sums_[1][i], odd[i]);
    }
  }

  // Calls with the coordinates of a group of pixels of a vector, as many of a
  // row at once as there are, and with the number of the first in the vector.
  template <class Take>
  AQD_VBMI void each_coord(int64_t y, int64_t vector, int64_t first,
                           const Take &take) const {
    tile_.each_run(y * kLutPixels + first, [&](const PixelRun &run) AQD_VBMI {
      if (run.row >= 0) {
        take(TileCoord{run.row, run.column, static_cast<int>(run.count),
                       vector},
             first);
      }
      first += run.count;
    });
  }

  AQD_VBMI void prefetch(int64_t y, int64_t vector, int64_t first) const {
    each_coord(y, vector, first, [&](const TileCoord &tile, int64_t) AQD_VBMI {
      epilogue_.prefetch(tile, 1);
    });
  }

  // The epilogue of some pixels of a vector.
  AQD_VBMI void finish(int64_t y, int64_t vector, int64_t first) {
    const auto init = Avx512::load(packed_.acc_init.data() + vector * kLanes);
    each_coord(y, vector, first,
               [&](const TileCoord &tile, int64_t pixel) AQD_VBMI {
      int32_t *to = values_.acc;
      for (int64_t p = pixel; p < pixel + tile.pixels; ++p, to += kLanes) {
        const int64_t i = p / 2;  // among the even or odd ones
        const uint16_t *from = sums_[p % 2][i % 8 * 2] + i / 8 * 8;
        const __m256i words = _mm256_loadu2_m128i(
            reinterpret_cast<const __m128i *>(from + kLutPixels / 2),
            reinterpret_cast<const __m128i *>(from));
        const auto sums = Avx512::Lanes(_mm512_cvtepu16_epi32(words));
        Avx512::store(sums + sums + init + window_sums_[p % 2][i], to);
      }
      epilogue_.run(tile, &values_);
    });
  }

  const PackedLut &packed_;
  const LutTile &tile_;
  const Size size_;
  const int64_t channels_;
  const PostOp &last_;
  bool is_for_int16_;
  const Epilogue<Avx512> epilogue_;
  // Of even pixels and of odd ones.
  alignas(64) uint16_t sums_[2][kLanes][kLutPixels / 2];
  alignas(64) uint16_t window_sums_[2][kLutPixels / 2];
  AccTile<Avx512> values_;
};

}  // namespace aqd
