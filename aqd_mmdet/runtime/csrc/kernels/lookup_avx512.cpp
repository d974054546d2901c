// Lookups of tables that are lines (packed.h), by AVX-512: two registers are a
// table of 64 numbers of 16 bits. A requantisation before, and one to bytes
// behind, run in registers with it.

#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include "kernels/simd_avx512.h"

namespace aqd {
namespace {

// The table of a vector of channels that read so many rows; 0 for any number,
// whose lines are not held in registers.
template <int kRows>
class LineTable {
 public:
  AQD_AVX512 AQD_INLINE LineTable(const PackedLookup &lookup, int64_t vector)
      : rows_(lookup.rows.data() + lookup.begins[static_cast<size_t>(vector)]),
        count_(lookup.rows_of(vector)),
        shift_(_mm_cvtsi32_si128(lookup.shift)),
        to_fraction_(_mm_cvtsi32_si128(15 - lookup.shift)) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) lines_[r] = Lines(rows_[r]);
  }

  // The values of two vectors of codes, counted from the first one. Of both,
  // four channels follow each other in turn.
  AQD_AVX512 AQD_INLINE __m512i operator()(__m512i x, __m512i y) const {
    const __m512i codes = _mm512_packus_epi32(x, y);
    const __m512i number = _mm512_srl_epi16(codes, shift_);
    Line line = (kRows > 0 ? lines_[0] : Lines(rows_[0])).at(number);
#pragma GCC unroll 4
    for (int r = 1; r < kRows; ++r) line.merge(rows_[r].words, lines_[r].at(number));
    if constexpr (kRows == 0) {
      for (int r = 1; r < count_; ++r) {
        line.merge(rows_[r].words, Lines(rows_[r]).at(number));
      }
    }
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

    AQD_AVX512 AQD_INLINE void merge(__mmask32 words, const Line &other) {
      first = _mm512_mask_mov_epi16(first, words, other.first);
      slope = _mm512_mask_mov_epi16(slope, words, other.slope);
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
  };

  const PackedLookup::Row *rows_;
  int count_;
  __m128i shift_, to_fraction_;
  Lines lines_[kRows > 0 ? kRows : 1];
};

// Looks up what `before` makes of some pixels, and passes four at a time to
// `put`.
template <int kRows, class Before, class Put>
AQD_AVX512 AQD_INLINE void look_up_lines(const LookupTile &tile,
                                         const Before &before,
                                         const Put &put) {
  const LineTable<kRows> table(tile.lookup, tile.vector);
  const int32_t *from = tile.from;
  const auto make = [&](int p) AQD_AVX512 {
    return __m512i(before(Avx512::load(from + 16 * p)));
  };
  for (int p = 0; p < tile.pixels; p += 4, from += 64) {
    Avx512::Lanes values[4];
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
      const __m512i words = table(make(i), make(i + 1));
      const __m512i low = _mm512_unpacklo_epi16(words, words);
      const __m512i high = _mm512_unpackhi_epi16(words, words);
      values[i] = Avx512::Lanes(low) >> 16;
      values[i + 1] = Avx512::Lanes(high) >> 16;
    }
    put(p, values);
  }
}

template <int kRows, class Before>
AQD_AVX512 void look_up_lines(const LookupTile &tile, const Before &before) {
  if (tile.after == nullptr) {
    look_up_lines<kRows>(tile, before, [&](int p, const Avx512::Lanes (&x)[4]) AQD_AVX512 {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) Avx512::store(x[i], tile.to + 16 * (p + i));
    });
    return;
  }
  const MultiplyAdd<Avx512> rule(tile.after);
  look_up_lines<kRows>(tile, before, [&](int p, const Avx512::Lanes (&x)[4]) AQD_AVX512 {
    Avx512::store_four({rule(x[0]), rule(x[1]), rule(x[2]), rule(x[3])}, p, tile.pixels, tile.bytes);
  });
}

template <int kRows>
AQD_AVX512 void look_up_lines(const LookupTile &tile) {
  const int32_t first = tile.lookup.first_code;
  if (tile.before != nullptr) {
    look_up_lines<kRows>(tile, MultiplyAdd<Avx512>(tile.before, first));
  } else {
    look_up_lines<kRows>(tile, [&](Avx512::Lanes x) AQD_AVX512 { return x - first; });
  }
}

}  // namespace

AQD_AVX512 void Avx512::look_up(const LookupTile &tile) {
  switch (tile.lookup.rows_of(tile.vector)) {
    case 1: return look_up_lines<1>(tile);
    case 2: return look_up_lines<2>(tile);
    case 3: return look_up_lines<3>(tile);
    case 4: return look_up_lines<4>(tile);
    default: return look_up_lines<0>(tile);
  }
}

}  // namespace aqd

#endif
