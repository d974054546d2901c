#include "kernels/simd_avx2.h"

#ifdef AQD_HAS_AVX2

#include <cpuid.h>
#include <immintrin.h>

#define AQD_TARGET __attribute__((target("avx2")))

#include "kernels/conv_direct.h"

namespace aqd {
namespace {

// Steps between widenings from which on sums of 16 bits are faster than
// products of words.
constexpr int64_t kLeastSteps = 3;

AQD_TARGET inline __m256i at(const void *from) {
  return _mm256_loadu_si256(static_cast<const __m256i *>(from));
}

AQD_TARGET inline __m128i half_at(const void *from) {
  return _mm_loadu_si128(static_cast<const __m128i *>(from));
}

AQD_TARGET inline __m128i quarter_at(const void *from) {
  return _mm_loadl_epi64(static_cast<const __m128i *>(from));
}

AQD_TARGET inline void put(__m256i from, int32_t *to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), from);
}

// What products have in common whose sums have 32 bits.
struct Product {
  using Sum = __m256i;
  using Weights = __m256i;
  static constexpr bool kIsShort = false;

  AQD_TARGET static Sum begin(const int32_t *from) { return at(from); }
  AQD_TARGET static void end(Sum sum, int32_t *to) { put(sum, to); }
  AQD_TARGET static Weights load(const int8_t *from) { return at(from); }
  AQD_TARGET static Sum broadcast(const uint8_t *codes) {
    int32_t four;
    std::memcpy(&four, codes, 4);
    return _mm256_set1_epi32(four);
  }
};

template <bool kVnni>
struct Words : Product {
  AQD_TARGET static Sum add(Sum sum, Sum codes, Weights weights) {
    if constexpr (kVnni) {
      // By its name, as all is compiled for AVX2 alone.
      asm("%{vex%} vpdpwssd %2, %1, %0"
          : "+x"(sum)
          : "x"(codes), "x"(weights));
      return sum;
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(codes, weights));
  }
};

// The instruction saturates sums of two products, and sums have 16 bits: for
// codes and weights of few bits, some steps at a time.
struct ShortBytes : Product {
  static constexpr bool kIsShort = true;

  AQD_TARGET static Sum begin(const int32_t *) {
    return _mm256_setzero_si256();
  }
  AQD_TARGET static void end(Sum sum, int32_t *to) {
    const Sum pairs = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
    put(_mm256_add_epi32(at(to), pairs), to);
  }
  AQD_TARGET static Sum add(Sum sum, Sum codes, Weights weights) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, weights));
  }
};

struct Bytes : Product {
  AQD_TARGET static Sum add(Sum sum, Sum codes, Weights weights) {
    asm("%{vex%} vpdpbusd %2, %1, %0"
        : "+x"(sum)
        : "x"(codes), "x"(weights));
    return sum;
  }
};

template <bool kVnni>
struct Avx2 {
  template <bool kBytes>
  using Product = std::conditional_t<kBytes, Bytes, Words<kVnni>>;
  static constexpr Vectors kVectors = {8, 2, true, 0};
  static constexpr ValueTypes kValues = {kVnni, true};
  static constexpr bool kFetches = false;
  static constexpr int kPixels = 6;  // 12 of 16 registers for sums
  using Lanes = __m256i;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    return _mm256_cvtepu8_epi32(quarter_at(from));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    return _mm256_cvtepi8_epi32(quarter_at(from));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return _mm256_cvtepi16_epi32(half_at(from));
  }
  AQD_TARGET static Lanes load(const int32_t *from) { return at(from); }

  AQD_TARGET static void store(Lanes codes, int32_t *to) { put(codes, to); }
  AQD_TARGET static void store(Lanes codes, int16_t *to) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), words(codes));
  }
  AQD_TARGET static void store(Lanes codes, int8_t *to) {
    const __m128i bytes = _mm_shuffle_epi8(
        words(codes), _mm_set_epi64x(-1, 0x0e0c0a0806040200));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(to), bytes);
  }

  // The lower halves of lanes.
  AQD_TARGET static __m128i words(Lanes codes) {
    const __m256i order = _mm256_set1_epi64x(0x0d0c090805040100);
    const __m256i halves = _mm256_shuffle_epi8(codes, order);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
  }

  AQD_TARGET static Lanes weigh(Lanes sums, Lanes codes, Lanes weights) {
    return _mm256_add_epi32(sums, _mm256_mullo_epi32(codes, weights));
  }

  AQD_TARGET static void requantize(const int64_t *table, const Grid &grid,
                                    const int32_t *from, int pixels,
                                    int32_t *to) {
    const __m256i m = at(table), less = at(table + 4);
    const __m256i low = _mm256_set1_epi32(grid.low);
    const __m256i high = _mm256_set1_epi32(grid.high);
    const __m256i odd_m = _mm256_srli_epi64(m, 32);
    for (int i = 0; i < pixels * kVectors.lanes; i += kVectors.lanes) {
      const __m256i sums = at(from + i);
      __m256i even = _mm256_mul_epi32(sums, m);
      __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(sums, 32), odd_m);
      even = _mm256_add_epi64(even, at(table + 8));
      odd = _mm256_add_epi64(odd, at(table + 12));
      even = _mm256_srlv_epi64(even, at(table + 16));
      odd = _mm256_srlv_epi64(odd, at(table + 20));
      __m256i codes =
          _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
      codes = _mm256_sub_epi32(codes, less);
      put(_mm256_min_epi32(_mm256_max_epi32(codes, low), high), to + i);
    }
  }

  static Block<Avx2> block_of(const Node &node, int64_t pixels, int64_t vectors) {
    if (node.packed.reading.as_words) {
      return aqd::block_of<Avx2, Words<kVnni>>(pixels, vectors);
    }
    return aqd::block_of<Avx2,
                         std::conditional_t<kVnni, Bytes, ShortBytes>>(
        pixels, vectors);
  }
};

// Raises signed bytes, as instructions take unsigned ones.
Reading read_bytes(const Node &, const Codes &codes) {
  Reading made;
  if (codes.type == Type::kI8) made.raise = -codes.grid.low;
  return made;
}

Reading read_short(const Node &node, const Codes &codes) {
  Reading made = read_bytes(node, codes);
  const int largest = codes.grid.high + made.raise;
  // Of two products, which one step adds.
  const int most = 2 * largest * largest_weight(*node.conv().weights);
  made.steps = INT16_MAX / std::max(most, 1);
  if (made.steps >= kLeastSteps) return made;
  Reading words;
  words.as_words = true;
  return words;
}

template <bool kVnni>
int64_t scratch(const Program &program, int position, const Plan &plan) {
  return scratch_of(Avx2<kVnni>::kVectors, program, position, plan);
}

template <bool kVnni>
void prepare(Program *program) {
  using Set = Avx2<kVnni>;
  prepare(Set::kVectors, Set::kValues, kVnni ? read_bytes : read_short, program);
}

bool has_avx2() { return __builtin_cpu_supports("avx2"); }

bool has_vnni() {
  unsigned a, b, c, d;
  constexpr unsigned kAvxVnni = 1u << 4;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvxVnni) != 0;
}

}  // namespace

const Isa kAvxVnni = {"avxvnni", [] { return has_avx2() && has_vnni(); },
                      prepare<true>, scratch<true>, run_fused<Avx2<true>>};

const Isa kAvx2 = {"avx2", has_avx2, prepare<false>, scratch<false>,
                   run_fused<Avx2<false>>};

}  // namespace aqd

#endif
