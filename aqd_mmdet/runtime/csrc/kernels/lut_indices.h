// The indices of a LUT convolution: packs codes of the input into index bytes
// (lut.h), 64 pixels of each plane and K group.

#pragma once

#include <immintrin.h>

#include <algorithm>

#include "kernels/lut.h"
#include "kernels/fused_op.h"

#define AQD_VBMI                                                      \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

namespace aqd {

// Neighbours in a row of the output, none of them behind the last row.
struct PixelRun {
  int64_t row, column, count;
};

// The pixels of the output that are wanted. They are numbered row by row,
// without gaps.
class LutPixels {
 public:
  explicit LutPixels(const FusedOp &fused) : count_(0) {
    for (int64_t row = 0; row < fused.size.height; ++row) {
      fused.each_run(row, [&](int64_t first, int64_t end) {
        starts_.push_back(count_);
        runs_.push_back({row, first, end - first});
        count_ += end - first;
      });
    }
  }

  int64_t count() const { return count_; }

  // The neighbours from a pixel on, so many at most; for one behind the last
  // pixel as many of a row that there is not.
  PixelRun run_at(int64_t pixel, int64_t most) const {
    if (pixel >= count_) return {-1, 0, most};
    const auto behind = std::upper_bound(starts_.begin(), starts_.end(), pixel);
    const size_t i = static_cast<size_t>(behind - starts_.begin()) - 1;
    const int64_t skipped = pixel - starts_[i];
    const PixelRun &run = runs_[i];
    return {run.row, run.column + skipped, std::min(most, run.count - skipped)};
  }

 private:
  std::vector<int64_t> starts_;  // the number of each run's first pixel
  std::vector<PixelRun> runs_;
  int64_t count_;
};

// Some vectors of 64 pixels of the output, kLutMr at most.
class LutTile {
 public:
  // Pixels that are packed, and that an epilogue takes, at once.
  static constexpr int64_t kGroup = kLutPixels / 2;

  LutTile(const LutPixels &pixels, int64_t first, int64_t vectors)
      : vectors_(vectors) {
    for (int64_t p = 0; p < vectors * kLutPixels;) {
      begins_[p / kGroup + 1] = begins_[p / kGroup];
      for (const int64_t end = p + kGroup; p < end;) {
        const PixelRun run = pixels.run_at(first + p, end - p);
        runs_[begins_[(end - 1) / kGroup + 1]++] = run;
        p += run.count;
      }
    }
  }

  int64_t vectors() const { return vectors_; }
  // Calls with the runs of the group that begins at a pixel, in their order.
  template <class Take>
  AQD_INLINE void each_run(int64_t pixel, const Take &take) const {
    const int64_t group = pixel / kGroup;
    for (int i = begins_[group]; i < begins_[group + 1]; ++i) take(runs_[i]);
  }

 private:
  static constexpr int64_t kPixels = kLutMr * kLutPixels;

  int64_t vectors_;
  int begins_[kPixels / kGroup + 1] = {};
  PixelRun runs_[kPixels];
};

// Transposes 16 vectors of numbers of so many bytes, in each quarter of the
// vectors by itself. Each round turns the place of a number by one bit.
template <int kBytes>
AQD_VBMI inline void transpose(__m512i *x) {
  __m512i y[16];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < 8; ++i) {
      const __m512i a = x[i], b = x[i + 8];
      y[2 * i] = kBytes == 1 ? _mm512_unpacklo_epi8(a, b)
                             : _mm512_unpacklo_epi16(a, b);
      y[2 * i + 1] = kBytes == 1 ? _mm512_unpackhi_epi8(a, b)
                                 : _mm512_unpackhi_epi16(a, b);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

class IndexPacker {
 public:
  IndexPacker(const FusedOp &fused, const PackedLut &packed,
              const LutTile &tile)
      : window_(fused.conv().window), x_(*fused.x), scheme_(*packed.scheme),
        k_groups_(packed.k_groups), tile_(tile),
        planes_(tile.vectors() * k_groups_.taps) {}

  // Packs a block of K groups, to K group x plane x pixel. Codes of 64 groups
  // of a pixel lie together in the input, pixels of a group in the planes.
  AQD_VBMI void pack(int64_t first_group, uint8_t *to) {
    for (int i = 0; i < scheme_.per_index; ++i) {
      channels_[i] = first_group + i * k_groups_.count;
      const int64_t left =
          std::min(k_groups_.count - first_group, x_.channels - channels_[i]);
      masks_[i] = left >= kLutIndexBlock ? ~0ull
                  : left <= 0            ? 0
                                         : (1ull << left) - 1;
    }
    for (int64_t plane = 0; plane < planes_; ++plane) {
      for (int64_t first = 0; first < kLutPixels; first += LutTile::kGroup) {
        __m512i x[LutTile::kGroup];
        const int64_t pixel = plane / k_groups_.taps * kLutPixels + first;
        __m512i *to_run = x;
        tile_.each_run(pixel, [&](const PixelRun &run) AQD_VBMI {
          read(plane, run, to_run);
          to_run += run.count;
        });
        for (int64_t i = 0; i < LutTile::kGroup; i += kTransposed) {
          transpose<1>(x + i);
          store(x + i, to + plane * kLutPixels + first + i);
        }
      }
    }
  }

 private:
  static constexpr int64_t kTransposed = 16;

  // Bytes of 16 pixels for each of 64 K groups.
  AQD_VBMI void store(const __m512i *x, uint8_t *to) const {
    const int64_t next = planes_ * kLutPixels;
    for (int64_t i = 0; i < kTransposed; ++i, to += next) {
      each_quarter(x[i], [&](int64_t quarter, __m128i bytes) AQD_VBMI {
        _mm_store_si128(
            reinterpret_cast<__m128i *>(to + 16 * quarter * next), bytes);
      });
    }
  }

  // Indices of 64 K groups at some pixels of a plane.
  AQD_VBMI void read(int64_t plane, const PixelRun &run, __m512i *to) const {
    const int64_t tap = plane % k_groups_.taps, step = window_.stride.width;
    const int64_t v = tap / window_.kernel.width,
                  u = tap % window_.kernel.width;
    const int64_t row = run.row * window_.stride.height -
                        window_.padding.height + v * window_.dilation.height;
    const bool has_row = run.row >= 0 && row >= 0 && row < x_.size.height;
    int64_t column = run.column * step - window_.padding.width +
                     u * window_.dilation.width;
    const int64_t row_codes = int64_t{x_.size.width} * x_.channels;
    const uint8_t *from = static_cast<const uint8_t *>(x_.data) +
                          row * row_codes + column * x_.channels;
    for (int64_t i = 0; i < run.count; ++i) {
      to[i] = _mm512_setzero_si512();
      if (has_row && column >= 0 && column < x_.size.width) {
        to[i] = pack_pixel(from, row_codes);
      }
      column += step;
      from += step * x_.channels;
    }
  }

  AQD_VBMI __m512i pack_pixel(const uint8_t *from, int64_t row_codes) const {
    __m512i index = _mm512_setzero_si512();
    for (int j = 0; j < scheme_.per_index; ++j) {
      const uint8_t *codes = from + channels_[j];
      // The row below is that of another plane. Rows are longer than what a
      // processor prefetches by itself.
      _mm_prefetch(reinterpret_cast<const char *>(codes + row_codes),
                   _MM_HINT_T0);
      // Codes have few bits, so that none is shifted into the byte beside it.
      const __m128i by = _mm_cvtsi32_si128(j * scheme_.bits);
      index = _mm512_or_si512(
          index,
          _mm512_sll_epi16(_mm512_maskz_loadu_epi8(masks_[j], codes), by));
    }
    return index;
  }

  const Window &window_;
  const Tensor &x_;
  const LutScheme &scheme_;
  const KGroups &k_groups_;
  const LutTile &tile_;
  const int64_t planes_;
  // Of the codes of an index: which of 64 K groups have one, and the channel of
  // the first.
  __mmask64 masks_[3];
  int64_t channels_[3];
};

}  // namespace aqd
