// The input of a Winograd convolution (winograd.h): transforms tiles of codes,
// and sums the codes in each window.

#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "kernels/fused_op.h"
#include "kernels/isa.h"
#include "kernels/simd.h"
#include "kernels/tuning.h"
#include "kernels/winograd_transforms.h"

namespace aqd {

// F(kRows x 4, 3 x 3).
template <class Simd, int kRows, bool kIsBytes>
class WinogradInput {
 public:
  static constexpr WinogradTile kTile = {kRows, kIsBytes};
  // What multiplies transformed inputs.
  using Mac = std::conditional_t<kIsBytes, typename Simd::ByteMac,
                                 typename Simd::WordMac>;

  WinogradInput(const FusedOp &fused, const PackedWinograd &packed)
      : packed_(packed), padding_(fused.conv().window.padding), x_(*fused.x),
        tiles_across_((fused.size.width + kTileColumns - 1) / kTileColumns),
        point_bytes_(kTile.point_bytes(x_.channels)) {
    for (int point = 0; point < kTile.points(); ++point) {
      shifts_[point] = static_cast<Input>(
          packed.zero_point_shift(point, Simd::kShape.lowest_byte));
    }
  }

  // Tiles in a row of the output.
  int64_t tiles_across() const { return tiles_across_; }

  // Makes the pixel of the border.
  void make_border(const WinogradScratch &work) const {
    for (int64_t c = 0; c < x_.channels; ++c) {
      work.border()[c] = static_cast<uint8_t>(packed_.zero_point(c));
    }
  }

  // Transforms a tile, the i-th of a share.
  AQD_TARGET void transform_tile(int64_t tile, int64_t i,
                                 const WinogradScratch &work) const {
    Pixels pixels;
    find_pixels(tile, work.border(), pixels);
    constexpr int kCodes = kBytes / static_cast<int>(sizeof(Input));
    const int64_t next = kWinogradTiles * point_bytes_;
    uint8_t *to = work.inputs + i * point_bytes_;
    for (int64_t c = 0; c < x_.channels; c += kCodes, to += kBytes) {
      Inputs rows[kInputRows][kInputColumns];
#pragma GCC unroll 6
      for (int y = 0; y < kInputRows; ++y) {
        Inputs codes[kInputColumns];
#pragma GCC unroll 6
        for (int x = 0; x < kInputColumns; ++x)
          codes[x] = load(pixels[y][x] + c);
        transform_input<kTileColumns>(codes, 1, rows[y]);
      }
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x) {
        Inputs column[kInputRows];
        transform_input<kRows>(rows[0] + x, kInputColumns, column);
#pragma GCC unroll 6
        for (int y = 0; y < kInputRows; ++y) {
          const int point = y * kInputColumns + x;
          if constexpr (kIsBytes) column[y] += shifts_[point];
          store_as(column[y], to + point * next);
        }
      }
    }
    if constexpr (kIsBytes) {
      if (packed_.is_halved) {
        sum_windows(pixels, work.window_sums() + i * kRows * kTileColumns);
      }
    }
  }

 private:
  static constexpr int64_t kLanes = Simd::kShape.lanes;
  static constexpr int64_t kBytes = 4 * kLanes;  // of a vector
  static constexpr int kInputRows = kRows + 2;

  using Input = std::conditional_t<kIsBytes, uint8_t, uint16_t>;
  using Inputs = typename VectorOf<Input, kBytes>::type;
  using Numbers = typename VectorOf<uint32_t, kBytes>::type;

  AQD_TARGET Inputs load(const uint8_t *from) const {
    using Codes = typename VectorOf<uint8_t, kBytes / 2>::type;
    using SignedCodes = typename VectorOf<int8_t, kBytes / 2>::type;
    using Words = typename VectorOf<int16_t, kBytes>::type;
    if constexpr (kIsBytes) {
      return load_as<Inputs>(from);
    } else if (x_.type == Type::kI8) {
      return Inputs(__builtin_convertvector(load_as<SignedCodes>(from), Words));
    } else {
      return __builtin_convertvector(load_as<Codes>(from), Inputs);
    }
  }

  // Where each pixel that a tile reads is. One that was not made is as good as
  // one of the border, since no wanted output reads it.
  using Pixels = const uint8_t *[kInputRows][kInputColumns];
  void find_pixels(int64_t tile, const uint8_t *border, Pixels &pixels) const {
    const int64_t top = tile / tiles_across_ * kRows - padding_.height;
    const int64_t left = tile % tiles_across_ * kTileColumns - padding_.width;
    for (int y = 0; y < kInputRows; ++y) {
      for (int x = 0; x < kInputColumns; ++x) {
        const bool is_inside =
            top + y >= 0 && top + y < x_.size.height && left + x >= 0 &&
            left + x < x_.size.width &&
            (x_.made == nullptr || x_.made->has(top + y, left + x));
        const int64_t at = ((top + y) * x_.size.width + left + x) * x_.channels;
        pixels[y][x] =
            is_inside ? static_cast<const uint8_t *>(x_.data) + at : border;
      }
    }
  }

  // Sums of the codes in the window of each output of a tile.
  AQD_TARGET void sum_windows(const Pixels &pixels, int32_t *to) const {
    // Outputs of parts are made less the lowest one; codes stand for what they
    // exceed zero points by.
    const auto missing = static_cast<uint32_t>(
        2 * packed_.parts(x_.channels) * packed_.part_low -
        9 * std::accumulate(packed_.zero_points.begin(),
                            packed_.zero_points.end(), int64_t{0}));
    Numbers sums[kInputRows][kInputColumns];
    for (int y = 0; y < kInputRows; ++y) sum_pixels(pixels[y], sums[y]);
    for (int i = 0; i < kRows * kTileColumns; ++i) {
      const int y = i / kTileColumns, x = i % kTileColumns;
      Numbers all = {};
      for (int tap = 0; tap < 9; ++tap) all += sums[y + tap / 3][x + tap % 3];
      uint32_t sum = 0;
      for (int lane = 0; lane < kLanes; ++lane) sum += all[lane];
      to[i] = static_cast<int32_t>(sum + missing);
    }
  }

  // Sums of the codes of each pixel, a part in each lane. Codes are the signed
  // operand of the MAC, as they have few bits.
  AQD_TARGET void sum_pixels(const uint8_t *const *pixels, Numbers *to) const {
    // Zeros meet what is behind the channels.
    alignas(64) int8_t ones[2 * kBytes] = {};
    std::memset(ones, 1, kBytes);
    typename Mac::Acc sums[kInputColumns] = {};
    for (int64_t c = 0; c < x_.channels; c += kBytes) {
      const int64_t behind = std::max<int64_t>(c + kBytes - x_.channels, 0);
      const auto by = Mac::load(ones + behind);
#pragma GCC unroll 6
      for (int x = 0; x < kInputColumns; ++x) {
        const auto codes =
            Mac::load(reinterpret_cast<const int8_t *>(pixels[x] + c));
        if constexpr (Mac::kIsShort) {
          sums[x] += Mac::widen(Mac::add(typename Mac::Acc{}, by, codes));
        } else {
          sums[x] = Mac::add(sums[x], by, codes);
        }
      }
    }
#pragma GCC unroll 6
    for (int x = 0; x < kInputColumns; ++x) to[x] = Numbers(sums[x]);
  }

  const PackedWinograd &packed_;
  const Size padding_;
  const Tensor &x_;
  const int64_t tiles_across_, point_bytes_;
  Input shifts_[kMaxPoints];
};

}  // namespace aqd
