// Lookups of tables that are lines (packed.h), by AVX-512: two registers are a
// table of 64 numbers of 16 bits. A requantisation before, and one to bytes
// behind, run in registers with it.

#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include "kernels/simd_avx512.h"

namespace aqd {
namespace {

// The lines of a vector of channels that read so many rows; 0 for any number,
// which are not held in registers.
template <int kRows>
class LineTable {
 public:
  AQD_AVX512 AQD_INLINE LineTable(const PackedLookup &lookup, int64_t vector)
      : rows_(lookup.rows.data() + lookup.begins[static_cast<size_t>(vector)]),
        count_(lookup.rows_of(vector)),
        shift_(_mm_cvtsi32_si128(lookup.shift)),
        to_fraction_(_mm_cvtsi32_si128(15 - lookup.shift)),
        last_(_mm512_set1_epi16(
            static_cast<int16_t>(lookup.last_code - lookup.first_code))) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) lines_[r] = Lines(rows_[r]);
  }

  // The values of two vectors of codes, counted from the first one, and 2^15.
  // Of both, four channels follow each other in turn.
  AQD_AVX512 AQD_INLINE __m512i operator()(__m512i x, __m512i y) const {
    const __m512i codes =
        _mm512_min_epu16(_mm512_packus_epi32(x, y), last_);
    const __m512i number = _mm512_srl_epi16(codes, shift_);
    const Line line = find(number);
    // A product with a fraction of 15 bits, rounded.
    const __m512i fraction =
        _mm512_and_si512(_mm512_sll_epi16(codes, to_fraction_),
                         _mm512_set1_epi16(INT16_MAX));
    return _mm512_add_epi16(line.first,
                            _mm512_mulhrs_epi16(line.slope, fraction));
  }

 private:
  struct Line {
    __m512i first, slope;

    // Numbers of other channels are 0.
    AQD_AVX512 AQD_INLINE Line operator|(const Line &other) const {
      return {_mm512_or_si512(first, other.first),
              _mm512_or_si512(slope, other.slope)};
    }
  };

  struct Lines {
    __m512i firsts[2], slopes[2];

    Lines() = default;
    AQD_AVX512 AQD_INLINE explicit Lines(const PackedLookup::Row &row) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        firsts[i] = _mm512_load_si512(row.firsts + 32 * i);
        slopes[i] = _mm512_load_si512(row.slopes + 32 * i);
      }
    }
    AQD_AVX512 AQD_INLINE Line at(__m512i number) const {
      return {_mm512_permutex2var_epi16(firsts[0], number, firsts[1]),
              _mm512_permutex2var_epi16(slopes[0], number, slopes[1])};
    }
    AQD_AVX512 AQD_INLINE Line at(__m512i number, __mmask32 words) const {
      return {_mm512_maskz_permutex2var_epi16(words, firsts[0], number,
                                              firsts[1]),
              _mm512_maskz_permutex2var_epi16(words, slopes[0], number,
                                              slopes[1])};
    }
  };

  AQD_AVX512 AQD_INLINE Line find(__m512i number) const {
    if constexpr (kRows == 1) return lines_[0].at(number);
    Line line = (kRows == 0 ? Lines(rows_[0]) : lines_[0])
                    .at(number, rows_[0].words);
#pragma GCC unroll 4
    for (int r = 1; r < kRows; ++r) {
      line = line | lines_[r].at(number, rows_[r].words);
    }
    if constexpr (kRows == 0) {
      for (int r = 1; r < count_; ++r) {
        line = line | Lines(rows_[r]).at(number, rows_[r].words);
      }
    }
    return line;
  }

  const PackedLookup::Row *rows_;
  int count_;
  __m128i shift_, to_fraction_;
  __m512i last_;
  Lines lines_[kRows > 0 ? kRows : 1];
};

// Looks up what `before` makes of some pixels, and passes four at a time to
// `put`, as values and 2^15.
template <int kRows, class Before, class Put>
AQD_AVX512 AQD_INLINE void look_up_lines(const LookupTile &tile,
                                         const Before &before,
                                         const Put &put) {
  const LineTable<kRows> table(*tile.lines, tile.vector);
  const int32_t *from = tile.from;
  const auto make = [&](int p) AQD_AVX512 {
    return __m512i(before(Avx512::load(from + 16 * p)));
  };
  for (int p = 0; p < tile.pixels; p += 4, from += 64) {
    const __m512i none = _mm512_setzero_si512();
    __m512i values[4];
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
      const __m512i words = table(make(i), make(i + 1));
      values[i] = _mm512_unpacklo_epi16(words, none);
      values[i + 1] = _mm512_unpackhi_epi16(words, none);
    }
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
            Avx512::store(Lanes(x[i]) - kRaised, tile.to + 16 * (p + i));
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
        tile, [&](Avx512::Lanes x) AQD_AVX512 { return x - first; });
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
