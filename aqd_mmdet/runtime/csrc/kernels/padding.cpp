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
To *fill(const Op &op, int64_t pixels, int32_t channels, To *to) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      const int zero = op.reads_pixels ? op.table[c] : 0;
      *to++ = static_cast<To>(zero + op.reading.raise);
    }
  }
  return to;
}

template <typename From, typename To>
void frame(const Op &op, const Tensor &x, const Band &band, To *to) {
  const int64_t line = int64_t{x.size.width} * x.channels;
  for (int64_t row = band.top; row < band.top + band.rows; ++row) {
    if (row < 0 || row >= x.size.height) {
      const int64_t width = int64_t{x.size.width} + 2 * op.padding.width;
      to = fill(op, width, x.channels, to);
      continue;
    }
    const From *from = static_cast<const From *>(x.data) + row * line;
    to = fill(op, op.padding.width, x.channels, to);
    if (std::is_same_v<From, To> && op.reading.raise == 0) {
      std::memcpy(to, from, static_cast<size_t>(line) * sizeof *to);
    } else {
      for (int64_t i = 0; i < line; ++i) {
        to[i] = static_cast<To>(from[i] + op.reading.raise);
      }
    }
    to += line;
    to = fill(op, op.padding.width, x.channels, to);
  }
}

}  // namespace

Runs runs_of(const Op &op, int32_t channels) {
  Runs runs;
  const bool whole = op.dilation.width == 1;
  runs.per_row = whole ? 1 : op.kernel.width;
  runs.count = op.kernel.height * runs.per_row;
  runs.codes = int64_t{channels} * (whole ? op.kernel.width : 1);
  return runs;
}

int64_t tap_of(const Op &op, const Runs &runs, int64_t run) {
  return run / runs.per_row * op.kernel.width + run % runs.per_row;
}

std::vector<int64_t> offsets_of(const Op &op, const Runs &runs, int64_t line,
                                int64_t pixel) {
  std::vector<int64_t> offsets;
  for (int64_t run = 0; run < runs.count; ++run) {
    offsets.push_back(run / runs.per_row * op.dilation.height * line +
                      run % runs.per_row * op.dilation.width * pixel);
  }
  return offsets;
}

Band band_of(const Op &op, int64_t top, int64_t rows) {
  const int64_t reach =
      int64_t{op.dilation.height} * (op.kernel.height - 1) + 1;
  return {top * op.stride.height - op.padding.height,
          (rows - 1) * op.stride.height + reach};
}

int64_t most_rows(const Op &op, int64_t line) {
  const int64_t rest = kBand / line - band_of(op, 0, 1).rows;
  const int64_t sums = std::max<int64_t>(rest, 0) / op.stride.height + 1;
  const Pooling &by = op.pooling;
  if (by.kernel.height == 0) return sums;
  return std::max<int64_t>(sums - by.kernel.height, 0) / by.stride.height + 1;
}

Source source_of(const Op &op, const Tensor &x, size_t bytes,
                 bool are_changed) {
  // Without a frame what is behind a tensor may be read: not behind an image.
  const bool is_copied = op.padding.height > 0 || op.padding.width > 0 ||
                         op.reads_pixels || are_changed;
  return {is_copied, (int64_t{x.size.width} + 2 * op.padding.width) *
                         x.channels * static_cast<int64_t>(bytes)};
}

Band sums_of(const Op &op, Size x, int64_t top, int64_t rows) {
  const Pooling &by = op.pooling;
  if (by.kernel.height == 0) return {top, rows};
  const int64_t first = top * by.stride.height - by.padding.height;
  const int64_t end = first + (rows - 1) * by.stride.height + by.kernel.height;
  const int64_t from = std::max<int64_t>(first, 0);
  return {from, std::min<int64_t>(end, windowed(op, x).height) - from};
}

int64_t ring_bytes(const Op &op, Size x) {
  const int64_t sums = int64_t{op.pooling.kernel.height} *
                       windowed(op, x).width * op.channels;
  return sums == 0 ? 0 : whole_lines(sums * 4 + kSlack);
}

int64_t scratch_for(const Op &op, Size x, const Source &source,
                    int64_t rows) {
  int64_t bytes = ring_bytes(op, x);
  if (!source.is_copied) return bytes;
  const Band sums = sums_of(op, x, 0, std::min(most_rows(op, source.line), rows));
  // Those of a band below the first one, which may be cut off.
  const int64_t most = sums.rows + op.pooling.padding.height;
  bytes += whole_lines(band_of(op, 0, most).rows * source.line + kSlack);
  return bytes;
}

Ring::Ring(const Group &pooled, uint8_t *memory) : group(pooled) {
  const Op &op = pooled.op();
  group.size = {op.pooling.kernel.height, windowed(op, pooled.x->size).width};
  sums = {memory, Type::kI32, pooled.channels, group.size};
  group.stages.resize(1);
  group.stages[0].out = &sums;
}

void frame(const Op &op, const Tensor &x, const Band &band, uint8_t *to) {
  int16_t *words = reinterpret_cast<int16_t *>(to);
  if (x.type == Type::kI16) return frame<int16_t>(op, x, band, words);
  // Codes of 8 bits that stay so need no sign: sums are the same.
  if (!op.reading.as_words) return frame<uint8_t>(op, x, band, to);
  if (x.type == Type::kU8) return frame<uint8_t>(op, x, band, words);
  frame<int8_t>(op, x, band, words);
}

}  // namespace aqd
