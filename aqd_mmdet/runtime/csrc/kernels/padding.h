// What a convolution reads for one output pixel: a few runs of codes, a row of
// the window each, since channels are innermost; and the frame of zeros around
// its input, so that every window is whole.

#pragma once

#include <algorithm>

#include "graph/memory_plan.h"
#include "kernels/reference.h"

namespace aqd {

// How the window of an operator is read.
struct Runs {
  int64_t count = 0;
  int64_t per_row = 0;
  int64_t codes = 0;  // of a run
};

Runs runs_of(const Node &node, int32_t channels);

// Which tap of the kernel is the first of a run.
int64_t tap_of(const Node &node, const Runs &runs, int64_t run);

// Where runs begin, in bytes from the first.
std::vector<int64_t> offsets_of(const Node &node, const Runs &runs, int64_t line,
                                int64_t pixel);

// Which rows of a frame around an input some rows of the output read.
struct Band {
  int64_t top = 0;  // above the input's first row by the padding
  int64_t rows = 0;
};

Band band_of(const Node &node, int64_t top, int64_t rows);

// Bytes of a ring of sums that are pooled; none if they are not.
int64_t ring_bytes(const Node &node, Size x);

// How many rows of the output a thread makes at a time, at most, so that what
// it reads stays in its cache; a line is a row of the frame, in bytes.
int64_t most_rows(const Node &node, int64_t line);

// How a convolution's input is read: in its place or as a copy in a frame, of
// rows of so many bytes.
struct Source {
  bool is_copied = false;
  int64_t line = 0;
};

// How an input is read whose codes have so many bytes then, and are others than
// the tensor's if they are changed.
Source source_of(const Node &node, const Tensor &x, size_t bytes, bool are_changed);

// Some rows of the output, and what a thread makes them of: windows of sums
// one after another, and for pooled ones room for those of a pooling window.
struct Rows {
  int64_t top, end;
  Band sums;
  const uint8_t *windows;
  uint8_t *ring;
};

// Rows of sums that some rows of the output need.
Band sums_of(const Node &node, Size x, int64_t top, int64_t rows);

// Bytes that a thread needs for a convolution whose output has so many rows.
int64_t scratch_for(const Node &node, Size x, const Source &source, int64_t rows);

// A convolution by itself whose sums go to rows of a ring in turn.
struct Ring {
  Tensor sums;
  FusedOp fused;

  Ring(const FusedOp &pooled, uint8_t *memory);
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;
};

// Makes sums of all rows (by `make`, from a window's codes to a row of the
// ring) and calls `finish` for each row of the output when those that it
// pools are there.
template <typename Make, typename Finish>
void in_turns(const FusedOp &fused, const Rows &rows, const Source &source,
              const Make &make, const Finish &finish) {
  const Node &node = fused.root();
  const Pooling &by = node.pooling;
  int64_t next = rows.sums.top;
  for (int64_t row = rows.top; row < rows.end; ++row) {
    const Band needed = sums_of(node, fused.x->size, row, 1);
    for (; next < needed.top + needed.rows; ++next) {
      make(rows.windows + (next - rows.sums.top) * node.conv().window.stride.height * source.line,
           next % by.kernel.height);
    }
    finish(row);
  }
}

// The largest sums of some pixels of a row of the output, a vector of channels
// of each. (Always inlined: instructions are those of the caller.)
template <int kLanes>
__attribute__((always_inline)) inline void pool_sums(
    const FusedOp &fused, const Ring &ring, int64_t row, int64_t column,
    int pixels, int64_t channel, int32_t *to) {
  typedef int32_t Lanes
      __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  const Node &node = fused.root();
  const Pooling &by = node.pooling;
  const Band rows = sums_of(node, fused.x->size, row, 1);
  const int64_t width = ring.sums.size.width;
  const int32_t *sums = static_cast<const int32_t *>(ring.sums.data) + channel;
  for (int p = 0; p < pixels; ++p, to += kLanes) {
    const int64_t left = (column + p) * by.stride.width - by.padding.width;
    const int64_t first = left < 0 ? 0 : left;
    const int64_t end =
        left + by.kernel.width < width ? left + by.kernel.width : width;
    Lanes most = Lanes{} + INT32_MIN;
    for (int64_t y = rows.top; y < rows.top + rows.rows; ++y) {
      const int32_t *line = sums + y % by.kernel.height * width * fused.channels;
      for (int64_t x = first; x < end; ++x) {
        const Lanes each =
            *reinterpret_cast<const Lanes *>(line + x * fused.channels);
        most = most < each ? each : most;
      }
    }
    *reinterpret_cast<Lanes *>(to) = most;
  }
}

// Copies rows of an input into a frame of what stands for zero, as the
// operator's reading says.
void frame(const Node &node, const Tensor &x, const Band &band, uint8_t *to);

// Divides the output of a convolution among threads.
template <typename Work>
void in_bands(const FusedOp &fused, const Source &source, uint8_t *scratch,
              int64_t step, ThreadPool *pool, const Work &work) {
  const Node &node = fused.root();
  const Tensor &x = *fused.x;
  const int64_t rows = fused.size.height;
  // Some for each thread, so that none waits long for another.
  const int64_t few = pool->threads() > 1 ? 4 * pool->threads() : 1;
  const int64_t most = most_rows(node, source.line);
  const int64_t parts = std::min(rows, std::max((rows + most - 1) / most, few));
  pool->run(parts, [&](int64_t part, int thread) {
    uint8_t *mine = scratch + step * thread;
    Rows each;
    each.top = rows * part / parts;
    each.end = rows * (part + 1) / parts;
    each.sums = sums_of(node, x.size, each.top, each.end - each.top);
    each.ring = mine + scratch_for(node, x.size, source, rows) -
                ring_bytes(node, x.size);
    each.windows = static_cast<const uint8_t *>(x.data) +
                   each.sums.top * node.conv().window.stride.height * source.line;
    if (source.is_copied) {
      frame(node, x, band_of(node, each.sums.top, each.sums.rows), mine);
      each.windows = mine;
    }
    work(each);
  });
}

}  // namespace aqd
