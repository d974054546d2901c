#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include <cpuid.h>
#include <immintrin.h>

#define AQD_TARGET __attribute__((target("avx2,fma")))

#include "kernels/kernels.h"
#include "kernels/lookup_bytes.h"
#include "kernels/tuning.h"

namespace aqd {
namespace {

// The instructions of VNNI by their names, as all is compiled for AVX2 alone.
struct VnniByteMac : MacBase<8> {
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(weights));
    return acc;
  }
};

struct VnniWordMac : MacBase<8> {
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(weights));
    return acc;
  }
};

struct Avx2WordMac : MacBase<8> {
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    return acc + Acc(_mm256_madd_epi16(__m256i(codes), __m256i(weights)));
  }
};

// The instruction saturates sums of two products, and accumulators have 16
// bits. That serves codes and weights of few bits: direct convolutions widen
// the accumulators after some steps, Winograd's let them wrap around.
struct ShortByteMac : MacBase<8> {
  static constexpr bool kIsShort = true;

  AQD_TARGET static Acc begin(const int32_t *) { return Acc{}; }
  AQD_TARGET static void end(Acc acc, int32_t *to) {
    store_as(load_as<Acc>(to) + widen(acc), to);
  }
  AQD_TARGET static Acc widen(Acc acc) {
    return Acc(_mm256_madd_epi16(__m256i(acc), _mm256_set1_epi16(1)));
  }
  AQD_TARGET static Acc fold(Acc first, Acc second) {
    const __m256i x = __m256i(first), y = __m256i(second);
    return Acc(_mm256_blend_epi16(
        _mm256_add_epi16(x, _mm256_srli_epi32(x, 16)),
        _mm256_add_epi16(y, _mm256_slli_epi32(y, 16)), 0xaa));
  }
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    const __m256i products =
        _mm256_maddubs_epi16(__m256i(codes), __m256i(weights));
    // By its name, since GCC spills accumulators that it may copy.
    asm("vpaddw %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
  }
};

template <bool kVnni>
struct Avx2 : SimdBase<Avx2<kVnni>, 8> {
  static constexpr SimdShape kShape = {8,    2,    true,   0,
                                       true, true, !kVnni, true};
  static constexpr int kMr = 6;  // 12 of 16 registers for accumulators
  static constexpr bool kHasInt16Thresholds = true;
  static constexpr bool kHasLines = true;
  static constexpr bool kHasFma = true;
  static constexpr bool kSaturates = true;

  using Base = SimdBase<Avx2, 8>;
  using typename Base::Lanes;
  using typename Base::Wide;
  using ByteMac = std::conditional_t<kVnni, VnniByteMac, ShortByteMac>;
  using WordMac = std::conditional_t<kVnni, VnniWordMac, Avx2WordMac>;
  using Base::interleave;
  using Base::load;
  using Base::store;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    return Lanes(_mm256_cvtepu8_epi32(_mm_loadu_si64(from)));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    return Lanes(_mm256_cvtepi8_epi32(_mm_loadu_si64(from)));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return Lanes(_mm256_cvtepi16_epi32(load_as<__m128i>(from)));
  }
  AQD_TARGET static void store(Lanes x, int16_t *to) {
    store_as(lower_halves(x), to);
  }
  AQD_TARGET static void store(Lanes x, int8_t *to) {
    const __m128i order = _mm_set_epi64x(-1, 0x0e0c0a0806040200);
    _mm_storeu_si64(to, _mm_shuffle_epi8(lower_halves(x), order));
  }
  AQD_TARGET static __m128i lower_halves(Lanes x) {
    const __m256i order = _mm256_set1_epi64x(0x0d0c090805040100);
    const __m256i halves = _mm256_shuffle_epi8(__m256i(x), order);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
  }

  AQD_TARGET AQD_INLINE static Lanes interleave(
      const uint8_t *const (&columns)[4], int64_t channel) {
    __m128i x[4];
    for (int i = 0; i < 4; ++i) x[i] = _mm_loadu_si64(columns[i] + channel);
    const __m128i left = _mm_unpacklo_epi8(x[0], x[1]);
    const __m128i right = _mm_unpacklo_epi8(x[2], x[3]);
    return Lanes(_mm256_set_m128i(_mm_unpackhi_epi16(left, right),
                                  _mm_unpacklo_epi16(left, right)));
  }

  // Requantises a vector of channels of some pixels to bytes, `next` apart.
  // There is room to read whole groups of four pixels.
  AQD_TARGET static void store_by_thresholds(const int32_t *table,
                                             const int32_t *x, int pixels,
                                             int64_t next, uint8_t *out) {
    const auto rule = thresholds_from<Words>(
        table, 8, [&](const int32_t *numbers) AQD_TARGET {
          return pack(load(numbers), load(numbers));
        });
    const ByteSpan span = {reinterpret_cast<int8_t *>(out), next, 8, true,
                           nullptr};
    for (int p = 0; p < pixels; p += 4, x += 32) {
      store_four(rule(pack(load(x), load(x + 8))),
                 rule(pack(load(x + 16), load(x + 24))), p, pixels, span);
    }
  }

  // 16 numbers of 16 bits, of two pixels: four channels of each in turn. 32
  // bytes have four pixels so.
  using Words = VectorOf<int16_t, 32>::type;
  using Bytes = VectorOf<uint8_t, 32>::type;

  AQD_TARGET AQD_INLINE static Words pack(Lanes first, Lanes second) {
    return Words(_mm256_packs_epi32(__m256i(first), __m256i(second)));
  }

  // As bytes, those of four pixels from p on that there are.
  AQD_TARGET AQD_INLINE static void store_four(const Lanes (&x)[4], int p,
                                               int pixels,
                                               const ByteSpan &span) {
    store_four(pack(x[0], x[1]), pack(x[2], x[3]), p, pixels, span);
  }
  AQD_TARGET AQD_INLINE static void store_four(Words first, Words second, int p,
                                               int pixels,
                                               const ByteSpan &span) {
    // Four channels of each pixel in turn, to all channels of each.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i x = __m256i(first), y = __m256i(second);
    const __m256i bytes = span.clamped(_mm256_permutevar8x32_epi32(
        span.is_unsigned ? _mm256_packus_epi16(x, y) : _mm256_packs_epi16(x, y),
        order));
    int8_t *to = span.to + p * span.next;
    if (span.lanes < 8 || pixels - p < 4) {
      alignas(32) int8_t each[32];
      store_as(bytes, each);
      for (int i = 0; i < std::min(pixels - p, 4); ++i, to += span.next) {
        std::memcpy(to, each + ptrdiff_t{8} * i,
                    static_cast<size_t>(span.lanes));
      }
    } else if (span.next == 8) {
      store_as(bytes, to);
    } else {
      const __m128i low = _mm256_castsi256_si128(bytes);
      const __m128i high = _mm256_extracti128_si256(bytes, 1);
      _mm_storeu_si64(to, low);
      _mm_storeu_si64(to + span.next, _mm_unpackhi_epi64(low, low));
      _mm_storeu_si64(to + 2 * span.next, high);
      _mm_storeu_si64(to + 3 * span.next, _mm_unpackhi_epi64(high, high));
    }
  }

  // Vectors of channels of one pixel, as bytes.
  template <int NR>
  AQD_TARGET AQD_INLINE static void store_vectors(const Lanes (&x)[NR],
                                                  const ByteSpan &span,
                                                  int8_t *to) {
    const __m256i words = __m256i(pack(x[0], x[NR - 1]));
    const __m256i none = _mm256_setzero_si256();
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i all = _mm256_permutevar8x32_epi32(
        span.is_unsigned ? _mm256_packus_epi16(words, none)
                         : _mm256_packs_epi16(words, none),
        order);
    const __m128i bytes = span.clamped(_mm256_castsi256_si128(all));
    if (span.lanes < 8 * NR) {
      alignas(16) int8_t each[16];
      store_as(bytes, each);
      std::memcpy(to, each, static_cast<size_t>(span.lanes));
    } else if constexpr (NR == 2) {
      store_as(bytes, to);
    } else {
      _mm_storeu_si64(to, bytes);
    }
  }

  // For lookup_bytes.h.
  AQD_TARGET static void look_up(const LookupTile &tile) {
    look_up_bytes<Avx2>(tile);
  }
  AQD_TARGET AQD_INLINE static Words to_words(Lanes first, Lanes second) {
    return Words(_mm256_packus_epi32(__m256i(first), __m256i(second)));
  }
  AQD_TARGET AQD_INLINE static Words least(Words x, Words y) {
    return Words(_mm256_min_epu16(__m256i(x), __m256i(y)));
  }
  AQD_TARGET AQD_INLINE static Bytes to_bytes(Words first, Words second) {
    return Bytes(_mm256_packus_epi16(__m256i(first), __m256i(second)));
  }
  AQD_TARGET AQD_INLINE static Bytes shuffle(const uint8_t *table,
                                             Bytes place) {
    // Each instruction reads 16 bytes, by four bits and the highest one. The
    // two bits between choose one of four.
    const __m256i at = __m256i(place);
    const __m256i by_16 = _mm256_slli_epi16(at, 3);
    const __m256i by_32 = _mm256_slli_epi16(at, 2);
    __m256i found[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m128i part = load_as<__m128i>(table + ptrdiff_t{16} * i);
      found[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(part), at);
    }
    return Bytes(_mm256_blendv_epi8(
        _mm256_blendv_epi8(found[0], found[1], by_16),
        _mm256_blendv_epi8(found[2], found[3], by_16), by_32));
  }
  AQD_TARGET AQD_INLINE static void from_halves(Bytes lower, Bytes upper,
                                                Words *to) {
    const __m256i x = __m256i(lower), y = __m256i(upper);
    to[0] = Words(_mm256_unpacklo_epi8(x, y));
    to[1] = Words(_mm256_unpackhi_epi8(x, y));
  }
  AQD_TARGET AQD_INLINE static Words multiply_fractions(Words x, Words y) {
    return Words(_mm256_mulhrs_epi16(__m256i(x), __m256i(y)));
  }
  AQD_TARGET AQD_INLINE static void widen(Words x, Lanes *to) {
    const __m256i none = _mm256_setzero_si256();
    to[0] = Lanes(_mm256_unpacklo_epi16(__m256i(x), none));
    to[1] = Lanes(_mm256_unpackhi_epi16(__m256i(x), none));
  }

  AQD_TARGET static Lanes gather(const int32_t *table, Lanes places,
                                 int lanes) {
    if (lanes < 8) return Base::gather(table, places, lanes);
    return Lanes(_mm256_i32gather_epi32(table, __m256i(places), 4));
  }

  // Rounds as RoundsDown has it.
  AQD_TARGET static Lanes multiply_add(Lanes x, Lanes m, Lanes b) {
    return Lanes(_mm256_castps_si256(
        _mm256_fmadd_ps(__m256(x), __m256(m), __m256(b))));
  }

  template <int half>
  AQD_TARGET static Wide multiply(Lanes x, Lanes m) {
    const __m256i a = _mm256_srli_epi64(__m256i(x), 32 * half);
    const __m256i b = _mm256_srli_epi64(__m256i(m), 32 * half);
    return Wide(_mm256_mul_epi32(a, b));
  }
  // There is no arithmetic shift of 64 bits. A logical one equals it for a
  // number raised by 2^63, but is then too large by what that becomes.
  AQD_TARGET static Wide shift(Wide x, Wide s) {
    const __m256i raise = _mm256_set1_epi64x(INT64_MIN);
    return Wide(_mm256_srlv_epi64(__m256i(x) ^ raise, __m256i(s))) -
           Wide(_mm256_srlv_epi64(raise, __m256i(s)));
  }
  AQD_TARGET static Lanes combine(Wide even, Wide odd) {
    return Lanes(_mm256_blend_epi32(__m256i(even),
                                    _mm256_slli_epi64(__m256i(odd), 32), 0xaa));
  }
};

// Bytes with accumulators of 16 bits if they last for some steps of K.
InputFormat short_bytes(const Weights &weights, const Grid &codes) {
  InputFormat format = unsigned_bytes(weights, codes);
  int most = 1;
  for (const int code : weights.codes) most = std::max(most, std::abs(code));
  // Of two products, which one step adds.
  most *= 2 * std::max(codes.high + format.zero_point_shift, 1);
  format.k_per_spill = INT16_MAX / most;
  if (format.k_per_spill >= kMinKPerSpill) return format;
  return as_words(weights, codes);
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_vnni() {
  unsigned a, b, c, d;
  constexpr unsigned kAvxVnni = 1u << 4;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}

}  // namespace

const Isa kAvxVnni = {"avxvnni", [] { return has_avx2() && has_vnni(); },
                      run_fused<Avx2<true>>, Avx2<true>::kShape,
                      unsigned_bytes, /*has_lut=*/false, /*has_amx=*/false,
                      /*has_lines=*/true, /*has_fma=*/true};

const Isa kAvx2 = {"avx2", has_avx2, run_fused<Avx2<false>>,
                   Avx2<false>::kShape, short_bytes, /*has_lut=*/false,
                   /*has_amx=*/false, /*has_lines=*/true, /*has_fma=*/true};

}  // namespace aqd

#endif
