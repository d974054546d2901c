// The operations of AVX-512 with VNNI, for the templates of kernels (simd.h).

#pragma once

#include <immintrin.h>

#define AQD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define AQD_TARGET AQD_AVX512

#include "kernels/requantize.h"
#include "kernels/simd.h"

namespace aqd {

struct Avx512ByteMac : MacBase<16> {
  AQD_AVX512 static Acc add(Acc acc, Operand codes, Operand weights) {
    return Acc(_mm512_dpbusd_epi32(__m512i(acc), __m512i(codes),
                                   __m512i(weights)));
  }
};

struct Avx512WordMac : MacBase<16> {
  AQD_AVX512 static Acc add(Acc acc, Operand codes, Operand weights) {
    return Acc(_mm512_dpwssd_epi32(__m512i(acc), __m512i(codes),
                                   __m512i(weights)));
  }
};

// 32 values of 16 bits.
using Words = VectorOf<int16_t, 64>::type;

// Calls with the number and the bytes of each quarter of a vector.
template <class Put>
AQD_AVX512 AQD_INLINE void each_quarter(__m512i x, const Put &put) {
  put(0, _mm512_castsi512_si128(x));
  put(1, _mm512_extracti32x4_epi32(x, 1));
  put(2, _mm512_extracti32x4_epi32(x, 2));
  put(3, _mm512_extracti32x4_epi32(x, 3));
}

struct Avx512 : SimdBase<Avx512, 16> {
  static constexpr SimdShape kShape = {16, 4, true, 0, true, true};
  static constexpr int kMr = 6;  // 24 of 32 registers for accumulators
  static constexpr bool kHasInt16Thresholds = true;
  static constexpr bool kHasLines = true;
  static constexpr bool kHasFma = true;
  static constexpr bool kSaturates = true;

  using ByteMac = Avx512ByteMac;
  using WordMac = Avx512WordMac;
  using SimdBase::interleave;
  using SimdBase::load;
  using SimdBase::store;

  AQD_AVX512 static __mmask16 mask(int lanes) {
    return static_cast<__mmask16>((1u << lanes) - 1);
  }

  AQD_AVX512 static Lanes load(const uint8_t *from, int lanes = 16) {
    return Lanes(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask(lanes), from)));
  }
  AQD_AVX512 static Lanes load(const int8_t *from, int lanes = 16) {
    return Lanes(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(lanes), from)));
  }
  AQD_AVX512 static Lanes load(const int16_t *from, int lanes = 16) {
    return Lanes(
        _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask(lanes), from)));
  }
  AQD_AVX512 static Lanes load(const int32_t *from, int lanes) {
    return Lanes(_mm512_maskz_loadu_epi32(mask(lanes), from));
  }
  AQD_AVX512 static void store(Lanes x, int8_t *to, int lanes) {
    _mm_mask_storeu_epi8(to, mask(lanes), _mm512_cvtepi32_epi8(__m512i(x)));
  }
  AQD_AVX512 static void store(Lanes x, int16_t *to, int lanes) {
    _mm256_mask_storeu_epi16(to, mask(lanes),
                             _mm512_cvtepi32_epi16(__m512i(x)));
  }
  AQD_AVX512 static void store(Lanes x, int32_t *to, int lanes) {
    _mm512_mask_storeu_epi32(to, mask(lanes), __m512i(x));
  }

  AQD_AVX512 static Lanes gather(const int32_t *table, Lanes places,
                                 int lanes) {
    return Lanes(_mm512_mask_i32gather_epi32(
        _mm512_setzero_si512(), mask(lanes), __m512i(places), table, 4));
  }

  // lookup_avx512.cpp.
  static void look_up(const LookupTile &tile);

  AQD_AVX512 AQD_INLINE static Lanes interleave(
      const uint8_t *const (&columns)[4], int64_t channel) {
    __m128i x[4];
    for (int i = 0; i < 4; ++i) x[i] = load_as<__m128i>(columns[i] + channel);
    const __m128i low[] = {_mm_unpacklo_epi8(x[0], x[1]),
                           _mm_unpacklo_epi8(x[2], x[3])};
    const __m128i high[] = {_mm_unpackhi_epi8(x[0], x[1]),
                            _mm_unpackhi_epi8(x[2], x[3])};
    const __m256i first = _mm256_set_m128i(_mm_unpackhi_epi16(low[0], low[1]),
                                           _mm_unpacklo_epi16(low[0], low[1]));
    const __m256i last = _mm256_set_m128i(_mm_unpackhi_epi16(high[0], high[1]),
                                          _mm_unpacklo_epi16(high[0], high[1]));
    return Lanes(_mm512_inserti64x4(_mm512_castsi256_si512(first), last, 1));
  }

  AQD_AVX512 static void stream(Lanes x, int32_t *to) {
    _mm512_stream_si512(reinterpret_cast<__m512i *>(to), __m512i(x));
  }
  // By assembly, since compilers take a function that only prefetches for one
  // that does nothing.
  static void prefetch(const uint8_t *at) {
    asm volatile("prefetcht0 %0" : : "m"(*at));
  }
  static void prefetch_write(const uint8_t *at) {
    asm volatile("prefetchw %0" : : "m"(*at));
  }

  AQD_AVX512 static Lanes multiply_add(Lanes x, Lanes m, Lanes b) {
    return Lanes(_mm512_castps_si512(_mm512_fmadd_round_ps(
        __m512(x), __m512(m), __m512(b),
        _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)));
  }

  template <int half>
  AQD_AVX512 static Wide multiply(Lanes x, Lanes m) {
    const Wide a = Wide(x) >> 32 * half, b = Wide(m) >> 32 * half;
    return Wide(_mm512_mul_epi32(__m512i(a), __m512i(b)));
  }
  AQD_AVX512 static Lanes combine(Wide even, Wide odd) {
    return Lanes(_mm512_mask_shuffle_epi32(__m512i(even), 0xaaaa, __m512i(odd),
                                           _MM_PERM_CCAA));
  }

  // Vectors of channels of one pixel, as bytes.
  template <int NR>
  AQD_AVX512 AQD_INLINE static void store_vectors(const Lanes (&x)[NR],
                                                  const ByteSpan &span,
                                                  int8_t *to) {
    const auto at = [&](int v) AQD_AVX512 {
      return v < NR ? __m512i(x[v < NR ? v : 0]) : _mm512_setzero_si512();
    };
    const __m512i bytes = to_bytes(at(0), at(1), at(2), at(3), span);
    if (span.lanes == 16 * NR) {
      if constexpr (NR == 1) {
        store_as(_mm512_castsi512_si128(bytes), to);
      } else if constexpr (NR == 2) {
        store_as(_mm512_castsi512_si256(bytes), to);
      } else if constexpr (NR == 3) {
        store_as(_mm512_castsi512_si256(bytes), to);
        store_as(_mm512_extracti32x4_epi32(bytes, 2), to + 32);
      } else {
        store_as(bytes, to);
      }
    } else {
      _mm512_mask_storeu_epi8(to, (uint64_t{1} << span.lanes) - 1, bytes);
    }
  }

  // Numbers of four vectors, clamped, one vector after the other.
  AQD_AVX512 AQD_INLINE static __m512i to_bytes(__m512i a, __m512i b, __m512i c,
                                                __m512i d,
                                                const ByteSpan &span) {
    const __m512i first = _mm512_packs_epi32(a, b);
    const __m512i second = _mm512_packs_epi32(c, d);
    return span.clamped(
        transpose(span.is_unsigned ? _mm512_packus_epi16(first, second)
                                   : _mm512_packs_epi16(first, second)));
  }

  // Packed numbers, of which each vector's come four at a time in turn, to all
  // of each vector: a matrix of 4 x 4 times 32 bits.
  AQD_AVX512 AQD_INLINE static __m512i transpose(__m512i x) {
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, x);
  }

  // As bytes, those of four pixels from p on that there are.
  AQD_AVX512 AQD_INLINE static void store_four(const Lanes (&x)[4], int p,
                                               int pixels,
                                               const ByteSpan &span) {
    const __m512i bytes = to_bytes(__m512i(x[0]), __m512i(x[1]), __m512i(x[2]),
                                   __m512i(x[3]), span);
    int8_t *to = span.to + p * span.next;
    const auto store = [&](int pixel, __m128i codes) AQD_AVX512 {
      _mm_storeu_si128(reinterpret_cast<__m128i *>(to + pixel * span.next),
                       codes);
    };
    if (span.lanes < 16 || pixels - p < 4) {
      each_quarter(bytes, [&](int pixel, __m128i codes) AQD_AVX512 {
        if (p + pixel >= pixels) return;
        _mm_mask_storeu_epi8(to + pixel * span.next, mask(span.lanes), codes);
      });
    } else if (span.next == 16) {
      _mm512_storeu_si512(to, bytes);
    } else {
      each_quarter(bytes, store);
    }
  }

  // Requantises a vector of channels of some pixels to bytes, `next` apart.
  // There is room to read whole groups of four pixels.
  AQD_AVX512 static void store_by_thresholds(const int32_t *table,
                                             const int32_t *x, int pixels,
                                             int64_t next, uint8_t *out) {
    const auto pack = [&](const int32_t *a, const int32_t *b) AQD_AVX512 {
      return Words(_mm512_packs_epi32(_mm512_loadu_si512(a),
                                      _mm512_loadu_si512(b)));
    };
    const auto rule = thresholds_from<Words>(
        table, 16, [&](const int32_t* numbers) AQD_AVX512 {
          return pack(numbers, numbers);
        });
    for (int p = 0; p < pixels; p += 4, x += 64, out += 4 * next) {
      const __m512i codes =
          _mm512_packus_epi16(__m512i(rule(pack(x, x + 16))),
                              __m512i(rule(pack(x + 32, x + 48))));
      each_quarter(transpose(codes),
                   [&](int pixel, __m128i bytes) AQD_AVX512 {
        if (p + pixel >= pixels) return;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + pixel * next), bytes);
      });
    }
  }

  // By lookups (lut.h), and by the tiles of AMX.
  using SimdBase::convolve;
  static void convolve(const FusedOp &fused, const PackedLut &packed,
                       const Workers &workers);
#ifdef AQD_HAS_AMX
  static void convolve(const FusedOp &fused, const PackedAmx &packed,
                       const Workers &workers);
#endif
};

#ifdef AQD_HAS_AMX
// Whether this machine has AMX and the system lets us use it.
bool has_amx();
#endif

}  // namespace aqd
