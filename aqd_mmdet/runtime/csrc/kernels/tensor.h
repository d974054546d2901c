// Codes in memory.

#pragma once

#include "graph/ops.h"

namespace aqd {

// A tensor of one image: height x width x channels codes, without gaps.
//
// Channels are innermost: what a convolution reads for one output is then a
// few long runs, and what it writes is one.
struct Tensor {
  void *data = nullptr;
  Type type = Type::kI32;
  int32_t channels = 0;
  Size size;

  size_t plane() const {
    return static_cast<size_t>(size.height) * static_cast<size_t>(size.width);
  }
  size_t count() const { return plane() * static_cast<size_t>(channels); }
};

// Memory behind a tensor that kernels may read, and ignore.
constexpr int64_t kSlack = 128;

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

// Copies codes of one pixel to another type.
template <typename From, typename To>
void copy_codes(const From *from, int32_t count, To *to) {
  for (int32_t c = 0; c < count; ++c) to[c] = static_cast<To>(from[c]);
}

}  // namespace aqd
