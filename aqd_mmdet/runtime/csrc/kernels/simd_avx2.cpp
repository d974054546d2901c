#include "kernels/instruction_sets.h"

#ifdef AQD_HAS_AVX2

#include <cpuid.h>
#include <immintrin.h>

#define AQD_TARGET __attribute__((target("avx2")))

#include "kernels/kernels.h"

namespace aqd {
namespace {

AQD_TARGET inline __m256i load_32(const void *from) {
  return _mm256_loadu_si256(static_cast<const __m256i *>(from));
}

AQD_TARGET inline __m128i load_16(const void *from) {
  return _mm_loadu_si128(static_cast<const __m128i *>(from));
}

AQD_TARGET inline __m128i load_8(const void *from) {
  return _mm_loadl_epi64(static_cast<const __m128i *>(from));
}

AQD_TARGET inline void store_32(__m256i x, int32_t *to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), x);
}

// What MACs with accumulators of 32 bits have in common.
struct Mac {
  using Acc = __m256i;
  using Weights = __m256i;
  static constexpr bool kIsShort = false;

  AQD_TARGET static Acc begin(const int32_t *from) { return load_32(from); }
  AQD_TARGET static void end(Acc acc, int32_t *to) { store_32(acc, to); }
  AQD_TARGET static Weights load(const int8_t *from) { return load_32(from); }
  AQD_TARGET static __m256i broadcast(const uint8_t *codes) {
    int32_t four;
    std::memcpy(&four, codes, 4);
    return _mm256_set1_epi32(four);
  }
};

template <bool kVnni>
struct Avx2WordMac : Mac {
  AQD_TARGET static Acc add(Acc acc, __m256i codes, Weights weights) {
    if constexpr (kVnni) {
      // By its name, as all is compiled for AVX2 alone.
      asm("%{vex%} vpdpwssd %2, %1, %0"
          : "+x"(acc)
          : "x"(codes), "x"(weights));
      return acc;
    }
    return _mm256_add_epi32(acc, _mm256_madd_epi16(codes, weights));
  }
};

// The instruction saturates sums of two products, and accumulators have 16 bits:
// for codes and weights of few bits, some steps at a time.
struct ShortByteMac : Mac {
  static constexpr bool kIsShort = true;

  AQD_TARGET static Acc begin(const int32_t *) {
    return _mm256_setzero_si256();
  }
  AQD_TARGET static void end(Acc acc, int32_t *to) {
    const Acc pairs = _mm256_madd_epi16(acc, _mm256_set1_epi16(1));
    store_32(_mm256_add_epi32(load_32(to), pairs), to);
  }
  AQD_TARGET static Acc add(Acc acc, __m256i codes, Weights weights) {
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(codes, weights));
  }
};

struct VnniByteMac : Mac {
  AQD_TARGET static Acc add(Acc acc, __m256i codes, Weights weights) {
    asm("%{vex%} vpdpbusd %2, %1, %0"
        : "+x"(acc)
        : "x"(codes), "x"(weights));
    return acc;
  }
};

template <bool kVnni>
struct Avx2 : SimdDefaults {
  static constexpr SimdShape kShape = {8, 2, true, false, 0, kVnni, true};
  static constexpr int kMr = 6;  // 12 of 16 registers for accumulators

  using Lanes = __m256i;
  using Wide = __m256i;
  using ByteMac = std::conditional_t<kVnni, VnniByteMac, ShortByteMac>;
  using WordMac = Avx2WordMac<kVnni>;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    return _mm256_cvtepu8_epi32(load_8(from));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    return _mm256_cvtepi8_epi32(load_8(from));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return _mm256_cvtepi16_epi32(load_16(from));
  }
  AQD_TARGET static Lanes load(const int32_t *from) { return load_32(from); }
  AQD_TARGET static Wide load_wide(const int64_t *from) {
    return load_32(from);
  }

  AQD_TARGET static void store(Lanes x, int32_t *to) { store_32(x, to); }
  AQD_TARGET static void store(Lanes x, int16_t *to) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), lower_halves(x));
  }
  AQD_TARGET static void store(Lanes x, int8_t *to) {
    const __m128i bytes = _mm_shuffle_epi8(
        lower_halves(x), _mm_set_epi64x(-1, 0x0e0c0a0806040200));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(to), bytes);
  }
  AQD_TARGET static __m128i lower_halves(Lanes x) {
    const __m256i order = _mm256_set1_epi64x(0x0d0c090805040100);
    const __m256i halves = _mm256_shuffle_epi8(x, order);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
  }

  AQD_TARGET static Lanes fill(int32_t x) { return _mm256_set1_epi32(x); }
  AQD_TARGET static Lanes add(Lanes x, Lanes y) {
    return _mm256_add_epi32(x, y);
  }
  AQD_TARGET static Lanes sub(Lanes x, Lanes y) {
    return _mm256_sub_epi32(x, y);
  }
  AQD_TARGET static Lanes min(Lanes x, Lanes y) {
    return _mm256_min_epi32(x, y);
  }
  AQD_TARGET static Lanes max(Lanes x, Lanes y) {
    return _mm256_max_epi32(x, y);
  }
  AQD_TARGET static Lanes bit_xor(Lanes x, Lanes y) {
    return _mm256_xor_si256(x, y);
  }
  AQD_TARGET static Lanes mac(Lanes acc, Lanes x, Lanes y) {
    return _mm256_add_epi32(acc, _mm256_mullo_epi32(x, y));
  }
  AQD_TARGET static Lanes add_greater(Lanes code, Lanes x, Lanes threshold) {
    return _mm256_sub_epi32(code, _mm256_cmpgt_epi32(x, threshold));
  }

  template <int half>
  AQD_TARGET static Wide multiply_add(Lanes x, Lanes m, Wide b) {
    if (half == 1) {
      x = _mm256_srli_epi64(x, 32);
      m = _mm256_srli_epi64(m, 32);
    }
    return _mm256_add_epi64(_mm256_mul_epi32(x, m), b);
  }
  AQD_TARGET static Wide shift(Wide x, Wide s) {
    return _mm256_srlv_epi64(x, s);
  }
  AQD_TARGET static Lanes combine(Wide even, Wide odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  }
};

// Bytes with accumulators of 16 bits if they last for some steps of K.
InputFormat short_bytes(const Weights &weights, const Grid &codes) {
  InputFormat format = unsigned_bytes(weights, codes);
  const int max_code = codes.high + format.zero_point_shift;
  // Of two products, which one step adds.
  const int most = 2 * max_code * max_weight(weights);
  format.k_per_spill = INT16_MAX / std::max(most, 1);
  if (format.k_per_spill >= kMinKPerSpill) return format;
  InputFormat words;
  words.widen = true;
  return words;
}

template <bool kVnni>
void pack(Program *program) {
  pack_program({Avx2<kVnni>::kShape, kVnni ? unsigned_bytes : short_bytes},
               program);
}

template <bool kVnni>
int64_t scratch(const Program &program, size_t position, const Plan &plan) {
  return scratch_bytes(Avx2<kVnni>::kShape, program, position, plan);
}

bool has_avx2() { return __builtin_cpu_supports("avx2"); }

bool has_vnni() {
  unsigned a, b, c, d;
  constexpr unsigned kAvxVnni = 1u << 4;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}

}  // namespace

const Isa kAvxVnni = {"avxvnni", [] { return has_avx2() && has_vnni(); },
                      pack<true>, scratch<true>, run_fused<Avx2<true>>};

const Isa kAvx2 = {"avx2", has_avx2, pack<false>, scratch<false>,
                   run_fused<Avx2<false>>};

}  // namespace aqd

#endif
