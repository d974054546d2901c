// Portable kernels, the readable twins of tests/oracle.py.

#include "kernels.h"

#include <algorithm>
#include <type_traits>

namespace aqd {
namespace {

constexpr int kMeanBits = 8;

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
    for (const int32_t mean : op.table) {
      for (size_t i = 0; i < out.plane(); ++i) {
        *to++ = static_cast<T>(*from++ - mean);
      }
    }
  });
}

// Codes as they are, in the output's type.
void copy(const Tensor &x, const Tensor &out) {
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t i = 0; i < x.count(); ++i) to[i] = static_cast<To>(from[i]);
  });
}

// First and last + 1 of the outputs whose tap lies inside the input.
void inside(int64_t length, int64_t stride, int64_t offset, int64_t count,
            int64_t *first, int64_t *end) {
  *first = offset < 0 ? (-offset + stride - 1) / stride : 0;
  *end = offset >= length ? 0 : (length - 1 - offset) / stride + 1;
  *end = std::min(*end, count);
  *first = std::min(*first, count);
}

template <typename T>
void convolve(const Op &op, const T *from, const Tensor &x, const Tensor &out) {
  const int64_t height = x.size.height, width = x.size.width;
  const int64_t rows = out.size.height, columns = out.size.width;
  const size_t per_group = static_cast<size_t>(x.channels / op.groups);
  const size_t outs = static_cast<size_t>(op.channels / op.groups);
  const int8_t *w = op.weights->codes.data();
  int32_t *to = static_cast<int32_t *>(out.data);
  std::fill(to, to + out.count(), 0);
  for (size_t o = 0; o < static_cast<size_t>(op.channels); ++o) {
    int32_t *sums = to + o * out.plane();
    const T *group = from + o / outs * per_group * x.plane();
    for (size_t i = 0; i < per_group; ++i) {
      const T *channel = group + i * x.plane();
      for (int64_t v = 0; v < op.kernel.height; ++v) {
        const int64_t down = v * op.dilation.height - op.padding.height;
        int64_t top, bottom;
        inside(height, op.stride.height, down, rows, &top, &bottom);
        for (int64_t u = 0; u < op.kernel.width; ++u) {
          const int32_t weight = *w++;
          const int64_t across = u * op.dilation.width - op.padding.width;
          int64_t left, right;
          inside(width, op.stride.width, across, columns, &left, &right);
          for (int64_t row = top; row < bottom; ++row) {
            const T *codes =
                channel + (row * op.stride.height + down) * width + across;
            int32_t *sum = sums + row * columns;
            if (op.stride.width == 1) {
              for (int64_t c = left; c < right; ++c) sum[c] += weight * codes[c];
            } else {
              for (int64_t c = left; c < right; ++c) {
                sum[c] += weight * codes[c * op.stride.width];
              }
            }
          }
        }
      }
    }
  }
}

void convolution(const Op &op, const Tensor &x, const Tensor &out) {
  with_type(x.type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    convolve(op, static_cast<const T *>(x.data), x, out);
  });
}

void max_pool(const Op &op, const Tensor &x, const Tensor &out) {
  const int64_t height = x.size.height, width = x.size.width;
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (int32_t c = 0; c < out.channels; ++c, from += x.plane()) {
      for (int64_t row = 0; row < out.size.height; ++row) {
        for (int64_t column = 0; column < out.size.width; ++column) {
          int32_t largest = op.grid.low;
          for (int64_t v = 0; v < op.kernel.height; ++v) {
            const int64_t y = row * op.stride.height - op.padding.height +
                              v * op.dilation.height;
            if (y < 0 || y >= height) continue;
            for (int64_t u = 0; u < op.kernel.width; ++u) {
              const int64_t z = column * op.stride.width - op.padding.width +
                                u * op.dilation.width;
              if (z < 0 || z >= width) continue;
              largest = std::max<int32_t>(largest, from[y * width + z]);
            }
          }
          *to++ = static_cast<To>(largest);
        }
      }
    }
  });
}

void requantize(const Op &op, const Tensor &x, const Tensor &out) {
  const Multipliers &table = op.multipliers;
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    for (size_t c = 0; c < static_cast<size_t>(out.channels); ++c) {
      const size_t k = table.m.size() > 1 ? c : 0;
      const int64_t m = table.m[k], b = table.b[k], s = table.s[k];
      for (size_t i = 0; i < out.plane(); ++i) {
        const int64_t wide = (*from++ * m + b) >> s;
        *to++ = static_cast<To>(
            std::clamp<int64_t>(wide, op.grid.low, op.grid.high));
      }
    }
  });
}

// The same function of each pair of codes; y may have one code a map.
template <typename F>
void of_pairs(const Tensor &x, const Tensor &y, const Tensor &out, F f) {
  const bool one = y.plane() == 1;
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    with_type(y.type, [&](auto tag) {
      using Y = typename decltype(tag)::type;
      const Y *other = static_cast<const Y *>(y.data);
      for (int32_t c = 0; c < out.channels; ++c) {
        for (size_t i = 0; i < out.plane(); ++i) {
          *to++ = static_cast<To>(f(*from++, other[one ? 0 : i]));
        }
        other += y.plane();
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
      for (int64_t i = 0; i < count; ++i) sum += *from++;
      const int64_t above = sum * (2 << kMeanBits) + count;
      // Floored, where C++ cuts off.
      int64_t q = above / (2 * count);
      if (above % (2 * count) < 0) --q;
      *to++ = static_cast<To>(q);
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
    using To = std::remove_reference_t<decltype(*to)>;
    for (int32_t c = 0; c < out.channels; ++c, from += x.plane()) {
      for (int64_t row = 0; row < out.size.height; ++row) {
        const auto *line = from + row * height / out.size.height * width;
        for (int64_t column = 0; column < out.size.width; ++column) {
          *to++ = static_cast<To>(line[column * width / out.size.width]);
        }
      }
    }
  });
}

void slice(const Op &op, const Tensor &x, const Tensor &out) {
  with_types(x, out, [&](auto *from, auto *to) {
    using To = std::remove_reference_t<decltype(*to)>;
    from += static_cast<size_t>(op.first) * x.plane();
    for (int32_t c = 0; c < out.channels; ++c, from += x.plane()) {
      for (int64_t row = 0; row < out.size.height; ++row) {
        const auto *line =
            from +
            (op.padding.height + row * op.stride.height) * x.size.width +
            op.padding.width;
        for (int64_t column = 0; column < out.size.width; ++column) {
          *to++ = static_cast<To>(line[column * op.stride.width]);
        }
      }
    }
  });
}

}  // namespace

void widen(const Tensor &x, int32_t *out) {
  copy(x, {out, Type::kI32, x.channels, x.size});
}

void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output) {
  const Tensor &x = *inputs[0];
  switch (op.kind) {
    case Kind::kImage:
      return image(op, x, output);
    case Kind::kRegion:
      return copy(x, output);
    case Kind::kConvolution:
      return convolution(op, x, output);
    case Kind::kMaxPool:
      return max_pool(op, x, output);
    case Kind::kRequantize:
      return requantize(op, x, output);
    case Kind::kAdd:
      return of_pairs(x, *inputs[1], output, [&](int32_t p, int32_t q) {
        return std::clamp(p + q, op.grid.low, op.grid.high);
      });
    case Kind::kMultiply:
      return of_pairs(x, *inputs[1], output,
                      [](int32_t p, int32_t q) { return p * q; });
    case Kind::kMean:
      return mean(x, output);
    case Kind::kLookup:
      return lookup(op, x, output);
    case Kind::kUpsample:
      return upsample(x, output);
    case Kind::kConcatenate: {
      Tensor part = output;
      char *to = static_cast<char *>(output.data);
      for (size_t i = 0; i < op.inputs.size(); ++i) {
        part.data = to;
        copy(*inputs[i], part);
        to += inputs[i]->count() * bytes_of(output.type);
      }
      return;
    }
    case Kind::kSlice:
      return slice(op, x, output);
  }
}

}  // namespace aqd
