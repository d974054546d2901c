// Portable kernels, the readable twins of tests/oracle.py.

#include "kernels/reference.h"

#include <algorithm>

namespace aqd {
namespace {

// Requantises the codes of one pixel.
void requantize(const Op &op, const int32_t *from, int32_t *to) {
  const Multipliers &table = op.as<Requantize>().multipliers;
  const size_t step = table.m.size() > 1 ? 1 : 0;
  for (size_t c = 0, k = 0; c < static_cast<size_t>(op.channels); ++c) {
    const int64_t wide = (from[c] * int64_t{table.m[k]} + table.b[k]) >>
                         table.s[k];
    to[c] = static_cast<int32_t>(
        std::clamp<int64_t>(wide, op.grid.low, op.grid.high));
    k += step;
  }
}

void add(const Op &op, const int32_t *x, const int32_t *y, int32_t *to) {
  for (int32_t c = 0; c < op.channels; ++c) {
    to[c] = std::clamp(x[c] + y[c], op.grid.low, op.grid.high);
  }
}

// Adds what one tap contributes to all sums of a pixel; weights of the tap
// are in x out.
template <typename T>
void add_tap(int32_t groups, int32_t ins, int32_t outs, const T *codes,
             const int8_t *weights, int32_t *sums) {
  const int64_t ins_each = ins / groups, outs_each = outs / groups;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t i = 0; i < ins_each; ++i) {
      const int code{codes[group * ins_each + i]};
      const int8_t *w = weights + i * outs + group * outs_each;
      int32_t *sum = sums + group * outs_each;
      for (int64_t o = 0; o < outs_each; ++o) sum[o] += code * w[o];
    }
  }
}

void load_pixel(const Tensor &x, int64_t pixel, int32_t *to) {
  with_type(x.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    copy_codes(static_cast<const T *>(x.data) + pixel * x.channels, x.channels,
               to);
  });
}

void store_pixel(const int32_t *codes, int64_t pixel, const Tensor &out) {
  with_type(out.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    copy_codes(codes, out.channels,
               static_cast<T *>(out.data) + pixel * out.channels);
  });
}

// Runs a fused operator for one pixel.
class FusedPixel {
 public:
  explicit FusedPixel(const FusedOp &fused)
      : fused_(fused), channels_(static_cast<size_t>(fused.channels)),
        codes_(channels_ * fused.ops.size()), read_{} {
    for (std::vector<int32_t> &each : read_) each.resize(channels_);
  }

  // The codes of an operator.
  int32_t *codes(size_t index) { return codes_.data() + index * channels_; }

  // Runs the operators from one on.
  void run(size_t first, int64_t row, int64_t column) {
    const int64_t pixel = row * fused_.size.width + column;
    for (size_t i = 0; i < fused_.ops.size(); ++i) {
      const PostOp &each = fused_.ops[i];
      if (i >= first) run(each, row, column, codes(i));
      if (each.out != nullptr) store_pixel(codes(i), pixel, *each.out);
    }
  }

 private:
  void run(const PostOp &post_op, int64_t row, int64_t column, int32_t *to) {
    const Op &op = post_op.op();
    const int32_t *x = input(post_op, 0, row, column);
    if (op.is<Requantize>()) return requantize(op, x, to);
    if (op.is<Upsample>()) return copy_codes(x, op.channels, to);
    add(op, x, input(post_op, 1, row, column), to);
  }

  const int32_t *input(const PostOp &post_op, size_t index, int64_t row,
                       int64_t column) {
    const PostOp::Input &input = post_op.inputs[index];
    if (input.tensor == nullptr) return codes(static_cast<size_t>(input.index));
    const Size &size = input.tensor->size;
    if (post_op.op().is<Upsample>()) {
      row = row * size.height / fused_.size.height;
      column = column * size.width / fused_.size.width;
    }
    load_pixel(*input.tensor, row * size.width + column, read_[index].data());
    return read_[index].data();
  }

  const FusedOp &fused_;
  const size_t channels_;
  std::vector<int32_t> codes_, read_[2];
};

template <typename T>
void convolve_pixel(const FusedOp &fused, int64_t row, int64_t column,
                    int32_t *sums) {
  const Convolution &conv = fused.conv();
  const Window &w = conv.window;
  const Tensor &x = *fused.x;
  const T *from = static_cast<const T *>(x.data);
  const int64_t height = x.size.height, width = x.size.width;
  const int64_t tap = int64_t{x.channels / conv.groups} * fused.channels;
  const int8_t *weights = conv.weights->codes.data();
  for (int64_t v = 0; v < w.kernel.height; ++v) {
    const int64_t y =
        row * w.stride.height - w.padding.height + v * w.dilation.height;
    for (int64_t u = 0; u < w.kernel.width; ++u, weights += tap) {
      const int64_t z =
          column * w.stride.width - w.padding.width + u * w.dilation.width;
      if (y < 0 || y >= height || z < 0 || z >= width) continue;
      add_tap(conv.groups, x.channels, fused.channels,
              from + (y * width + z) * x.channels, weights, sums);
    }
  }
}

// Replaces codes by those of another pixel that are larger.
template <typename T>
void take_largest(const T *__restrict codes, int32_t channels,
                  T *__restrict largest) {
  for (int32_t c = 0; c < channels; ++c) {
    largest[c] = std::max(largest[c], codes[c]);
  }
}

template <typename From, typename To>
void take_largest(const From *codes, int32_t channels, To *largest) {
  for (int32_t c = 0; c < channels; ++c) {
    largest[c] = std::max(largest[c], static_cast<To>(codes[c]));
  }
}

// Accumulators of a pixel of a convolution; the largest of some, if they are
// pooled.
template <typename T>
void sum_pixel(const FusedOp &fused, int64_t row, int64_t column,
               std::vector<int32_t> *other, int32_t *to) {
  const Window &by = fused.root().pooling;
  if (by.kernel.height == 0) {
    std::fill(to, to + fused.channels, 0);
    return convolve_pixel<T>(fused, row, column, to);
  }
  std::fill(to, to + fused.channels, INT32_MIN);
  const Size size = windowed(fused.conv().window, fused.x->size);
  for (int64_t v = 0; v < by.kernel.height; ++v) {
    const int64_t y = row * by.stride.height - by.padding.height + v;
    if (y < 0 || y >= size.height) continue;
    for (int64_t u = 0; u < by.kernel.width; ++u) {
      const int64_t z = column * by.stride.width - by.padding.width + u;
      if (z < 0 || z >= size.width) continue;
      other->assign(static_cast<size_t>(fused.channels), 0);
      convolve_pixel<T>(fused, y, z, other->data());
      take_largest(other->data(), fused.channels, to);
    }
  }
}

// Puts a tensor's channels among those of a tensor as wide or wider.
void put(const Tensor &x, int32_t first, const Tensor &out) {
  with_types(x, out, [&](auto *from, auto *to) {
    to += first;
    for (size_t i = 0; i < x.plane(); ++i) {
      copy_codes(from, x.channels, to);
      from += x.channels;
      to += out.channels;
    }
  });
}

}  // namespace

void widen(const Tensor &x, int32_t *out) {
  with_type(x.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T *from = static_cast<const T *>(x.data);
    std::copy(from, from + x.count(), out);
  });
}

void run_fused(const FusedOp &fused) {
  FusedPixel pixel(fused);
  const bool sums = fused.is_convolution();
  std::vector<int32_t> other;
  for (int64_t row = 0; row < fused.size.height; ++row) {
    for (int64_t column = 0; column < fused.size.width; ++column) {
      if (sums) {
        with_type(fused.x->type, [&](auto tag) {
          sum_pixel<typename decltype(tag)::type>(fused, row, column, &other,
                                                  pixel.codes(0));
        });
      }
      pixel.run(sums ? 1 : 0, row, column);
    }
  }
}

void run_image(const Op &op, const Tensor *const *inputs, const Tensor &out,
               ThreadPool *) {
  const uint8_t *from = static_cast<const uint8_t *>(inputs[0]->data);
  with_type(out.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T *to = static_cast<T *>(out.data);
    for (size_t i = 0; i < out.plane(); ++i) {
      for (const int32_t mean : op.as<ImageOp>().means) {
        *to++ = static_cast<T>(*from++ - mean);
      }
    }
  });
}

void run_region(const Op &, const Tensor *const *inputs, const Tensor &out,
                ThreadPool *) {
  put(*inputs[0], 0, out);
}

void run_max_pool(const Op &op, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *threads) {
  const Window &w = op.as<MaxPool>().window;
  const Tensor &x = *inputs[0];
  const int64_t height = x.size.height, width = x.size.width;
  threads->run(out.size.height, [&](int64_t row, int) {
    with_types(x, out, [&](auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      to += row * out.size.width * out.channels;
      for (int64_t column = 0; column < out.size.width; ++column) {
        std::fill(to, to + out.channels, static_cast<To>(op.grid.low));
        for (int64_t v = 0; v < w.kernel.height; ++v) {
          const int64_t y = row * w.stride.height - w.padding.height +
                            v * w.dilation.height;
          if (y < 0 || y >= height) continue;
          for (int64_t u = 0; u < w.kernel.width; ++u) {
            const int64_t z = column * w.stride.width - w.padding.width +
                              u * w.dilation.width;
            if (z < 0 || z >= width) continue;
            take_largest(from + (y * width + z) * x.channels, out.channels, to);
          }
        }
        to += out.channels;
      }
    });
  });
}

void run_multiply(const Op &, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *) {
  const Tensor &x = *inputs[0], &y = *inputs[1];
  const int32_t next = y.plane() == 1 ? 0 : out.channels;
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    with_type(y.type, [&](auto tag) {
      using Y = typename decltype(tag)::type;
      const Y *other = static_cast<const Y *>(y.data);
      for (size_t i = 0; i < out.plane(); ++i, other += next) {
        for (int32_t c = 0; c < out.channels; ++c) {
          *to++ = static_cast<To>(int32_t{*from++} * other[c]);
        }
      }
    });
  });
}

void run_mean(const Op &, const Tensor *const *inputs, const Tensor &out,
              ThreadPool *) {
  const int64_t count = static_cast<int64_t>(inputs[0]->plane());
  with_types(*inputs[0], out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (int32_t c = 0; c < out.channels; ++c) {
      int64_t sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += from[i * out.channels + c];
      const int64_t above = sum * (2 << kMeanBits) + count;
      // Rounded down, where C++ rounds towards 0.
      int64_t q = above / (2 * count);
      if (above % (2 * count) < 0) --q;
      to[c] = static_cast<To>(q);
    }
  });
}

void run_lookup(const Op &op, const Tensor *const *inputs, const Tensor &out,
                ThreadPool *) {
  const Lookup &lookup = op.as<Lookup>();
  with_types(*inputs[0], out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t i = 0; i < out.count(); ++i) {
      const int32_t index = from[i] - lookup.first;
      to[i] = static_cast<To>(lookup.table[static_cast<size_t>(index)]);
    }
  });
}

void run_upsample(const Op &, const Tensor *const *inputs, const Tensor &out,
                  ThreadPool *) {
  const Tensor &x = *inputs[0];
  const int64_t height = x.size.height, width = x.size.width;
  with_types(x, out, [&](auto *from, auto *to) {
    for (int64_t row = 0; row < out.size.height; ++row) {
      const auto *line =
          from + row * height / out.size.height * width * x.channels;
      for (int64_t column = 0; column < out.size.width; ++column) {
        const int64_t nearest = column * width / out.size.width;
        copy_codes(line + nearest * x.channels, x.channels, to);
        to += x.channels;
      }
    }
  });
}

void run_concatenate(const Op &op, const Tensor *const *inputs,
                     const Tensor &out, ThreadPool *) {
  int32_t first = 0;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    put(*inputs[i], first, out);
    first += inputs[i]->channels;
  }
}

void run_slice(const Op &op, const Tensor *const *inputs, const Tensor &out,
               ThreadPool *) {
  const Slice &by = op.as<Slice>();
  const Tensor &x = *inputs[0];
  with_types(x, out, [&](auto *from, auto *to) {
    for (int64_t row = 0; row < out.size.height; ++row) {
      const int64_t y = by.offset.height + row * by.step.height;
      for (int64_t column = 0; column < out.size.width; ++column) {
        const int64_t z = by.offset.width + column * by.step.width;
        const auto *codes = from + (y * x.size.width + z) * x.channels;
        copy_codes(codes + by.first, out.channels, to);
        to += out.channels;
      }
    }
  });
}

}  // namespace aqd
