// Codes in memory.

#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "graph/ops.h"
#include "kernels/pixel_set.h"

#define AQD_INLINE __attribute__((always_inline)) inline

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
  const PixelSet *made = nullptr;  // the pixels that it has; null for all

  size_t plane() const {
    return static_cast<size_t>(size.height) * static_cast<size_t>(size.width);
  }
  size_t count() const { return plane() * static_cast<size_t>(channels); }
};

// Memory behind a tensor that kernels may read, and ignore.
constexpr int64_t kSlack = 128;

// What one vector load reads of packed weights; a load of two cache lines takes
// twice as long.
struct alignas(64) Line {
  int8_t bytes[64];
};

inline std::vector<Line> lines_of(int64_t bytes) {
  return std::vector<Line>((static_cast<size_t>(bytes) + sizeof(Line) - 1) /
                           sizeof(Line));
}

inline int64_t vectors_of(int64_t channels, int64_t lanes) {
  return (channels + lanes - 1) / lanes;
}

// Calls with a tensor's codes, as a pointer to their type. (Inlined, to use the
// instructions of the caller.)
template <class Take>
AQD_INLINE void with_codes(const Tensor &x, const Take &take) {
  switch (x.type) {
    case Type::kU8:
      return take(static_cast<uint8_t *>(x.data));
    case Type::kI8:
      return take(static_cast<int8_t *>(x.data));
    case Type::kI16:
      return take(static_cast<int16_t *>(x.data));
    case Type::kI32:
      return take(static_cast<int32_t *>(x.data));
  }
}

// Calls with the codes of an input and of the output.
template <class Take>
void with_codes(const Tensor &x, const Tensor &out, const Take &take) {
  with_codes(x, [&](const auto *from) {
    with_codes(out, [&](auto *to) { take(from, to); });
  });
}

// Copies some codes, each in the type of what it is stored in.
template <class From, class To>
void copy_codes(const From *from, int64_t count, To *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

}  // namespace aqd
