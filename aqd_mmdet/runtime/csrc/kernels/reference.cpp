// Portable kernels, the readable twins of tests/oracle.py.

#include "kernels/reference.h"

#include <algorithm>
#include <type_traits>

#include "graph/memory_plan.h"

namespace aqd {
namespace {

template <typename T>
struct Tag {
  using type = T;
};

// Calls a function with the tag of a tensor's type.
template <typename F>
void with_type(Type type, F f) {
  switch (type) {
    case Type::kU8:
      return f(Tag<uint8_t>());
    case Type::kI8:
      return f(Tag<int8_t>());
    case Type::kI16:
      return f(Tag<int16_t>());
    case Type::kI32:
      return f(Tag<int32_t>());
  }
}

// Calls a function with typed pointers to an input's and the output's codes.
template <typename F>
void with_types(const Tensor &x, const Tensor &out, F f) {
  with_type(x.type, [&](auto from) {
    with_type(out.type, [&](auto to) {
      f(static_cast<const typename decltype(from)::type *>(x.data),
        static_cast<typename decltype(to)::type *>(out.data));
    });
  });
}

void image(const Op &op, const Tensor &x, const Tensor &out) {
  const uint8_t *from = static_cast<const uint8_t *>(x.data);
  with_type(out.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T *to = static_cast<T *>(out.data);
    for (size_t i = 0; i < out.plane(); ++i) {
      for (const int32_t mean : op.table) {
        *to++ = static_cast<T>(*from++ - mean);
      }
    }
  });
}

// Requantises the codes of one pixel.
void requantize(const Op &op, const int32_t *from, int32_t *to) {
  const Multipliers &table = op.multipliers;
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
void add_tap(const Op &op, const T *codes, const int8_t *weights,
             int32_t channels, int32_t *sums) {
  const int32_t per_group = channels / op.groups;
  const int32_t outs = op.channels / op.groups;
  for (int32_t group = 0; group < op.groups; ++group) {
    for (int32_t i = 0; i < per_group; ++i) {
      const int32_t code = codes[group * per_group + i];
      const int8_t *w = weights + int64_t{i} * op.channels + group * outs;
      int32_t *sum = sums + group * outs;
      for (int32_t o = 0; o < outs; ++o) sum[o] += code * w[o];
    }
  }
}

// Copies codes of one pixel to int32, or from there.
template <typename From, typename To>
void copy_codes(const From *from, int32_t count, To *to) {
  for (int32_t c = 0; c < count; ++c) to[c] = static_cast<To>(from[c]);
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

// Runs the stages of a group for one pixel.
class PixelStages {
 public:
  explicit PixelStages(const Group &group)
      : group_(group), channels_(static_cast<size_t>(group.channels)),
        made_(channels_ * group.stages.size()), read_{} {
    for (std::vector<int32_t> &each : read_) each.resize(channels_);
  }

  // What a stage makes of a pixel.
  int32_t *made(size_t stage) { return made_.data() + stage * channels_; }

  // Runs the stages from one on.
  void run(size_t first, int64_t row, int64_t column) {
    const int64_t pixel = row * group_.size.width + column;
    for (size_t i = 0; i < group_.stages.size(); ++i) {
      const Stage &stage = group_.stages[i];
      if (i >= first) run(stage, row, column, made(i));
      if (stage.out != nullptr) store_pixel(made(i), pixel, *stage.out);
    }
  }

 private:
  void run(const Stage &stage, int64_t row, int64_t column, int32_t *to) {
    const Op &op = *stage.op;
    const int32_t *x = input(stage, 0, row, column);
    if (op.kind == Kind::kRequantize) return requantize(op, x, to);
    if (op.kind == Kind::kUpsample) return copy_codes(x, op.channels, to);
    add(op, x, input(stage, 1, row, column), to);
  }

  const int32_t *input(const Stage &stage, size_t index, int64_t row,
                       int64_t column) {
    const Stage::Input &input = stage.inputs[index];
    if (input.tensor == nullptr) return made(static_cast<size_t>(input.stage));
    const Size &size = input.tensor->size;
    if (stage.op->kind == Kind::kUpsample) {
      row = row * size.height / group_.size.height;
      column = column * size.width / group_.size.width;
    }
    load_pixel(*input.tensor, row * size.width + column, read_[index].data());
    return read_[index].data();
  }

  const Group &group_;
  const size_t channels_;
  std::vector<int32_t> made_, read_[2];
};

template <typename T>
void convolve_pixel(const Op &op, const Tensor &x, int64_t row, int64_t column,
                    int32_t *sums) {
  const T *from = static_cast<const T *>(x.data);
  const int64_t height = x.size.height, width = x.size.width;
  const int64_t tap = int64_t{x.channels / op.groups} * op.channels;
  const int8_t *weights = op.weights->codes.data();
  for (int64_t v = 0; v < op.kernel.height; ++v) {
    const int64_t y =
        row * op.stride.height - op.padding.height + v * op.dilation.height;
    for (int64_t u = 0; u < op.kernel.width; ++u, weights += tap) {
      const int64_t z =
          column * op.stride.width - op.padding.width + u * op.dilation.width;
      if (y < 0 || y >= height || z < 0 || z >= width) continue;
      add_tap(op, from + (y * width + z) * x.channels, weights, x.channels, sums);
    }
  }
}

// Raises largest codes of a pixel to those of another one.
template <typename T>
void raise(const T *__restrict codes, int32_t channels, T *__restrict largest) {
  for (int32_t c = 0; c < channels; ++c) {
    largest[c] = std::max(largest[c], codes[c]);
  }
}

template <typename From, typename To>
void raise(const From *codes, int32_t channels, To *largest) {
  for (int32_t c = 0; c < channels; ++c) {
    largest[c] = std::max(largest[c], static_cast<To>(codes[c]));
  }
}

// Sums of a pixel of a group that begins with a convolution: those of its
// window, or the largest of some.
template <typename T>
void sum_pixel(const Group &group, int64_t row, int64_t column,
               std::vector<int32_t> *other, int32_t *to) {
  const Op &op = group.op();
  const Tensor &x = *group.x;
  const Pooling &by = op.pooling;
  if (by.kernel.height == 0) {
    std::fill(to, to + group.channels, 0);
    return convolve_pixel<T>(op, x, row, column, to);
  }
  std::fill(to, to + group.channels, INT32_MIN);
  const Size size = windowed(op, x.size);
  for (int64_t v = 0; v < by.kernel.height; ++v) {
    const int64_t y = row * by.stride.height - by.padding.height + v;
    if (y < 0 || y >= size.height) continue;
    for (int64_t u = 0; u < by.kernel.width; ++u) {
      const int64_t z = column * by.stride.width - by.padding.width + u;
      if (z < 0 || z >= size.width) continue;
      other->assign(static_cast<size_t>(group.channels), 0);
      convolve_pixel<T>(op, x, y, z, other->data());
      raise(other->data(), group.channels, to);
    }
  }
}

void max_pool(const Op &op, const Tensor &x, const Tensor &out, ThreadPool *pool) {
  const int64_t height = x.size.height, width = x.size.width;
  pool->run(out.size.height, [&](int64_t row, int) {
    with_types(x, out, [&](auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      to += row * out.size.width * out.channels;
      for (int64_t column = 0; column < out.size.width; ++column) {
        std::fill(to, to + out.channels, static_cast<To>(op.grid.low));
        for (int64_t v = 0; v < op.kernel.height; ++v) {
          const int64_t y = row * op.stride.height - op.padding.height +
                            v * op.dilation.height;
          if (y < 0 || y >= height) continue;
          for (int64_t u = 0; u < op.kernel.width; ++u) {
            const int64_t z = column * op.stride.width - op.padding.width +
                              u * op.dilation.width;
            if (z < 0 || z >= width) continue;
            raise(from + (y * width + z) * x.channels, out.channels, to);
          }
        }
        to += out.channels;
      }
    });
  });
}

// Products of codes; y may have one code a map.
void multiply(const Tensor &x, const Tensor &y, const Tensor &out) {
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

void mean(const Tensor &x, const Tensor &out) {
  const int64_t count = static_cast<int64_t>(x.plane());
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (int32_t c = 0; c < out.channels; ++c) {
      int64_t sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += from[i * out.channels + c];
      const int64_t above = sum * (2 << kMeanBits) + count;
      // Floored, where C++ cuts off.
      int64_t q = above / (2 * count);
      if (above % (2 * count) < 0) --q;
      to[c] = static_cast<To>(q);
    }
  });
}

void lookup(const Op &op, const Tensor &x, const Tensor &out) {
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t i = 0; i < x.count(); ++i) {
      to[i] = static_cast<To>(op.table[static_cast<size_t>(from[i] - op.first)]);
    }
  });
}

void upsample(const Tensor &x, const Tensor &out) {
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

void slice(const Op &op, const Tensor &x, const Tensor &out) {
  with_types(x, out, [&](auto *from, auto *to) {
    for (int64_t row = 0; row < out.size.height; ++row) {
      const int64_t y = op.padding.height + row * op.stride.height;
      for (int64_t column = 0; column < out.size.width; ++column) {
        const int64_t z = op.padding.width + column * op.stride.width;
        const auto *codes = from + (y * x.size.width + z) * x.channels;
        copy_codes(codes + op.first, out.channels, to);
        to += out.channels;
      }
    }
  });
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
    const auto *from = static_cast<const typename decltype(tag)::type *>(x.data);
    std::copy(from, from + x.count(), out);
  });
}

void run_group(const Group &group) {
  PixelStages stages(group);
  const bool sums = group.is_convolution();
  std::vector<int32_t> other;
  for (int64_t row = 0; row < group.size.height; ++row) {
    for (int64_t column = 0; column < group.size.width; ++column) {
      if (sums) {
        with_type(group.x->type, [&](auto tag) {
          sum_pixel<typename decltype(tag)::type>(group, row, column, &other,
                                                  stages.made(0));
        });
      }
      stages.run(sums ? 1 : 0, row, column);
    }
  }
}

void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output,
            ThreadPool *pool) {
  const Tensor &x = *inputs[0];
  switch (op.kind) {
    case Kind::kImage:
      return image(op, x, output);
    case Kind::kRegion:
      return put(x, 0, output);
    case Kind::kConvolution:
    case Kind::kRequantize:
    case Kind::kAdd:
      return;  // of groups
    case Kind::kMaxPool:
      return max_pool(op, x, output, pool);
    case Kind::kMultiply:
      return multiply(x, *inputs[1], output);
    case Kind::kMean:
      return mean(x, output);
    case Kind::kLookup:
      return lookup(op, x, output);
    case Kind::kUpsample:
      return upsample(x, output);
    case Kind::kConcatenate: {
      int32_t first = 0;
      for (size_t i = 0; i < op.inputs.size(); ++i) {
        put(*inputs[i], first, output);
        first += inputs[i]->channels;
      }
      return;
    }
    case Kind::kSlice:
      return slice(op, x, output);
  }
}

}  // namespace aqd
