// Some pixels of a map. Of a detector's box codes only those of its candidates
// are wanted, and of what these are made from only what their windows read.

#pragma once

#include <cstdint>
#include <vector>

#include "graph/ops.h"

namespace aqd {

class PixelSet {
 public:
  explicit PixelSet(Size size);

  Size size() const { return size_; }
  int64_t count() const;
  bool has(int64_t row, int64_t column) const {
    return (word(row, column / kBits) >> column % kBits & 1) != 0;
  }
  // Whether it has pixels of a row, from a column to before another.
  bool has_any(int64_t row, int64_t first, int64_t end) const {
    const int64_t found = next(row, first, true);
    return found < end && found < size_.width;
  }
  // Whether it has pixels in rows from one to before another.
  bool has_rows(int64_t first, int64_t end) const;

  void add(int64_t row, int64_t column) { add_run(row, column, column + 1); }
  // Adds neighbours in a row, from a column to before another.
  void add_run(int64_t row, int64_t first, int64_t end);
  // Adds those of another set of the same size.
  void add(const PixelSet &other);

  // The pixels of an input that windows at these pixels read. Between windows
  // with gaps there may be more.
  PixelSet read_by(const Window &window, Size input) const;

  // Calls with each run of neighbours in a row: take(first, end).
  template <class Take>
  void each_run(int64_t row, const Take &take) const {
    for (int64_t at = next(row, 0, true); at < size_.width;) {
      const int64_t end = next(row, at, false);
      take(at, end);
      at = next(row, end, true);
    }
  }

 private:
  static constexpr int64_t kBits = 64;

  uint64_t word(int64_t row, int64_t i) const {
    return words_[static_cast<size_t>(row * row_words_ + i)];
  }
  // The first column from one on that is in the set, or not; the width if there
  // is none.
  int64_t next(int64_t row, int64_t column, bool is_in) const;

  Size size_;
  int64_t row_words_;
  std::vector<uint64_t> words_;  // row by row, from the lowest bit on
};

}  // namespace aqd
