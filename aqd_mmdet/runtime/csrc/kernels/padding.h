// How a convolution reads its input. Channels are innermost, so that what a
// window covers in one row is contiguous, and there is no im2col: a kernel
// reads a few contiguous segments of K by their offsets. Where windows reach
// over the edge, a strip of rows is first copied into a thread's scratch
// memory, with the padding around it.

#pragma once

#include <algorithm>
#include <vector>

#include "graph/memory_plan.h"
#include "kernels/fused_op.h"

namespace aqd {

// Whether the input is read in place, or from a copy with padding whose codes
// are in the convolution's input format; and the bytes of a row.
struct InputView {
  bool is_copied;
  int64_t row_bytes, pixel_bytes;

  InputView(const Node &node, const Tensor &x, const InputFormat &format);
  // Of a depthwise convolution: a pixel is a group of columns.
  InputView(const Node &node, const Tensor &x, const PackedDepthwise &packed,
            int64_t lanes);
};

// The contiguous parts of a window, K = kernel height x kernel width x
// channels: one for each of its rows, or for each tap if it is dilated.
struct KSegments {
  std::vector<int64_t> taps;  // the first of each
  int64_t codes;              // of each

  KSegments(const Window &window, int64_t channels);
  // Where they begin, in bytes from the window's first code.
  std::vector<int64_t> offsets(const Window &window,
                               const InputView &view) const;
};

// Rows of a convolution's input or output.
struct RowRange {
  int64_t top = 0;  // of an input negative in the padding
  int64_t count = 0;
};

// A strip of the output, which one thread makes.
struct RowStrip {
  RowRange rows, acc_rows;  // of the output, and of accumulators
  const uint8_t *windows;   // where the first of these reads
  uint8_t *line_buffer;     // for pooling
};

// The rows of the input that windows of rows of the output read.
RowRange rows_read(const Window &window, RowRange rows);

// The rows of accumulators that rows of the output pool, or are.
RowRange acc_rows(const Node &node, Size x, RowRange rows);

// Bytes that a thread needs for an output with so many rows.
int64_t strip_scratch(const Node &node, Size x, const InputView &view,
                      int64_t rows);

// The strip of some rows, copied into memory if its input is not read in place.
RowStrip make_strip(const FusedOp &fused, const InputFormat &format,
                    const InputView &view, RowRange rows, uint8_t *memory);

// How many strips the output is divided into.
int64_t strip_count(const FusedOp &fused, const InputView &view, int threads);

// Divides the rows of the output among threads, and calls with those of each
// strip and the thread's memory.
template <class Work>
void divide_rows(const FusedOp &fused, const InputView &view,
                 const Workers &workers, const Work &work) {
  const int64_t rows = fused.size.height;
  const int64_t strips = strip_count(fused, view, workers.threads());
  workers.run(strips, [&](int64_t i, uint8_t *memory) {
    const int64_t top = rows * i / strips, end = rows * (i + 1) / strips;
    if (!fused.wants_rows(top, end)) return;
    work(RowRange{top, end - top}, memory);
  });
}

// Calls with each strip.
template <class Work>
void for_each_strip(const FusedOp &fused, const InputFormat &format,
                    const InputView &view, const Workers &workers,
                    const Work &work) {
  divide_rows(fused, view, workers, [&](RowRange rows, uint8_t *memory) {
    work(make_strip(fused, format, view, rows, memory));
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

  // The largest accumulators of some pixels of a row of the output, for a
  // vector of channels of each. (Inlined, to use the instructions of the
  // caller.)
  template <class Lanes>
  AQD_INLINE void pool(const FusedOp &fused, int64_t row, int64_t column,
                       int pixels, int64_t channel, int32_t *to) const {
    typedef Lanes Memory __attribute__((aligned(4), may_alias));
    const Window &by = fused.root().pooling;
    const RowRange rows = acc_rows(fused.root(), fused.x->size, {row, 1});
    const int64_t width = lines.size.width;
    const int32_t *acc = static_cast<const int32_t *>(lines.data) + channel;
    for (int p = 0; p < pixels; ++p, to += sizeof(Lanes) / sizeof *to) {
      const int64_t left = (column + p) * by.stride.width - by.padding.width;
      const int64_t end = std::min(left + by.kernel.width, width);
      Lanes most = Lanes{} + INT32_MIN;
      for (int64_t y = rows.top; y < rows.top + rows.count; ++y) {
        const int32_t* line =
            acc + y % by.kernel.height * width * lines.channels;
        for (int64_t x = std::max<int64_t>(left, 0); x < end; ++x) {
          const Lanes each =
              *reinterpret_cast<const Memory *>(line + x * lines.channels);
          most = most < each ? each : most;
        }
      }
      *reinterpret_cast<Memory *>(to) = most;
    }
  }
};

}  // namespace aqd
