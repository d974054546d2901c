// How a convolution reads its input. Channels are innermost, so that what a
// window covers in one row is contiguous, and there is no im2col: a kernel reads
// a few contiguous segments of K by their offsets. Where windows reach over the
// edge, a strip of rows is first copied into a thread's scratch memory, with
// the padding around it.

#pragma once

#include <algorithm>
#include <vector>

#include "graph/memory_plan.h"
#include "kernels/packing.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {

// The contiguous parts of a window, K = kernel height x kernel width x channels:
// one for each of its rows, or for each tap if it is dilated.
struct KSegments {
  int64_t count = 0;
  int64_t per_row = 0;
  int64_t codes = 0;  // of each

  KSegments(const Convolution &conv, int64_t channels);
  // The first tap of a segment.
  int64_t tap(const Convolution &conv, int64_t segment) const;
  // Where they begin, in bytes from the window's first code.
  std::vector<int64_t> offsets(const Convolution &conv, int64_t row_bytes,
                               int64_t pixel_bytes) const;
};

// Rows of a convolution's input or output.
struct RowRange {
  int64_t top = 0;  // of an input negative in the padding
  int64_t count = 0;
};

// The input rows that output rows read, and with pooling the rows of
// accumulators that rows of pooled ones read.
RowRange input_rows(const Convolution &conv, RowRange rows);
RowRange acc_rows(const Node &node, Size x, RowRange rows);

// Whether the input is read in place, or from a copy with padding whose codes
// are in the convolution's input format; and the bytes of a row.
struct InputView {
  bool is_copied = false;
  int64_t row_bytes = 0;
  int64_t pixel_bytes = 0;

  InputView(const Node &node, const Tensor &x, const InputFormat &format);
};

// A strip of the output, which one thread makes.
struct RowStrip {
  int64_t top, end;
  RowRange acc;            // rows of accumulators
  const uint8_t *windows;  // where the first of these reads
  uint8_t *line_buffer;    // for pooling
};

// Bytes that a thread needs for an output with so many rows.
int64_t strip_scratch(const Node &node, Size x, const InputView &view,
                      int64_t rows);

// Bytes of a line buffer; none without pooling.
int64_t line_buffer_bytes(const Node &node, Size x);

// The most rows of a strip.
int64_t max_strip_rows(const Node &node, int64_t row_bytes);

void copy_padded(const FusedOp &fused, const InputFormat &format,
                 RowRange rows, uint8_t *to);

// Divides the output among threads, and calls with each strip.
template <class Work>
void for_each_strip(const FusedOp &fused, const InputFormat &format,
                    const InputView &view, uint8_t *scratch, int64_t step,
                    ThreadPool *pool, const Work &work) {
  const Node &node = fused.root();
  const Convolution &conv = fused.conv();
  const Tensor &x = *fused.x;
  const int64_t rows = fused.size.height;
  const int64_t most = max_strip_rows(node, view.row_bytes);
  // Several for each thread, so that none waits long for another.
  const int64_t least = pool->threads() > 1 ? 4 * pool->threads() : 1;
  const int64_t strips = std::min(rows, std::max((rows + most - 1) / most, least));
  pool->run(strips, [&](int64_t i, int thread) {
    uint8_t *mine = scratch + step * thread;
    RowStrip strip;
    strip.top = rows * i / strips;
    strip.end = rows * (i + 1) / strips;
    strip.acc = acc_rows(node, x.size, {strip.top, strip.end - strip.top});
    strip.line_buffer = mine + strip_scratch(node, x.size, view, rows) -
                        line_buffer_bytes(node, x.size);
    strip.windows = static_cast<const uint8_t *>(x.data) +
                    strip.acc.top * conv.window.stride.height * view.row_bytes;
    if (view.is_copied) {
      copy_padded(fused, format, input_rows(conv, strip.acc), mine);
      strip.windows = mine;
    }
    work(strip);
  });
}

// Accumulators of as many rows as a pooling window has, the last ones that were
// made: row y is in line y % height. The convolution is run as a fused operator
// of its own that stores its accumulators here.
struct LineBuffer {
  Tensor lines;
  FusedOp conv;

  LineBuffer(const FusedOp &fused, uint8_t *memory);
  LineBuffer(const LineBuffer &) = delete;
  LineBuffer &operator=(const LineBuffer &) = delete;
};

// Calls `make` with the windows and the line of each row of accumulators, and
// `finish` with each row of the output as soon as the rows that it pools are
// there.
template <class Make, class Finish>
void for_each_pooled_row(const FusedOp &fused, const RowStrip &strip,
                         int64_t row_bytes, const Make &make,
                         const Finish &finish) {
  const Node &node = fused.root();
  const int64_t step = fused.conv().window.stride.height * row_bytes;
  int64_t next = strip.acc.top;
  for (int64_t row = strip.top; row < strip.end; ++row) {
    const RowRange needed = acc_rows(node, fused.x->size, {row, 1});
    for (; next < needed.top + needed.count; ++next) {
      make(strip.windows + (next - strip.acc.top) * step,
           next % node.pooling.kernel.height);
    }
    finish(row);
  }
}

// The largest accumulators of some pixels of a row of the output, for a vector
// of channels of each. (Inlined, to use the instructions of the caller.)
template <int kLanes>
__attribute__((always_inline)) inline void pool_accumulators(
    const FusedOp &fused, const LineBuffer &buffer, int64_t row,
    int64_t column, int pixels, int64_t channel, int32_t *to) {
  typedef int32_t Lanes
      __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
  const Window &by = fused.root().pooling;
  const RowRange rows = acc_rows(fused.root(), fused.x->size, {row, 1});
  const int64_t width = buffer.lines.size.width;
  const int32_t *acc =
      static_cast<const int32_t *>(buffer.lines.data) + channel;
  for (int p = 0; p < pixels; ++p, to += kLanes) {
    const int64_t left = (column + p) * by.stride.width - by.padding.width;
    const int64_t first = left < 0 ? 0 : left;
    const int64_t end =
        left + by.kernel.width < width ? left + by.kernel.width : width;
    Lanes most = Lanes{} + INT32_MIN;
    for (int64_t y = rows.top; y < rows.top + rows.count; ++y) {
      const int32_t *line = acc + y % by.kernel.height * width * fused.channels;
      for (int64_t x = first; x < end; ++x) {
        const Lanes each =
            *reinterpret_cast<const Lanes *>(line + x * fused.channels);
        most = most < each ? each : most;
      }
    }
    *reinterpret_cast<Lanes *>(to) = most;
  }
}

}  // namespace aqd
