// The operations of AVX-512 with VNNI, for the templates of kernels (simd.h).

#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/packing.h"
#include "kernels/simd.h"
#include "thread_pool.h"

#define AQD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define AQD_TARGET AQD_AVX512

#include "kernels/requantize.h"

namespace aqd {

template <bool kIsBytes>
struct Avx512Mac {
  using Acc = __m512i;
  using Weights = __m512i;
  static constexpr bool kIsShort = false;

  AQD_AVX512 static Acc begin(const int32_t *from) {
    return _mm512_loadu_si512(from);
  }
  AQD_AVX512 static void end(Acc acc, int32_t *to) {
    _mm512_storeu_si512(to, acc);
  }
  AQD_AVX512 static Weights load(const int8_t *from) {
    return _mm512_loadu_si512(from);
  }
  AQD_AVX512 static __m512i broadcast(const uint8_t *codes) {
    int32_t four;
    std::memcpy(&four, codes, 4);
    return _mm512_set1_epi32(four);
  }
  AQD_AVX512 static Acc add(Acc acc, __m512i codes, Weights weights) {
    return kIsBytes ? _mm512_dpbusd_epi32(acc, codes, weights)
                    : _mm512_dpwssd_epi32(acc, codes, weights);
  }
};

// Thresholds (requantize.h) for 32 values of 16 bits.
class Int16Thresholds {
 public:
  // Of a vector of channels, twice: for values of two pixels, packed.
  AQD_AVX512 explicit Int16Thresholds(const int32_t *table)
      : flip_(twice(table)), low_(twice(table + 16)) {
    for (int i = 0; i < kThresholds; ++i) {
      threshold_[i] = twice(table + (2 + i) * 16);
    }
  }
  // Of one channel.
  AQD_AVX512 Int16Thresholds(int16_t flip, int16_t low,
                             const int16_t *thresholds)
      : flip_(_mm512_set1_epi16(flip)), low_(_mm512_set1_epi16(low)) {
    for (int i = 0; i < kThresholds; ++i) {
      threshold_[i] = _mm512_set1_epi16(thresholds[i]);
    }
  }

  AQD_AVX512 AQD_INLINE __m512i operator()(__m512i x) const {
    const __m512i one = _mm512_set1_epi16(1);
    x = _mm512_xor_si512(x, flip_);
    __m512i code = low_;
#pragma GCC unroll 3
    for (int i = 0; i < kThresholds; ++i) {
      const __mmask32 more = _mm512_cmpgt_epi16_mask(x, threshold_[i]);
      code = _mm512_mask_add_epi16(code, more, code, one);
    }
    return code;
  }

 private:
  AQD_AVX512 static __m512i twice(const int32_t *numbers) {
    const __m512i x = _mm512_loadu_si512(numbers);
    return _mm512_packs_epi32(x, x);
  }

  __m512i flip_, low_, threshold_[kThresholds];
};

struct Avx512 : SimdDefaults {
  static constexpr SimdShape kShape = {16, 4, true, true, 0, true, true};
  static constexpr int kMr = 6;  // 24 of 32 registers for accumulators
  static constexpr bool kHasMasks = true;
  static constexpr bool kStreams = true;
  static constexpr bool kPrefetches = true;
  static constexpr bool kHasInt16Thresholds = true;

  using Lanes = __m512i;
  using Wide = __m512i;
  using ByteMac = Avx512Mac<true>;
  using WordMac = Avx512Mac<false>;

  AQD_AVX512 static __mmask16 mask(int lanes) {
    return static_cast<__mmask16>((1u << lanes) - 1);
  }

  AQD_AVX512 static Lanes load(const uint8_t *from, int lanes = 16) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask(lanes), from));
  }
  AQD_AVX512 static Lanes load(const int8_t *from, int lanes = 16) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(lanes), from));
  }
  AQD_AVX512 static Lanes load(const int16_t *from, int lanes = 16) {
    return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask(lanes), from));
  }
  AQD_AVX512 static Lanes load(const int32_t *from) {
    return _mm512_loadu_si512(from);
  }
  AQD_AVX512 static Lanes load(const int32_t *from, int lanes) {
    return _mm512_maskz_loadu_epi32(mask(lanes), from);
  }
  AQD_AVX512 static Wide load_wide(const int64_t *from) {
    return _mm512_loadu_si512(from);
  }

  AQD_AVX512 static void store(Lanes x, int8_t *to, int lanes) {
    _mm_mask_storeu_epi8(to, mask(lanes), _mm512_cvtepi32_epi8(x));
  }
  AQD_AVX512 static void store(Lanes x, int16_t *to, int lanes) {
    _mm256_mask_storeu_epi16(to, mask(lanes), _mm512_cvtepi32_epi16(x));
  }
  AQD_AVX512 static void store(Lanes x, int32_t *to, int lanes) {
    _mm512_mask_storeu_epi32(to, mask(lanes), x);
  }
  AQD_AVX512 static void store(Lanes x, int32_t *to) {
    _mm512_storeu_si512(to, x);
  }
  AQD_AVX512 static void stream(Lanes x, int32_t *to) {
    _mm512_stream_si512(reinterpret_cast<__m512i *>(to), x);
  }

  // By assembly, since compilers take a function that only prefetches for one
  // that does nothing.
  static void prefetch(const uint8_t *at) {
    asm volatile("prefetcht0 %0" : : "m"(*at));
  }
  static void prefetch_write(const uint8_t *at) {
    asm volatile("prefetchw %0" : : "m"(*at));
  }

  AQD_AVX512 static Lanes fill(int32_t x) { return _mm512_set1_epi32(x); }
  AQD_AVX512 static Lanes add(Lanes x, Lanes y) {
    return _mm512_add_epi32(x, y);
  }
  AQD_AVX512 static Lanes sub(Lanes x, Lanes y) {
    return _mm512_sub_epi32(x, y);
  }
  AQD_AVX512 static Lanes min(Lanes x, Lanes y) {
    return _mm512_min_epi32(x, y);
  }
  AQD_AVX512 static Lanes max(Lanes x, Lanes y) {
    return _mm512_max_epi32(x, y);
  }
  AQD_AVX512 static Lanes bit_xor(Lanes x, Lanes y) {
    return _mm512_xor_si512(x, y);
  }
  AQD_AVX512 static Lanes mac(Lanes acc, Lanes x, Lanes y) {
    return _mm512_add_epi32(acc, _mm512_mullo_epi32(x, y));
  }
  AQD_AVX512 static Lanes add_greater(Lanes code, Lanes x, Lanes threshold) {
    return _mm512_mask_add_epi32(code, _mm512_cmpgt_epi32_mask(x, threshold),
                                 code, _mm512_set1_epi32(1));
  }

  template <int half>
  AQD_AVX512 static Wide multiply_add(Lanes x, Lanes m, Wide b) {
    if (half == 1) {
      x = _mm512_srli_epi64(x, 32);
      m = _mm512_srli_epi64(m, 32);
    }
    return _mm512_add_epi64(_mm512_mul_epi32(x, m), b);
  }
  AQD_AVX512 static Wide shift(Wide x, Wide s) {
    return _mm512_srav_epi64(x, s);
  }
  AQD_AVX512 static Lanes combine(Wide even, Wide odd) {
    return _mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA);
  }

  // Requantises a vector of channels of some pixels to bytes, `next` apart.
  // There is room to read whole groups of four pixels.
  AQD_AVX512 static void store_by_thresholds(const int32_t *table,
                                             const int32_t *x, int pixels,
                                             int64_t next, uint8_t *out) {
    const Int16Thresholds rule(table);
    const auto two = [&](const int32_t *from) AQD_AVX512 {
      return rule(_mm512_packs_epi32(_mm512_loadu_si512(from),
                                     _mm512_loadu_si512(from + 16)));
    };
    // Four channels of each pixel in turn, to all channels of each.
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int p = 0; p < pixels; p += 4, x += 64, out += 4 * next) {
      const __m512i codes = _mm512_permutexvar_epi32(
          order, _mm512_packus_epi16(two(x), two(x + 32)));
      const auto put = [&](int pixel, __m128i bytes) AQD_AVX512 {
        if (p + pixel >= pixels) return;
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + pixel * next), bytes);
      };
      put(0, _mm512_castsi512_si128(codes));
      put(1, _mm512_extracti32x4_epi32(codes, 1));
      put(2, _mm512_extracti32x4_epi32(codes, 2));
      put(3, _mm512_extracti32x4_epi32(codes, 3));
    }
  }

  // By lookups or AMX.
  static void run_other(const FusedOp &fused, const PackedConv &packed,
                        uint8_t *scratch, int64_t step, ThreadPool *pool);
};

// LUT convolutions (lut_tables.h), and whether this machine has the lookups of 64
// bytes (VBMI) that they take.
bool has_lut();
void convolve_lut(const FusedOp &fused, const PackedLut &packed,
                  uint8_t *scratch, int64_t step, ThreadPool *pool);

// Convolutions of bytes by the tiles of AMX, and whether this machine has them
// and the system lets us use them.
bool has_amx();
void convolve_amx(const FusedOp &fused, const PackedAmx &packed,
                  uint8_t *scratch, int64_t step, ThreadPool *pool);

}  // namespace aqd
