// Lookups of tables that are lines (packed.h), by shuffles of bytes: the lower
// and the upper halves of first values and slopes are tables of 64 bytes each.
// Requantisations before and behind run with it (LookupTile).
//
// For a Simd that has, besides what simd.h lists,
//
//   Words, Bytes    vectors of 16 and of 8 bits
//   to_words        two Lanes, saturated to 16 bits without a sign
//   least           the lesser of two Words without a sign
//   to_bytes        two Words of numbers below 256
//   shuffle         numbers of a table of 64 bytes; 0 for places from 128 on
//   from_halves     two Words, from all their lower and all their upper bytes
//                   in the order of to_bytes
//   multiply_fractions
//                   (x * y + 2^14) >> 15
//   widen           Words without a sign as two Lanes, in the order of to_words
//   store_four      Lanes of four pixels as bytes, clamped

#pragma once

#include "kernels/requantize.h"

namespace aqd {

// For bytes of four pixels, 0 in channels that read a row of a table and 255 in
// others, from PackedLookup::Row::words.
template <class Simd>
AQD_TARGET AQD_INLINE typename Simd::Bytes other_channels(uint32_t words) {
  using Words = typename Simd::Words;
  constexpr int kCount = sizeof(Words) / 2;
  Words bits;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    bits[i] = static_cast<int16_t>(static_cast<uint16_t>(1u << i));
  }
  const Words own = Words{} + static_cast<int16_t>(words);
  // Of words that are not 0, 255.
  const Words others = ((own & bits) == 0) & 255;
  return Simd::to_bytes(others, others);
}

// Looks up what `before` makes of some pixels, and passes four at a time to
// `put`, as values and 2^15.
template <class Simd, class Before, class Put>
AQD_TARGET AQD_INLINE void look_up_bytes(const LookupTile &tile,
                                         const Before &before,
                                         const Put &put) {
  using Words = typename Simd::Words;
  using Bytes = typename Simd::Bytes;
  using Unsigned = typename VectorOf<uint16_t, sizeof(Words)>::type;
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const PackedLookup &lookup = *tile.lines;
  const PackedLookup::Row *row =
      lookup.rows.data() + lookup.begins[static_cast<size_t>(tile.vector)];
  const int rows = lookup.rows_of(tile.vector);
  Bytes others[kMaxRows];
  for (int r = 0; r < rows; ++r) {
    others[r] = other_channels<Simd>(row[r].words);
  }
  const Words last =
      Words{} + static_cast<int16_t>(lookup.last_code - lookup.first_code);
  const int32_t *from = tile.from;
  for (int p = 0; p < tile.pixels; p += 4, from += 4 * kLanes) {
    Words codes[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const int32_t *two = from + 2 * kLanes * i;
      codes[i] = Simd::least(Simd::to_words(before(Simd::load(two)),
                                            before(Simd::load(two + kLanes))),
                             last);
    }
    const Bytes number =
        Simd::to_bytes(Words(Unsigned(codes[0]) >> lookup.shift),
                       Words(Unsigned(codes[1]) >> lookup.shift));
    // Of first values the lower and the upper bytes, then of slopes.
    Bytes halves[4] = {};
    for (int r = 0; r < rows; ++r) {
      const Bytes place = number | others[r];
      const uint8_t *firsts = reinterpret_cast<const uint8_t *>(row[r].firsts);
      const uint8_t *slopes = reinterpret_cast<const uint8_t *>(row[r].slopes);
      halves[0] |= Simd::shuffle(firsts, place);
      halves[1] |= Simd::shuffle(firsts + kLines, place);
      halves[2] |= Simd::shuffle(slopes, place);
      halves[3] |= Simd::shuffle(slopes + kLines, place);
    }
    Words first[2], slope[2];
    Simd::from_halves(halves[0], halves[1], first);
    Simd::from_halves(halves[2], halves[3], slope);
    typename Simd::Lanes values[4];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      // A fraction of 15 bits.
      const Words fraction =
          Words(Unsigned(codes[i]) << (15 - lookup.shift)) & INT16_MAX;
      const Words rise = Simd::multiply_fractions(slope[i], fraction);
      Simd::widen(Words(Unsigned(first[i]) + Unsigned(rise)), values + 2 * i);
    }
    put(p, values);
  }
}

template <class Simd, class Before>
AQD_TARGET void look_up_bytes(const LookupTile &tile, const Before &before) {
  using Lanes = typename Simd::Lanes;
  constexpr int32_t kRaised = 1 << 15;
  if (tile.after == nullptr) {
    constexpr int64_t kLanes = Simd::kShape.lanes;
    return look_up_bytes<Simd>(
        tile, before, [&](int p, const Lanes *x) AQD_TARGET {
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            Simd::store(x[i] - kRaised, tile.to + kLanes * (p + i));
          }
        });
  }
  const MultiplyAdd<Simd, false> rule(tile.after, kRaised);
  look_up_bytes<Simd>(tile, before, [&](int p, const Lanes *x) AQD_TARGET {
    Simd::store_four({rule(x[0]), rule(x[1]), rule(x[2]), rule(x[3])}, p,
                     tile.pixels, tile.bytes);
  });
}

template <class Simd>
AQD_TARGET void look_up_bytes(const LookupTile &tile) {
  const int32_t first = tile.lines->first_code;
  if (tile.before == nullptr) {
    look_up_bytes<Simd>(tile, [&](typename Simd::Lanes x) AQD_TARGET {
      return x - first;
    });
  } else if (tile.clamps_values) {
    look_up_bytes<Simd>(tile, MultiplyAdd<Simd, true>(tile.before, 0, first));
  } else {
    look_up_bytes<Simd>(tile, MultiplyAdd<Simd, false>(tile.before, 0, first));
  }
}

}  // namespace aqd
