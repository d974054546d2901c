// Lookups of tables that are lines (packed.h), by AVX-512: two registers are a
// table of 32 numbers.

#pragma once

#include "kernels/simd_avx512.h"

namespace aqd {

// Of channels that read so many rows of tables. Registers hold up to four.
template <int kRows>
AQD_AVX512 AQD_INLINE void look_up_rows(const PackedLookup &lookup,
                                        const PackedLookup::Row *rows,
                                        int pixels, const int32_t *from,
                                        int32_t *to) {
  __m512i lines[kRows][4];
  __mmask16 lanes[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      lines[r][i] = _mm512_load_si512(rows[r].lines + 16 * i);
    }
    lanes[r] = static_cast<__mmask16>(rows[r].lanes);
  }
  const __m512i first = _mm512_set1_epi32(lookup.first_code);
  const __m128i shift = _mm_cvtsi32_si128(lookup.shift);
  const __m512i rest = _mm512_set1_epi32((1 << lookup.shift) - 1);
  const __m512i half = _mm512_set1_epi32(1 << lookup.shift >> 1);
  for (int p = 0; p < pixels; ++p, from += 16, to += 16) {
    const __m512i x = _mm512_sub_epi32(_mm512_loadu_si512(from), first);
    const __m512i number = _mm512_srl_epi32(x, shift);
    const __mmask16 is_upper =
        _mm512_test_epi32_mask(number, _mm512_set1_epi32(kLines / 2));
    __m512i line = _mm512_setzero_si512();
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m512i lower =
          _mm512_permutex2var_epi32(lines[r][0], number, lines[r][1]);
      const __m512i upper =
          _mm512_permutex2var_epi32(lines[r][2], number, lines[r][3]);
      line = _mm512_mask_mov_epi32(
          line, lanes[r], _mm512_mask_mov_epi32(lower, is_upper, upper));
    }
    // The slope is multiplied by the codes from the line's first one, and the
    // first value, in the upper half, by 0.
    const __m512i rise = _mm512_madd_epi16(line, _mm512_and_si512(x, rest));
    const __m512i rounded =
        _mm512_sra_epi32(_mm512_add_epi32(rise, half), shift);
    _mm512_storeu_si512(
        to, _mm512_add_epi32(_mm512_srai_epi32(line, 16), rounded));
  }
}

AQD_AVX512 inline void Avx512::look_up_lines(const PackedLookup &lookup,
                                             int64_t vector, int pixels,
                                             const int32_t *from, int32_t *to) {
  const size_t v = static_cast<size_t>(vector);
  const PackedLookup::Row *row = lookup.rows.data() + lookup.begins[v];
  const PackedLookup::Row *end = lookup.rows.data() + lookup.begins[v + 1];
  static_assert(kMaxRows == 6);
  switch (end - row) {
    case 1: return look_up_rows<1>(lookup, row, pixels, from, to);
    case 2: return look_up_rows<2>(lookup, row, pixels, from, to);
    case 3: return look_up_rows<3>(lookup, row, pixels, from, to);
    case 4: return look_up_rows<4>(lookup, row, pixels, from, to);
    case 5: return look_up_rows<5>(lookup, row, pixels, from, to);
    default: return look_up_rows<6>(lookup, row, pixels, from, to);
  }
}

}  // namespace aqd
