// Lookups of tables that are lines (packed.h), by AVX-512: two registers are a
// table of 64 numbers of 16 bits. A requantisation before, and one to bytes
// behind, run with it: three short loops, since one long one has so many
// dependent instructions that too few of them are in flight.

#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include "kernels/simd_avx512.h"
#include "kernels/tuning.h"

namespace aqd {
namespace {

// The lines of a row of a table.
struct Lines {
  // The line of each code; 0 for channels that read other rows.
  struct Line {
    __m512i first, slope;

    AQD_AVX512 AQD_INLINE void operator|=(const Line &other) {
      first = _mm512_or_si512(first, other.first);
      slope = _mm512_or_si512(slope, other.slope);
    }
  };

  __m512i firsts[2], slopes[2];
  __mmask32 words;

  Lines() = default;
  AQD_AVX512 AQD_INLINE explicit Lines(const PackedLookup::Row &row)
      : words(row.words) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      firsts[i] = _mm512_load_si512(row.firsts + ptrdiff_t{32} * i);
      slopes[i] = _mm512_load_si512(row.slopes + ptrdiff_t{32} * i);
    }
  }

  AQD_AVX512 AQD_INLINE Line at(__m512i number) const {
    return {_mm512_maskz_permutex2var_epi16(words, firsts[0], number,
                                            firsts[1]),
            _mm512_maskz_permutex2var_epi16(words, slopes[0], number,
                                            slopes[1])};
  }
};

// Replaces codes of a vector of channels, counted from the first one, by their
// values and 2^15. Channels read kRows rows, whose lines are in registers, or
// another number of rows for 0.
template <int kRows>
AQD_AVX512 AQD_INLINE void look_up_lines(const PackedLookup &lookup,
                                         int64_t vector, int count,
                                         __m512i *codes) {
  // Lines in memory are loaded for two vectors.
  constexpr int kTogether = kRows == 0 ? 2 : 1;
  const PackedLookup::Row *row =
      lookup.rows.data() + lookup.begins[static_cast<size_t>(vector)];
  const int rows = kRows == 0 ? lookup.rows_of(vector) : kRows;
  Lines lines[kRows == 0 ? 1 : kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) lines[r] = Lines(row[r]);
  const __m128i shift = _mm_cvtsi32_si128(lookup.shift);
  const __m128i to_fraction = _mm_cvtsi32_si128(15 - lookup.shift);
  const __m512i fractions = _mm512_set1_epi16(INT16_MAX);
  for (int i = 0; i < count; i += kTogether) {
    __m512i number[kTogether];
    Lines::Line line[kTogether] = {};
#pragma GCC unroll 2
    for (int j = 0; j < kTogether; ++j) {
      number[j] = _mm512_srl_epi16(codes[i + j], shift);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      if constexpr (kRows == 0) lines[0] = Lines(row[r]);
#pragma GCC unroll 2
      for (int j = 0; j < kTogether; ++j) {
        line[j] |= lines[kRows == 0 ? 0 : r].at(number[j]);
      }
    }
#pragma GCC unroll 2
    for (int j = 0; j < kTogether; ++j) {
      // A product with a fraction of 15 bits, rounded.
      const __m512i fraction = _mm512_and_si512(
          _mm512_sll_epi16(codes[i + j], to_fraction), fractions);
      codes[i + j] = _mm512_add_epi16(
          line[j].first, _mm512_mulhrs_epi16(line[j].slope, fraction));
    }
  }
}

// Looks up what `before` makes of some pixels, and passes four at a time to
// `put`, as values and 2^15.
template <int kRows, class Before, class Put>
AQD_AVX512 AQD_INLINE void look_up_lines(const LookupTile &tile,
                                         const Before &before,
                                         const Put &put) {
  // Of two pixels each, whose channels follow each other in turn, four at a
  // time.
  __m512i words[kTilePixels / 2 + 1];
  const __m512i last = _mm512_set1_epi16(
      static_cast<int16_t>(tile.lines->last_code - tile.lines->first_code));
  const int count = (tile.pixels + 1) / 2;
  const int32_t *from = tile.from;
  for (int i = 0; i < count; ++i, from += 32) {
    words[i] = _mm512_packus_epi32(__m512i(before(Avx512::load(from))),
                                   __m512i(before(Avx512::load(from + 16))));
    words[i] = _mm512_min_epu16(words[i], last);
  }
  look_up_lines<kRows>(*tile.lines, tile.vector, count, words);
  for (int p = 0; p < tile.pixels; p += 4) {
    const __m512i *each = words + p / 2;
    const __m512i none = _mm512_setzero_si512();
    const __m512i values[] = {
        _mm512_unpacklo_epi16(each[0], none),
        _mm512_unpackhi_epi16(each[0], none),
        _mm512_unpacklo_epi16(each[1], none),
        _mm512_unpackhi_epi16(each[1], none),
    };
    put(p, values);
  }
}

template <int kRows, class Before>
AQD_AVX512 void look_up_lines(const LookupTile &tile, const Before &before) {
  using Lanes = Avx512::Lanes;
  constexpr int32_t kRaised = 1 << 15;
  if (tile.after == nullptr) {
    return look_up_lines<kRows>(
        tile, before, [&](int p, const __m512i *x) AQD_AVX512 {
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            Avx512::store(Lanes(x[i]) - kRaised,
                          tile.to + ptrdiff_t{16} * (p + i));
          }
        });
  }
  const MultiplyAdd<Avx512, false> rule(tile.after, kRaised);
  look_up_lines<kRows>(tile, before, [&](int p, const __m512i *x) AQD_AVX512 {
    Avx512::store_four({rule(Lanes(x[0])), rule(Lanes(x[1])),
                        rule(Lanes(x[2])), rule(Lanes(x[3]))},
                       p, tile.pixels, tile.bytes);
  });
}

template <int kRows>
AQD_AVX512 void look_up_lines(const LookupTile &tile) {
  const int32_t first = tile.lines->first_code;
  if (tile.before == nullptr) {
    look_up_lines<kRows>(
        tile, [&](Avx512::Lanes x) AQD_AVX512 {
          return _mm512_sub_epi32(__m512i(x), _mm512_set1_epi32(first));
        });
  } else if (tile.clamps_values) {
    look_up_lines<kRows>(tile,
                         MultiplyAdd<Avx512, true>(tile.before, 0, first));
  } else {
    look_up_lines<kRows>(tile,
                         MultiplyAdd<Avx512, false>(tile.before, 0, first));
  }
}

}  // namespace

AQD_AVX512 void Avx512::look_up(const LookupTile &tile) {
  switch (tile.lines->rows_of(tile.vector)) {
    case 1: return look_up_lines<1>(tile);
    case 2: return look_up_lines<2>(tile);
    case 3: return look_up_lines<3>(tile);
    case 4: return look_up_lines<4>(tile);
    default: return look_up_lines<0>(tile);
  }
}

}  // namespace aqd

#endif
