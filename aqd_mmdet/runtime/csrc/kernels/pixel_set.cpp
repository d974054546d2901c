#include "kernels/pixel_set.h"

#include <algorithm>

namespace aqd {

PixelSet::PixelSet(Size size)
    : size_(size), row_words_((size.width + kBits - 1) / kBits),
      words_(static_cast<size_t>(size.height * row_words_), 0) {}

int64_t PixelSet::count() const {
  int64_t pixels = 0;
  for (const uint64_t word : words_) pixels += __builtin_popcountll(word);
  return pixels;
}

bool PixelSet::has_rows(int64_t first, int64_t end) const {
  const auto is_there = [](uint64_t word) { return word != 0; };
  return std::any_of(words_.begin() + first * row_words_,
                     words_.begin() + end * row_words_, is_there);
}

void PixelSet::add_run(int64_t row, int64_t first, int64_t end) {
  uint64_t *words = words_.data() + row * row_words_;
  while (first < end) {
    const int64_t bit = first % kBits;
    const int64_t bits = std::min(kBits - bit, end - first);
    words[first / kBits] |= ~uint64_t{0} >> (kBits - bits) << bit;
    first += bits;
  }
}

void PixelSet::add(const PixelSet &other) {
  for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
}

PixelSet PixelSet::read_by(const Window &window, Size input) const {
  PixelSet read(input);
  const int64_t reach =
      int64_t{window.dilation.width} * (window.kernel.width - 1) + 1;
  for (int64_t row = 0; row < size_.height; ++row) {
    each_run(row, [&](int64_t first, int64_t end) {
      const int64_t step = window.stride.width, left = window.padding.width;
      const int64_t from = std::max<int64_t>(first * step - left, 0);
      const int64_t to =
          std::min<int64_t>((end - 1) * step - left + reach, input.width);
      int64_t y = row * window.stride.height - window.padding.height;
      for (int i = 0; i < window.kernel.height; ++i) {
        if (y >= 0 && y < input.height) read.add_run(y, from, to);
        y += window.dilation.height;
      }
    });
  }
  return read;
}

int64_t PixelSet::next(int64_t row, int64_t column, bool is_in) const {
  for (; column < size_.width; column += kBits - column % kBits) {
    const uint64_t word = this->word(row, column / kBits);
    const uint64_t left = (is_in ? word : ~word) >> column % kBits;
    if (left == 0) continue;
    return std::min<int64_t>(column + __builtin_ctzll(left), size_.width);
  }
  return size_.width;
}

}  // namespace aqd
