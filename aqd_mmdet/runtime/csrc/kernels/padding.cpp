#include "kernels/padding.h"

#include <cstring>
#include <type_traits>

#include "kernels/tuning.h"

namespace aqd {
namespace {

// Rows of an input with padding, in the type and with the zero point that the
// convolution reads.
template <class To>
class PaddedRows {
 public:
  PaddedRows(const FusedOp &fused, const InputFormat &format, uint8_t *to)
      : x_(*fused.x), padding_(fused.conv().window.padding),
        shift_(format.zero_point_shift), zeros_(format.zeros(x_.channels)),
        to_(reinterpret_cast<To *>(to)) {}

  template <class From>
  void copy(RowRange rows) {
    const int64_t count = int64_t{x_.size.width} * x_.channels;
    for (int64_t row = rows.top; row < rows.top + rows.count; ++row) {
      if (row < 0 || row >= x_.size.height) {
        pad(int64_t{x_.size.width} + 2 * padding_.width);
        continue;
      }
      pad(padding_.width);
      copy_row(static_cast<const From *>(x_.data) + row * count, count);
      pad(padding_.width);
    }
  }

 private:
  void pad(int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
      for (const int zero : zeros_) *to_++ = static_cast<To>(zero);
    }
  }

  template <class From>
  void copy_row(const From *from, int64_t count) {
    To *to = to_;  // compilers vectorise the loop if members do not change
    const int shift = shift_;
    to_ += count;
    if (std::is_same_v<From, To> && shift == 0) {
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(To));
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      to[i] = static_cast<To>(from[i] + shift);
    }
  }

  const Tensor &x_;
  const Size padding_;
  const int shift_;
  const std::vector<int> zeros_;
  To *to_;
};

}  // namespace

KSegments::KSegments(const Convolution &conv, int64_t channels) {
  const Window &window = conv.window;
  const bool whole_rows = window.dilation.width == 1;
  per_row = whole_rows ? 1 : window.kernel.width;
  count = window.kernel.height * per_row;
  codes = channels * (whole_rows ? window.kernel.width : 1);
}

int64_t KSegments::tap(const Convolution &conv, int64_t segment) const {
  return segment / per_row * conv.window.kernel.width + segment % per_row;
}

std::vector<int64_t> KSegments::offsets(const Convolution &conv,
                                        int64_t row_bytes,
                                        int64_t pixel_bytes) const {
  const Size &dilation = conv.window.dilation;
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < count; ++i) {
    offsets.push_back(i / per_row * dilation.height * row_bytes +
                      i % per_row * dilation.width * pixel_bytes);
  }
  return offsets;
}

RowRange input_rows(const Convolution &conv, RowRange rows) {
  const Window &window = conv.window;
  const int64_t reach =
      int64_t{window.dilation.height} * (window.kernel.height - 1) + 1;
  return {rows.top * window.stride.height - window.padding.height,
          (rows.count - 1) * window.stride.height + reach};
}

RowRange acc_rows(const Node &node, Size x, RowRange rows) {
  const Window &by = node.pooling;
  if (by.kernel.height == 0) return rows;
  const int64_t first = rows.top * by.stride.height - by.padding.height;
  const int64_t end =
      first + (rows.count - 1) * by.stride.height + by.kernel.height;
  const int64_t top = std::max<int64_t>(first, 0);
  const Window &window = node.conv().window;
  return {top, std::min<int64_t>(end, windowed(window, x).height) - top};
}

InputView::InputView(const Node &node, const Tensor &x,
                     const InputFormat &format) {
  const Size &padding = node.conv().window.padding;
  const bool is_changed = format.zero_point_shift != 0 ||
                          (format.widen && x.type != Type::kI16);
  // Kernels may read beyond a tensor (kSlack), but not beyond an image.
  is_copied = padding.height > 0 || padding.width > 0 ||
              node.packed.reads_pixels || is_changed;
  pixel_bytes = x.channels * (format.widen ? 2 : 1);
  row_bytes = (int64_t{x.size.width} + 2 * padding.width) * pixel_bytes;
}

int64_t line_buffer_bytes(const Node &node, Size x) {
  const int64_t count = int64_t{node.pooling.kernel.height} *
                        windowed(node.conv().window, x).width *
                        node.op.channels;
  return count == 0 ? 0 : whole_lines(count * 4 + kSlack);
}

int64_t max_strip_rows(const Node &node, int64_t row_bytes) {
  const Convolution &conv = node.conv();
  const int64_t rest = kStripBytes / row_bytes - input_rows(conv, {0, 1}).count;
  const int64_t acc =
      std::max<int64_t>(rest, 0) / conv.window.stride.height + 1;
  const Window &by = node.pooling;
  if (by.kernel.height == 0) return acc;
  return std::max<int64_t>(acc - by.kernel.height, 0) / by.stride.height + 1;
}

int64_t strip_scratch(const Node &node, Size x, const InputView &view,
                      int64_t rows) {
  const int64_t bytes = line_buffer_bytes(node, x);
  if (!view.is_copied) return bytes;
  const int64_t most = std::min(max_strip_rows(node, view.row_bytes), rows);
  // The first strip may have fewer rows than others, by the pooling's padding.
  const int64_t acc =
      acc_rows(node, x, {0, most}).count + node.pooling.padding.height;
  const int64_t copied =
      input_rows(node.conv(), {0, acc}).count;
  return bytes + whole_lines(copied * view.row_bytes + kSlack);
}

void copy_padded(const FusedOp &fused, const InputFormat &format,
                 RowRange rows, uint8_t *to) {
  if (!format.widen) {
    // Bytes stay bytes, for which the sign does not matter.
    return PaddedRows<uint8_t>(fused, format, to).copy<uint8_t>(rows);
  }
  PaddedRows<int16_t> padded(fused, format, to);
  switch (fused.x->type) {
    case Type::kU8:
      return padded.copy<uint8_t>(rows);
    case Type::kI8:
      return padded.copy<int8_t>(rows);
    default:
      return padded.copy<int16_t>(rows);
  }
}

LineBuffer::LineBuffer(const FusedOp &fused, uint8_t *memory) : conv(fused) {
  const Node &node = fused.root();
  const Window &window = node.conv().window;
  conv.size = {node.pooling.kernel.height, windowed(window, fused.x->size).width};
  lines = {memory, Type::kI32, fused.channels, conv.size};
  conv.ops.resize(1);
  conv.ops[0].out = &lines;
}

}  // namespace aqd
