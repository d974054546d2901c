// Lookups of tables that are lines (packed.h), by AVX-512: two registers are a
// table of 64 numbers of 16 bits.

#pragma once

#include "kernels/simd_avx512.h"

namespace aqd {

// Of channels that read so many rows of tables. Registers hold up to four.
template <int kRows>
AQD_AVX512 AQD_INLINE void look_up_rows(const PackedLookup &lookup,
                                        const PackedLookup::Row *rows,
                                        int pixels, const int32_t *from,
                                        int32_t *to) {
  __m512i firsts[kRows][2], slopes[kRows][2];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      firsts[r][i] = _mm512_load_si512(rows[r].firsts + 32 * i);
      slopes[r][i] = _mm512_load_si512(rows[r].slopes + 32 * i);
    }
  }
  const __m512i first = _mm512_set1_epi32(lookup.first_code);
  const __m128i shift = _mm_cvtsi32_si128(lookup.shift);
  const __m128i to_fraction = _mm_cvtsi32_si128(15 - lookup.shift);
  const __m512i fractions = _mm512_set1_epi16(INT16_MAX);
  // Two pixels at a time, four channels of each in turn.
  for (int p = 0; p < pixels; p += 2, from += 32, to += 32) {
    const __m512i x = _mm512_packus_epi32(
        _mm512_sub_epi32(_mm512_loadu_si512(from), first),
        _mm512_sub_epi32(_mm512_loadu_si512(from + 16), first));
    const __m512i number = _mm512_srl_epi16(x, shift);
    __m512i value =
        _mm512_permutex2var_epi16(firsts[0][0], number, firsts[0][1]);
    __m512i slope =
        _mm512_permutex2var_epi16(slopes[0][0], number, slopes[0][1]);
#pragma GCC unroll 8
    for (int r = 1; r < kRows; ++r) {
      const __mmask32 lanes = rows[r].words;
      value = _mm512_mask_mov_epi16(
          value, lanes,
          _mm512_permutex2var_epi16(firsts[r][0], number, firsts[r][1]));
      slope = _mm512_mask_mov_epi16(
          slope, lanes,
          _mm512_permutex2var_epi16(slopes[r][0], number, slopes[r][1]));
    }
    // A product with a fraction of 15 bits, rounded.
    const __m512i fraction =
        _mm512_and_si512(_mm512_sll_epi16(x, to_fraction), fractions);
    value = _mm512_add_epi16(value, _mm512_mulhrs_epi16(slope, fraction));
    _mm512_storeu_si512(
        to, _mm512_srai_epi32(_mm512_unpacklo_epi16(value, value), 16));
    _mm512_storeu_si512(
        to + 16, _mm512_srai_epi32(_mm512_unpackhi_epi16(value, value), 16));
  }
}

AQD_AVX512 inline void Avx512::look_up_lines(const PackedLookup &lookup,
                                             int64_t vector, int pixels,
                                             const int32_t *from, int32_t *to) {
  const size_t v = static_cast<size_t>(vector);
  const PackedLookup::Row *row = lookup.rows.data() + lookup.begins[v];
  const PackedLookup::Row *end = lookup.rows.data() + lookup.begins[v + 1];
  static_assert(kMaxRows == 8);
  switch (end - row) {
    case 1: return look_up_rows<1>(lookup, row, pixels, from, to);
    case 2: return look_up_rows<2>(lookup, row, pixels, from, to);
    case 3: return look_up_rows<3>(lookup, row, pixels, from, to);
    case 4: return look_up_rows<4>(lookup, row, pixels, from, to);
    case 5: return look_up_rows<5>(lookup, row, pixels, from, to);
    case 6: return look_up_rows<6>(lookup, row, pixels, from, to);
    case 7: return look_up_rows<7>(lookup, row, pixels, from, to);
    default: return look_up_rows<8>(lookup, row, pixels, from, to);
  }
}

}  // namespace aqd
