#include "detect/detect.h"

#include <algorithm>
#include <cstring>

#include "format/limits.h"

namespace aqd {
namespace {

constexpr int kPositionBits = 11;
constexpr int32_t kOne = 1 << kPositionBits;
// Rows that a thread makes at a time.
constexpr int32_t kBand = 16;

// What an output reads along an axis: two neighbours, and how much the second
// one counts.
struct Interpolation {
  int32_t first, second, weight;
};

// Positions of n outputs in k pixels.
std::vector<Interpolation> interpolations(int32_t n, int32_t k) {
  std::vector<Interpolation> made;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = floored(
        (2 * i + 1) * k * kOne - int64_t{n} * kOne, 2 * int64_t{n});
    const int32_t inside = static_cast<int32_t>(
        std::clamp<int64_t>(at, 0, int64_t{k - 1} * kOne));
    const int32_t first = inside >> kPositionBits;
    made.push_back({first, std::min(first + 1, k - 1), inside & (kOne - 1)});
  }
  return made;
}

// Rows of an image resized across. The last two are kept, since the next row
// that is made mostly reads one of them again.
class Rows {
 public:
  Rows(const PreProcess &pre, const Pixels &image,
       const std::vector<Interpolation> &columns)
      : pre_(pre), image_(image), columns_(columns) {}

  const int32_t *at(int32_t y) {
    const size_t slot = static_cast<size_t>(y & 1);
    std::vector<int32_t> &row = rows_[slot];
    if (held_[slot] == y) return row.data();
    held_[slot] = y;
    row.resize(columns_.size() * kColours);
    const uint8_t *from = image_.data + y * image_.stride;
    int32_t *to = row.data();
    for (const Interpolation &each : columns_) {
      const uint8_t *left = from + ptrdiff_t{each.first} * kColours;
      const uint8_t *right = from + ptrdiff_t{each.second} * kColours;
      for (int c = 0; c < kColours; ++c) {
        to[c] = left[c] * (kOne - each.weight) + right[c] * each.weight;
      }
      if (pre_.is_bgr) std::swap(to[0], to[kColours - 1]);
      to += kColours;
    }
    return row.data();
  }

 private:
  const PreProcess &pre_;
  const Pixels &image_;
  const std::vector<Interpolation> &columns_;
  std::vector<int32_t> rows_[2];
  int32_t held_[2] = {-1, -1};
};

void fill(const PreProcess &pre, int64_t pixels, uint8_t *to) {
  for (; pixels > 0; --pixels, to += kColours) {
    std::memcpy(to, pre.fill, kColours);
  }
}

}  // namespace

bool is_image(const Pixels &image) {
  const int32_t height = image.size.height, width = image.size.width;
  if (image.data == nullptr || height < 1 || width < 1) return false;
  const int32_t low = std::min(height, width), high = std::max(height, width);
  // Beyond that the resized image would have a side of nothing.
  if (high > kImageSide.most || high > kImageRatio.most * low) return false;
  const ptrdiff_t row = ptrdiff_t{width} * kColours;
  return image.stride >= row || image.stride <= -row;
}

Size resized_size(const PreProcess &pre, Size image) {
  if (pre.is_stretched) return {pre.long_side, pre.long_side};
  const int64_t big = std::max(image.height, image.width);
  const int64_t small = std::min(image.height, image.width);
  const bool by_short = pre.short_side * big < pre.long_side * small;
  const int64_t p = by_short ? pre.short_side : pre.long_side;
  const int64_t q = by_short ? small : big;
  const auto scaled = [&](int64_t n) {
    return static_cast<int32_t>(
        std::max<int64_t>(1, (2 * n * p + q) / (2 * q)));
  };
  return {scaled(image.height), scaled(image.width)};
}

Size padded_size(const PreProcess &pre, Size resized, int32_t stride) {
  if (pre.is_whole) resized = {pre.long_side, pre.long_side};
  const auto padded = [&](int32_t n) {
    return (n + stride - 1) / stride * stride;
  };
  return {padded(resized.height), padded(resized.width)};
}

void resize(const PreProcess &pre, const Pixels &image, Size resized,
            Size padded, ThreadPool *pool, uint8_t *out) {
  const std::vector<Interpolation> rows =
      interpolations(resized.height, image.size.height);
  const std::vector<Interpolation> columns =
      interpolations(resized.width, image.size.width);
  const int32_t bands = (padded.height + kBand - 1) / kBand;
  pool->run(bands, [&](int64_t band, int) {
    Rows source(pre, image, columns);
    const int32_t first = static_cast<int32_t>(band) * kBand;
    const int32_t end = std::min(first + kBand, padded.height);
    for (int32_t y = first; y < end; ++y) {
      uint8_t *to = out + int64_t{y} * padded.width * kColours;
      if (y >= resized.height) {
        fill(pre, padded.width, to);
        continue;
      }
      const Interpolation &row = rows[static_cast<size_t>(y)];
      const int32_t *top = source.at(row.first);
      const int32_t *bottom = source.at(row.second);
      constexpr int32_t kHalf = 1 << (2 * kPositionBits - 1);
      // 8 + 11 + 11 bits.
      for (int32_t i = 0; i < resized.width * kColours; ++i) {
        const int32_t sum =
            top[i] * (kOne - row.weight) + bottom[i] * row.weight + kHalf;
        *to++ = static_cast<uint8_t>(sum >> (2 * kPositionBits));
      }
      fill(pre, padded.width - resized.width, to);
    }
  });
}

}  // namespace aqd
