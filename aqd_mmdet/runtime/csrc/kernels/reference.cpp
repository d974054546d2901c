// Portable kernels, the readable twins of tests/oracle.py.

#include "kernels/fused_op.h"

#include <algorithm>

namespace aqd {
namespace {

// Calls with each tap of an output's window and the row and column of the input
// that it reads, but for those in the padding.
template <class Take>
void each_tap(const Window &window, Size input, int64_t row, int64_t column,
              const Take &take) {
  const Size &kernel = window.kernel;
  const int64_t top = row * window.stride.height - window.padding.height;
  const int64_t left = column * window.stride.width - window.padding.width;
  for (int64_t v = 0; v < kernel.height; ++v) {
    const int64_t y = top + v * window.dilation.height;
    if (y < 0 || y >= input.height) continue;
    for (int64_t u = 0; u < kernel.width; ++u) {
      const int64_t x = left + u * window.dilation.width;
      if (x < 0 || x >= input.width) continue;
      take(v * kernel.width + u, y, x);
    }
  }
}

// Adds what one tap contributes to all sums of a pixel; weights of the tap
// are in x out.
template <typename T>
void add_tap(const Convolution &conv, int32_t ins, int32_t outs, const T *codes,
             const int8_t *weights, int32_t *sums) {
  const int64_t groups = conv.groups;
  const int64_t ins_each = ins / groups, outs_each = outs / groups;
  const int32_t *zeros = conv.zeros.data();
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t i = 0; i < ins_each; ++i) {
      const int64_t channel = group * ins_each + i;
      const int code = codes[channel] - zeros[channel];
      const int8_t *w = weights + i * outs + group * outs_each;
      int32_t *sum = sums + group * outs_each;
      for (int64_t o = 0; o < outs_each; ++o) sum[o] += code * w[o];
    }
  }
}

void convolve_pixel(const FusedOp &fused, int64_t row, int64_t column,
                    int32_t *sums) {
  const Convolution &conv = fused.conv();
  const Tensor &x = *fused.x;
  const int8_t *weights = conv.weights->codes.data();
  const int64_t step = int64_t{x.channels / conv.groups} * fused.channels;
  std::fill(sums, sums + fused.channels, 0);
  with_codes(x, [&](const auto *codes) {
    each_tap(conv.window, x.size, row, column,
             [&](int64_t tap, int64_t y, int64_t z) {
      add_tap(conv, x.channels, fused.channels,
              codes + (y * x.size.width + z) * x.channels, weights + tap * step,
              sums);
    });
  });
}

// Replaces codes by those of another pixel that are larger.
template <class From, class To>
void take_largest(const From *__restrict codes, int64_t count,
                  To *__restrict largest) {
  for (int64_t i = 0; i < count; ++i) {
    largest[i] = std::max(largest[i], static_cast<To>(codes[i]));
  }
}

// The largest accumulators in the window of a pooled pixel.
void pool_pixel(const FusedOp &fused, int64_t row, int64_t column,
                int32_t *largest) {
  std::vector<int32_t> sums(static_cast<size_t>(fused.channels));
  std::fill(largest, largest + fused.channels, INT32_MIN);
  each_tap(fused.root().pooling, windowed(fused.conv().window, fused.x->size),
           row, column, [&](int64_t, int64_t y, int64_t x) {
    convolve_pixel(fused, y, x, sums.data());
    take_largest(sums.data(), fused.channels, largest);
  });
}

// Runs a fused operator for one pixel.
class FusedPixel {
 public:
  explicit FusedPixel(const FusedOp &fused)
      : fused_(fused), channels_(static_cast<size_t>(fused.channels)),
        buffers_(channels_ * kMaxBuffers) {}

  void run(int64_t row, int64_t column) {
    const int64_t pixel = row * fused_.size.width + column;
    for (const PostOp &each : fused_.ops) {
      int32_t *made = buffer(each.buffer);
      run(each, row, column, made);
      if (each.out == nullptr) continue;
      with_codes(*each.out, [&](auto *to) {
        copy_codes(made, fused_.channels, to + pixel * fused_.channels);
      });
    }
  }

 private:
  int32_t *buffer(int index) {
    return buffers_.data() + static_cast<size_t>(index) * channels_;
  }

  void run(const PostOp &post_op, int64_t row, int64_t column, int32_t *to) {
    const Op &op = post_op.op();
    if (op.is<Convolution>()) {
      return post_op.node->is_pooled()
                 ? pool_pixel(fused_, row, column, to)
                 : convolve_pixel(fused_, row, column, to);
    }
    const int32_t *x = input(post_op, 0, row, column);
    if (op.is<Upsample>()) return copy_codes(x, op.channels, to);
    if (op.is<Requantize>()) {
      for (size_t c = 0; c < channels_; ++c) {
        to[c] = requantize(op.as<Requantize>().multipliers, op.grid, c, x[c]);
      }
      return;
    }
    if (op.is<Lookup>()) {
      for (size_t c = 0; c < channels_; ++c) {
        to[c] = op.as<Lookup>().value(c, x[c]);
      }
      return;
    }
    const int32_t *y = input(post_op, 1, row, column);
    for (size_t c = 0; c < channels_; ++c) {
      to[c] = std::clamp(x[c] + y[c], op.grid.low, op.grid.high);
    }
  }

  const int32_t *input(const PostOp &post_op, size_t index, int64_t row,
                       int64_t column) {
    const PostOp::Input &input = post_op.inputs[index];
    int32_t *codes = buffer(input.buffer);
    if (input.tensor == nullptr) return codes;
    const Tensor &x = *input.tensor;
    if (post_op.op().is<Upsample>()) {
      row = row * x.size.height / fused_.size.height;
      column = post_op.columns[static_cast<size_t>(column)];
    }
    with_codes(x, [&](const auto *from) {
      from += (row * x.size.width + column) * x.channels;
      copy_codes(from, x.channels, codes);
    });
    return codes;
  }

  const FusedOp &fused_;
  const size_t channels_;
  std::vector<int32_t> buffers_;
};

// Group norm: docs/integer_contract.md, section 3.

// Fractional bits of the mean and of the variance.
constexpr int kMomentBits = 16;
constexpr int64_t kOne = int64_t{1} << kMomentBits;

// What turns the codes of a group into normalised ones.
struct Normaliser {
  int64_t mean;        // in 2^-16 of a code
  int64_t reciprocal;  // of the standard deviation
  int shift;           // of a product with it

  int64_t operator()(int64_t code) const {
    const int64_t half = int64_t{1} << (shift - 1);
    return ((code * kOne - mean) * reciprocal + half) >> shift;
  }
};

int64_t square_root(int64_t x) {
  int64_t root = 0;
  for (int64_t bit = int64_t{1} << 30; bit != 0; bit >>= 1) {
    if ((root + bit) * (root + bit) <= x) root += bit;
  }
  return root;
}

Normaliser normaliser_of(int64_t count, int64_t sum, int64_t sum_of_squares,
                         int64_t epsilon) {
  // Rounded down, where C++ rounds towards 0.
  const int64_t whole = sum / count - (sum % count < 0);
  const int64_t rest = sum - whole * count;
  const int64_t squares = sum_of_squares - whole * (sum + rest);
  const int64_t mean = rest * kOne / count;
  int64_t variance = squares / count * kOne + squares % count * kOne / count -
                     mean * mean / kOne + epsilon;
  int shift = 56;
  for (; variance < int64_t{1} << 60; variance *= 4) --shift;
  return {whole * kOne + mean, (int64_t{1} << 60) / square_root(variance),
          shift};
}

// Copies `count` channels from one on of pixels of the input, which `pixel`
// gives for a column of a row of the output, to those from another one on.
template <class Pixel>
void copy_pixels(const Tensor &x, int32_t x_first, const Tensor &out,
                 int32_t out_first, int32_t count, int64_t row,
                 const Pixel &pixel) {
  with_codes(x, out, [&](const auto *from, auto *to) {
    to += row * out.size.width * out.channels + out_first;
    for (int64_t column = 0; column < out.size.width; ++column) {
      copy_codes(from + pixel(column) * x.channels + x_first, count, to);
      to += out.channels;
    }
  });
}

}  // namespace

void widen(const Tensor &x, int32_t *out) {
  with_codes(x, [&](const auto *from) {
    std::copy(from, from + x.count(), out);
  });
}

void run_fused(const FusedOp &fused) {
  FusedPixel pixel(fused);
  for (int64_t row = 0; row < fused.size.height; ++row) {
    fused.each_run(row, [&](int64_t column, int64_t end) {
      for (; column < end; ++column) pixel.run(row, column);
    });
  }
}

void run_image(const Op &op, const Tensor *const *inputs, const Tensor &out,
               ThreadPool *) {
  const uint8_t *from = static_cast<const uint8_t *>(inputs[0]->data);
  with_codes(out, [&](auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t i = 0; i < out.plane(); ++i) {
      for (const int32_t mean : op.as<ImageOp>().means) {
        *to++ = static_cast<To>(*from++ - mean);
      }
    }
  });
}

void run_region(const Op &, const Tensor *const *inputs, const Tensor &out,
                ThreadPool *) {
  with_codes(*inputs[0], out, [&](const auto *from, auto *to) {
    copy_codes(from, static_cast<int64_t>(out.count()), to);
  });
}

void run_max_pool(const Op &op, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *threads) {
  const Tensor &x = *inputs[0];
  // First the largest of the rows of windows, then of these along columns.
  Window rows = op.as<MaxPool>().window, columns = rows;
  rows.kernel.width = 1;
  rows.padding.width = 0;
  columns.kernel.height = 1;
  columns.padding.height = 0;
  const int64_t step = int64_t{x.size.width} * x.channels;
  threads->run(out.size.height, [&](int64_t row, int) {
    with_codes(x, out, [&](const auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      const To low = static_cast<To>(op.grid.low);
      std::vector<To> largest(static_cast<size_t>(step), low);
      each_tap(rows, x.size, row, 0, [&](int64_t, int64_t y, int64_t) {
        take_largest(from + y * step, step, largest.data());
      });
      to += row * out.size.width * out.channels;
      for (int64_t column = 0; column < out.size.width; ++column) {
        std::fill(to, to + out.channels, low);
        each_tap(columns, {1, x.size.width}, 0, column,
                 [&](int64_t, int64_t, int64_t z) {
          take_largest(largest.data() + z * x.channels, out.channels, to);
        });
        to += out.channels;
      }
    });
  });
}

void run_multiply(const Op &, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *threads) {
  const Tensor &x = *inputs[0], &y = *inputs[1];
  const int64_t width = out.size.width, channels = out.channels;
  const int64_t next = y.plane() == 1 ? 0 : channels;
  threads->run(out.size.height, [&](int64_t row, int) {
    with_codes(x, out, [&](const auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      with_codes(y, [&](const auto *other) {
        auto *code = from + row * width * channels;
        auto *product = to + row * width * channels;
        auto *factor = other + row * width * next;
        for (int64_t i = 0; i < width; ++i, factor += next) {
          for (int64_t c = 0; c < channels; ++c) {
            *product++ = static_cast<To>(int32_t{*code++} * factor[c]);
          }
        }
      });
    });
  });
}

void run_mean(const Op &op, const Tensor *const *inputs, const Tensor &out,
              ThreadPool *threads) {
  const Tensor &x = *inputs[0];
  const int64_t count = static_cast<int64_t>(x.plane());
  const std::vector<int64_t> none(static_cast<size_t>(x.channels), 0);
  const int64_t parts = threads->threads();
  std::vector<std::vector<int64_t>> sums(static_cast<size_t>(parts), none);
  threads->run(parts, [&](int64_t part, int) {
    const int64_t first = count * part / parts;
    const int64_t end = count * (part + 1) / parts;
    with_codes(x, [&](const auto *from) {
      from += first * x.channels;
      for (int64_t i = first; i < end; ++i) {
        for (int64_t &sum : sums[static_cast<size_t>(part)]) sum += *from++;
      }
    });
  });
  with_codes(out, [&](auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t c = 0; c < none.size(); ++c) {
      int64_t sum = 0;
      for (const std::vector<int64_t> &part : sums) sum += part[c];
      const int64_t above = sum * (2 << kMeanBits) + count;
      // Rounded down, where C++ rounds towards 0.
      int64_t q = above / (2 * count);
      if (above % (2 * count) < 0) --q;
      *to++ = static_cast<To>(q);
    }
  });
}

void run_group_norm(const Op &op, const Tensor *const *inputs,
                    const Tensor &out, ThreadPool *threads) {
  const GroupNorm &norm = op.as<GroupNorm>();
  const Tensor &x = *inputs[0];
  const int64_t step = x.channels, channels = step / norm.groups;
  const int64_t end = static_cast<int64_t>(x.count());
  threads->run(norm.groups, [&](int64_t group, int) {
    with_codes(x, out, [&](const auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      int64_t sum = 0, squares = 0;
      for (int64_t first = group * channels; first < end; first += step) {
        for (int64_t i = first; i < first + channels; ++i) {
          const int64_t code = from[i];
          sum += code;
          squares += code * code;
        }
      }
      const int64_t count = channels * static_cast<int64_t>(x.plane());
      const Normaliser normalise =
          normaliser_of(count, sum, squares, norm.epsilon);
      for (int64_t first = group * channels; first < end; first += step) {
        for (int64_t i = first; i < first + channels; ++i) {
          to[i] = static_cast<To>(std::clamp<int64_t>(
              normalise(from[i]), op.grid.low, op.grid.high));
        }
      }
    });
  });
}

void run_upsample(const Op &, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *threads) {
  const Tensor &x = *inputs[0];
  threads->run(out.size.height, [&](int64_t row, int) {
    const int64_t from = row * x.size.height / out.size.height * x.size.width;
    copy_pixels(x, 0, out, 0, x.channels, row, [&](int64_t column) {
      return from + column * x.size.width / out.size.width;
    });
  });
}

void run_concatenate(const Op &op, const Tensor *const *inputs,
                     const Tensor &out, ThreadPool *threads) {
  threads->run(out.size.height, [&](int64_t row, int) {
    int32_t first = 0;
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const Tensor &x = *inputs[i];
      copy_pixels(x, 0, out, first, x.channels, row, [&](int64_t column) {
        return row * x.size.width + column;
      });
      first += x.channels;
    }
  });
}

void run_slice(const Op &op, const Tensor *const *inputs, const Tensor &out,
               ThreadPool *threads) {
  const Slice &by = op.as<Slice>();
  const Tensor &x = *inputs[0];
  threads->run(out.size.height, [&](int64_t row, int) {
    const int64_t from =
        (by.offset.height + row * by.step.height) * x.size.width +
        by.offset.width;
    copy_pixels(x, by.first, out, 0, out.channels, row, [&](int64_t column) {
      return from + column * by.step.width;
    });
  });
}

}  // namespace aqd
