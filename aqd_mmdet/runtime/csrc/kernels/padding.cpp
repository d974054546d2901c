#include "kernels/padding.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace aqd {
namespace {

// Bytes of input that a thread works at: a quarter of a common L2 cache, the
// rest of which is for weights.
constexpr int64_t kBand = 512 << 10;

// Writes what stands for zero in some pixels: of an image its means.
template <typename To>
To *fill(const Node &node, int64_t pixels, int32_t channels, To *to) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      const int zero = node.packed.reads_pixels ? node.packed.means[c] : 0;
      *to++ = static_cast<To>(zero + node.packed.reading.raise);
    }
  }
  return to;
}

template <typename From, typename To>
void frame(const Node &node, const Tensor &x, const Band &band, To *to) {
  const int64_t line = int64_t{x.size.width} * x.channels;
  for (int64_t row = band.top; row < band.top + band.rows; ++row) {
    if (row < 0 || row >= x.size.height) {
      const int64_t width = int64_t{x.size.width} + 2 * node.conv().window.padding.width;
      to = fill(node, width, x.channels, to);
      continue;
    }
    const From *from = static_cast<const From *>(x.data) + row * line;
    to = fill(node, node.conv().window.padding.width, x.channels, to);
    if (std::is_same_v<From, To> && node.packed.reading.raise == 0) {
      std::memcpy(to, from, static_cast<size_t>(line) * sizeof *to);
    } else {
      for (int64_t i = 0; i < line; ++i) {
        to[i] = static_cast<To>(from[i] + node.packed.reading.raise);
      }
    }
    to += line;
    to = fill(node, node.conv().window.padding.width, x.channels, to);
  }
}

}  // namespace

Runs runs_of(const Node &node, int32_t channels) {
  Runs runs;
  const bool whole = node.conv().window.dilation.width == 1;
  runs.per_row = whole ? 1 : node.conv().window.kernel.width;
  runs.count = node.conv().window.kernel.height * runs.per_row;
  runs.codes = int64_t{channels} * (whole ? node.conv().window.kernel.width : 1);
  return runs;
}

int64_t tap_of(const Node &node, const Runs &runs, int64_t run) {
  return run / runs.per_row * node.conv().window.kernel.width + run % runs.per_row;
}

std::vector<int64_t> offsets_of(const Node &node, const Runs &runs, int64_t line,
                                int64_t pixel) {
  std::vector<int64_t> offsets;
  for (int64_t run = 0; run < runs.count; ++run) {
    offsets.push_back(run / runs.per_row * node.conv().window.dilation.height * line +
                      run % runs.per_row * node.conv().window.dilation.width * pixel);
  }
  return offsets;
}

Band band_of(const Node &node, int64_t top, int64_t rows) {
  const int64_t reach =
      int64_t{node.conv().window.dilation.height} * (node.conv().window.kernel.height - 1) + 1;
  return {top * node.conv().window.stride.height - node.conv().window.padding.height,
          (rows - 1) * node.conv().window.stride.height + reach};
}

int64_t most_rows(const Node &node, int64_t line) {
  const int64_t rest = kBand / line - band_of(node, 0, 1).rows;
  const int64_t sums = std::max<int64_t>(rest, 0) / node.conv().window.stride.height + 1;
  const Pooling &by = node.pooling;
  if (by.kernel.height == 0) return sums;
  return std::max<int64_t>(sums - by.kernel.height, 0) / by.stride.height + 1;
}

Source source_of(const Node &node, const Tensor &x, size_t bytes,
                 bool are_changed) {
  // Without a frame what is behind a tensor may be read: not behind an image.
  const bool is_copied = node.conv().window.padding.height > 0 || node.conv().window.padding.width > 0 ||
                         node.packed.reads_pixels || are_changed;
  return {is_copied, (int64_t{x.size.width} + 2 * node.conv().window.padding.width) *
                         x.channels * static_cast<int64_t>(bytes)};
}

Band sums_of(const Node &node, Size x, int64_t top, int64_t rows) {
  const Pooling &by = node.pooling;
  if (by.kernel.height == 0) return {top, rows};
  const int64_t first = top * by.stride.height - by.padding.height;
  const int64_t end = first + (rows - 1) * by.stride.height + by.kernel.height;
  const int64_t from = std::max<int64_t>(first, 0);
  return {from, std::min<int64_t>(end, windowed(node.conv().window, x).height) - from};
}

int64_t ring_bytes(const Node &node, Size x) {
  const int64_t sums = int64_t{node.pooling.kernel.height} *
                       windowed(node.conv().window, x).width * node.op.channels;
  return sums == 0 ? 0 : whole_lines(sums * 4 + kSlack);
}

int64_t scratch_for(const Node &node, Size x, const Source &source,
                    int64_t rows) {
  int64_t bytes = ring_bytes(node, x);
  if (!source.is_copied) return bytes;
  const Band sums = sums_of(node, x, 0, std::min(most_rows(node, source.line), rows));
  // Those of a band below the first one, which may be cut off.
  const int64_t most = sums.rows + node.pooling.padding.height;
  bytes += whole_lines(band_of(node, 0, most).rows * source.line + kSlack);
  return bytes;
}

Ring::Ring(const FusedOp &pooled, uint8_t *memory) : fused(pooled) {
  const Node &node = pooled.root();
  fused.size = {node.pooling.kernel.height, windowed(node.conv().window, pooled.x->size).width};
  sums = {memory, Type::kI32, pooled.channels, fused.size};
  fused.ops.resize(1);
  fused.ops[0].out = &sums;
}

void frame(const Node &node, const Tensor &x, const Band &band, uint8_t *to) {
  int16_t *words = reinterpret_cast<int16_t *>(to);
  if (x.type == Type::kI16) return frame<int16_t>(node, x, band, words);
  // Codes of 8 bits that stay so need no sign: sums are the same.
  if (!node.packed.reading.as_words) return frame<uint8_t>(node, x, band, to);
  if (x.type == Type::kU8) return frame<uint8_t>(node, x, band, words);
  frame<int8_t>(node, x, band, words);
}

}  // namespace aqd
