#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include "kernels/simd_avx512.h"

#include "kernels/lut_epilogue.h"
#include "kernels/lut_indices.h"

namespace aqd {
namespace {

AQD_VBMI inline void add_bytes(__m512i bytes, LutSums *sums) {
  const __m512i words = _mm512_load_si512(sums->words);
  const __m512i uppers = _mm512_load_si512(sums->uppers);
  _mm512_store_si512(sums->words, _mm512_add_epi16(words, bytes));
  _mm512_store_si512(sums->uppers,
                     _mm512_add_epi16(uppers, _mm512_srli_epi16(bytes, 8)));
}

// The microkernel: adds a run of lookups of some vectors of pixels to the sums
// of kLutNr output channels. The order of instructions is written down, as
// pairs of lookups and additions in turn are a fifth slower than some of each,
// and compilers make such pairs. Additions are the saturating ones, though
// nothing is ever cut off: on AMD's Zen 5 they have ports of their own, where
// others take turns with the lookups.
template <int MR>
AQD_VBMI void microkernel(const int32_t *index_offsets, int64_t count,
                          int64_t vector_bytes, const uint8_t *indices,
                          const uint16_t *tables, LutSums *sums) {
  __m512i bytes[kLutNr][MR];
#pragma GCC unroll 4
  for (int o = 0; o < kLutNr; ++o) {
#pragma GCC unroll 4
    for (int y = 0; y < MR; ++y) bytes[o][y] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t *from = indices + index_offsets[i];
    __m512i index[MR];
#pragma GCC unroll 4
    for (int y = 0; y < MR; ++y) {
      index[y] = _mm512_load_si512(from + y * vector_bytes);
    }
#pragma GCC unroll 4
    for (int o = 0; o < kLutNr; ++o) {
      const __m512i table =
          _mm512_load_si512(&kAllLutTables.entries[0][0] + *tables++);
      __m512i *to = bytes[o];
      if constexpr (MR == 4) {
        __m512i a, b, c, d;
        asm volatile(
            "vpermb %[table], %[i0], %[a]\n\t"
            "vpermb %[table], %[i1], %[b]\n\t"
            "vpermb %[table], %[i2], %[c]\n\t"
            "vpermb %[table], %[i3], %[d]\n\t"
            "vpaddusb %[a], %[x0], %[x0]\n\t"
            "vpaddusb %[b], %[x1], %[x1]\n\t"
            "vpaddusb %[c], %[x2], %[x2]\n\t"
            "vpaddusb %[d], %[x3], %[x3]"
            : [x0] "+v"(to[0]), [x1] "+v"(to[1]), [x2] "+v"(to[2]),
              [x3] "+v"(to[3]), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c),
              [d] "=&v"(d)
            : [table] "v"(table), [i0] "v"(index[0]), [i1] "v"(index[1]),
              [i2] "v"(index[2]), [i3] "v"(index[3]));
      } else {
#pragma GCC unroll 4
        for (int y = 0; y < MR; ++y) {
          to[y] = _mm512_adds_epu8(to[y],
                                   _mm512_permutexvar_epi8(index[y], table));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kLutNr; ++o) {
#pragma GCC unroll 4
    for (int y = 0; y < MR; ++y) add_bytes(bytes[o][y], sums + o * kLutMr + y);
  }
}

constexpr decltype(&microkernel<1>) kMicrokernels[kLutMr] = {
    microkernel<1>, microkernel<2>, microkernel<3>, microkernel<4>};

// Adds the codes of a block of K groups to the sums of each plane.
AQD_VBMI void sum_codes(const LutScheme &scheme, const uint8_t *indices,
                        int64_t k_groups, int64_t planes, LutSums *sums) {
  const int64_t most = UINT8_MAX / (scheme.max_code() * scheme.per_index);
  const __m512i table =
      _mm512_load_si512(kAllLutTables.entries[scheme.sum_table()]);
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t first = 0; first < k_groups; first += most) {
      __m512i bytes = _mm512_setzero_si512();
      const int64_t end = std::min(first + most, k_groups);
      for (int64_t group = first; group < end; ++group) {
        const uint8_t *from = indices + (group * planes + plane) * kLutPixels;
        bytes = _mm512_add_epi8(
            bytes, _mm512_permutexvar_epi8(_mm512_load_si512(from), table));
      }
      add_bytes(bytes, sums + plane);
    }
  }
}

// Adds a block of K groups to the sums of all output channels.
void look_up(const PackedLut &packed, const LutTile &tile, int64_t first,
             const int32_t *index_offsets, const LutScratch &work) {
  const KGroups &k_groups = packed.k_groups;
  const int64_t taps = k_groups.taps;
  const int32_t *end =
      index_offsets + std::min(k_groups.block, k_groups.count - first) * taps;
  const uint8_t *indices = work.indices + first % kLutIndexBlock *
                                              tile.vectors() * taps * kLutPixels;
  const auto run = kMicrokernels[tile.vectors() - 1];
  LutSums *sums = work.sums();
  for (int64_t out = 0; out < work.outs / kLutNr; ++out) {
    const uint16_t *tables =
        packed.offsets.data() +
        (out * k_groups.lookups() + first * taps) * kLutNr;
    const int64_t block = out * k_groups.blocks() + first / k_groups.block;
    const uint8_t *length = packed.runs[static_cast<size_t>(block)].lengths;
    for (const int32_t *next = index_offsets; next < end; ++length) {
      run(next, *length, taps * kLutPixels, indices, tables, sums);
      next += *length;
      tables += *length * kLutNr;
    }
    sums += kLutNr * kLutMr;
  }
}

void convolve_tile(const FusedOp &fused, const PackedLut &packed,
                   const LutTile &tile, const LutScratch &work) {
  const KGroups &k_groups = packed.k_groups;
  const int64_t taps = k_groups.taps, planes = tile.vectors() * taps;
  // Where the indices of a block's lookups are, in bytes.
  int32_t index_offsets[kLutMaxLookups], *offset = index_offsets;
  for (int64_t group = 0; group < k_groups.block; ++group) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      *offset++ = static_cast<int32_t>((group * planes + tap) * kLutPixels);
    }
  }
  IndexPacker packer(fused, packed, tile);
  std::memset(static_cast<void *>(work.sums()), 0,
              static_cast<size_t>(work.sums_bytes));
  for (int64_t first = 0; first < k_groups.count; first += k_groups.block) {
    const int64_t in_block = first % kLutIndexBlock;
    if (in_block == 0) packer.pack(first, work.indices);
    sum_codes(*packed.scheme, work.indices + in_block * planes * kLutPixels,
              std::min(k_groups.block, k_groups.count - first), planes,
              work.code_sums());
    look_up(packed, tile, first, index_offsets, work);
  }
  LutEpilogue(fused, packed, tile).run(work);
}

}  // namespace

void Avx512::convolve(const FusedOp &fused, const PackedLut &packed,
                      const Workers &workers) {
  const LutPixels pixels(fused);
  const int64_t vectors = (pixels.count() + kLutPixels - 1) / kLutPixels;
  // The same number of tiles for each thread, all about as large.
  const int64_t threads = workers.threads();
  const int64_t least = (vectors + kLutMr - 1) / kLutMr;
  const int64_t tiles =
      std::min((least + threads - 1) / threads * threads, vectors);
  workers.run(tiles, [&](int64_t i, uint8_t *memory) {
    const int64_t first = vectors * i / tiles, end = vectors * (i + 1) / tiles;
    const LutTile tile(pixels, first * kLutPixels, end - first);
    convolve_tile(fused, packed, tile,
                  LutScratch(packed, fused.root().op, memory));
  });
}

}  // namespace aqd

#endif
