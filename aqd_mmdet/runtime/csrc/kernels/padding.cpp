#include "kernels/padding.h"

#include "kernels/tuning.h"

namespace aqd {

RowRange rows_read(const Window &window, RowRange rows) {
  const int64_t reach =
      int64_t{window.dilation.height} * (window.kernel.height - 1) + 1;
  return {rows.top * window.stride.height - window.padding.height,
          (rows.count - 1) * window.stride.height + reach};
}

namespace {

// The most rows of the output whose windows read so many rows; at least one.
int64_t max_rows(const Window &window, int64_t read) {
  const int64_t rest = read - rows_read(window, {0, 1}).count;
  return std::max<int64_t>(rest, 0) / window.stride.height + 1;
}

int64_t max_strip_rows(const Node &node, int64_t row_bytes) {
  const int64_t acc = max_rows(node.conv().window, kStripBytes / row_bytes);
  return node.is_pooled() ? max_rows(node.pooling, acc) : acc;
}

// Bytes of a line buffer; none without pooling.
int64_t line_buffer_bytes(const Node &node, Size x) {
  const int64_t count = int64_t{node.pooling.kernel.height} *
                        windowed(node.conv().window, x).width *
                        node.op.channels;
  return count == 0 ? 0 : whole_lines(count * 4 + kSlack);
}

// Codes in the type and with the zero point that a convolution reads.
template <class From, class To>
void shift_codes(const From *__restrict from, int64_t count, int shift,
                 To *__restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i] + shift);
}

// Copies rows of an input with the padding around them.
template <class From, class To>
void copy_padded(const FusedOp &fused, const InputFormat &format, RowRange rows,
                 const From *from, To *to) {
  const Tensor &x = *fused.x;
  const int64_t width = x.size.width, count = width * x.channels;
  const int64_t padding = fused.conv().window.padding.width;
  const std::vector<int> zeros = format.zeros(x.channels);
  const auto pad = [&](int64_t pixels) {
    for (; pixels > 0; --pixels) {
      for (const int zero : zeros) *to++ = static_cast<To>(zero);
    }
  };
  for (int64_t row = rows.top; row < rows.top + rows.count; ++row) {
    if (row < 0 || row >= x.size.height) {
      pad(width + 2 * padding);
      continue;
    }
    pad(padding);
    shift_codes(from + row * count, count, format.zero_point_shift, to);
    to += count;
    pad(padding);
  }
}

}  // namespace

InputView::InputView(const Node &node, const Tensor &x,
                     const InputFormat &format) {
  const Size &padding = node.conv().window.padding;
  const bool is_changed = format.zero_point_shift != 0 ||
                          (format.widen && x.type != Type::kI16);
  // Kernels may read beyond a tensor (kSlack), but not beyond an image.
  is_copied = padding.height > 0 || padding.width > 0 ||
              node.packed.reads_pixels || is_changed;
  pixel_bytes = int64_t{x.channels} * format.code_bytes();
  row_bytes =
      (int64_t{x.size.width} + 2 * int64_t{padding.width}) * pixel_bytes;
}

InputView::InputView(const Node &node, const Tensor &x,
                     const PackedDepthwise &packed, int64_t lanes)
    : is_copied(true) {
  const int64_t width = windowed(node.conv().window, x.size).width;
  pixel_bytes = vectors_of(x.channels, lanes) * lanes * 4;
  row_bytes = packed.groups.of_row(width) * pixel_bytes;
}

KSegments::KSegments(const Window &window, int64_t channels) {
  const Size &kernel = window.kernel;
  const int64_t columns = window.dilation.width == 1 ? kernel.width : 1;
  codes = channels * columns;
  for (int64_t tap = 0; tap < int64_t{kernel.height} * kernel.width;) {
    taps.push_back(tap);
    tap += columns;
  }
}

std::vector<int64_t> KSegments::offsets(const Window &window,
                                        const InputView &view) const {
  std::vector<int64_t> offsets;
  for (const int64_t tap : taps) {
    const int64_t row = tap / window.kernel.width * window.dilation.height;
    const int64_t column = tap % window.kernel.width * window.dilation.width;
    offsets.push_back(row * view.row_bytes + column * view.pixel_bytes);
  }
  return offsets;
}

RowRange acc_rows(const Node &node, Size x, RowRange rows) {
  if (!node.is_pooled()) return rows;
  const RowRange read = rows_read(node.pooling, rows);
  const int64_t height = windowed(node.conv().window, x).height;
  const int64_t top = std::max<int64_t>(read.top, 0);
  return {top, std::min(read.top + read.count, height) - top};
}

int64_t strip_scratch(const Node &node, Size x, const InputView &view,
                      int64_t rows) {
  const int64_t bytes = line_buffer_bytes(node, x);
  if (!view.is_copied) return bytes;
  const int64_t most = std::min(max_strip_rows(node, view.row_bytes), rows);
  // The first strip may have fewer rows than others, by the pooling's padding.
  const int64_t acc =
      acc_rows(node, x, {0, most}).count + node.pooling.padding.height;
  const int64_t copied = rows_read(node.conv().window, {0, acc}).count;
  return bytes + whole_lines(copied * view.row_bytes + kSlack);
}

RowStrip make_strip(const FusedOp &fused, const InputFormat &format,
                    const InputView &view, RowRange rows, uint8_t *memory) {
  const Node &node = fused.root();
  const Window &window = node.conv().window;
  const Tensor &x = *fused.x;
  RowStrip strip = {rows, acc_rows(node, x.size, rows), memory, memory};
  strip.line_buffer += strip_scratch(node, x.size, view, fused.size.height) -
                       line_buffer_bytes(node, x.size);
  const RowRange read = rows_read(window, strip.acc_rows);
  if (!view.is_copied) {
    strip.windows =
        static_cast<const uint8_t *>(x.data) + read.top * view.row_bytes;
  } else if (format.widen) {
    with_codes(x, [&](const auto *codes) {
      copy_padded(fused, format, read, codes,
                  reinterpret_cast<int16_t *>(memory));
    });
  } else {
    // Bytes stay bytes, for which the sign does not matter.
    copy_padded(fused, format, read, static_cast<const uint8_t *>(x.data),
                memory);
  }
  return strip;
}

int64_t strip_count(const FusedOp &fused, const InputView &view, int threads) {
  const int64_t rows = fused.size.height;
  const int64_t most = max_strip_rows(fused.root(), view.row_bytes);
  // Several for each thread, so that none waits long for another.
  const int64_t least = threads > 1 ? 4 * int64_t{threads} : 1;
  return std::min(rows, std::max((rows + most - 1) / most, least));
}

LineBuffer::LineBuffer(const FusedOp &fused, uint8_t *memory) : conv(fused) {
  const Node &node = fused.root();
  const int32_t width = windowed(node.conv().window, fused.x->size).width;
  conv.size = {node.pooling.kernel.height, width};
  lines = {memory, Type::kI32, fused.channels, conv.size};
  conv.ops.resize(1);
  conv.ops[0].out = &lines;
}

}  // namespace aqd
