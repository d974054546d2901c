// A Simd is a class with the vector operations of an instruction set. All
// kernels are templates of it: conv_direct.h, conv_depthwise.h,
// conv_winograd.h, epilogue.h, requantize.h. A file that includes these defines
// AQD_TARGET first, the attribute of functions that use the instructions.
//
// Vectors are the compiler's, which have operators; what it does not make good
// code of is written by intrinsics. A Simd inherits SimdBase, and has:
//
//   kShape        SimdShape (isa.h)
//   kMr           pixels of the largest microkernel: kMr * kShape.nr
//                 accumulators stay in registers, with room for operands
//   load          Lanes of codes of 8 or 16 bits, widened
//   store         Lanes to codes of 8 or 16 bits that hold them
//   interleave    Lanes that each hold a channel's codes of 4 columns, as
//                 bytes, or of 2, as 16 bits (SimdBase has one that shifts)
//   multiply<h>   products of 64 bits of a half of the lanes (even_first)
//   combine       Lanes of the lower halves of two Wide
//
// and the multiply-accumulates (MAC) of convolutions, ByteMac and WordMac,
// which inherit MacBase. One adds to each accumulator the products of 4 bytes,
// or of 2 numbers of 16 bits.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "kernels/isa.h"

namespace aqd {

// A vector of numbers as the compiler has it.
template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

template <class V>
AQD_TARGET AQD_INLINE V clamp(V x, V low, V high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

// From memory, and to it. (Vectors need not be aligned there.)
template <class V>
AQD_TARGET AQD_INLINE V load_as(const void *from) {
  V x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <class V>
AQD_TARGET AQD_INLINE void store_as(V x, void *to) {
  std::memcpy(to, &x, sizeof x);
}

// Where bytes of a vector of channels of some pixels lie.
struct ByteSpan {
  int8_t *to;
  int64_t next;  // from a pixel to the next
  int lanes;     // channels that there are
  bool is_unsigned;
  const Grid *grid;  // to which they are clamped; null if they need not be

  // Clamps bytes, which takes a quarter of what it takes before they are bytes.
  template <class V>
  AQD_TARGET AQD_INLINE V clamped(V bytes) const {
    using Unsigned = typename VectorOf<uint8_t, sizeof(V)>::type;
    using Signed = typename VectorOf<int8_t, sizeof(V)>::type;
    if (grid == nullptr) return bytes;
    if (is_unsigned) {
      const Unsigned low = Unsigned{} + static_cast<uint8_t>(grid->low);
      const Unsigned high = Unsigned{} + static_cast<uint8_t>(grid->high);
      return V(clamp(Unsigned(bytes), low, high));
    }
    const Signed low = Signed{} + static_cast<int8_t>(grid->low);
    const Signed high = Signed{} + static_cast<int8_t>(grid->high);
    return V(clamp(Signed(bytes), low, high));
  }
};

// A lookup of lines for a vector of channels of some pixels, and what runs with
// it: requantisations before and behind, by their numbers of MultiplyAdd, null
// for none.
struct LookupTile {
  const PackedLookup *lines;
  int64_t vector;
  int pixels;
  const int32_t *before;
  bool clamps_values;  // before
  const int32_t *after;  // to bytes
  const int32_t *from;
  int32_t *to;     // where nothing is behind
  ByteSpan bytes;  // of what is behind
};

template <class Simd, int kLanes>
struct SimdBase {
  using Lanes = typename VectorOf<int32_t, 4 * kLanes>::type;
  using Wide = typename VectorOf<int64_t, 4 * kLanes>::type;
  // Whether store_by_thresholds requantises to bytes by values of 16 bits.
  static constexpr bool kHasInt16Thresholds = false;

  AQD_TARGET static Lanes fill(int32_t x) { return Lanes{} + x; }
  AQD_TARGET static Lanes load(const int32_t *from) {
    return load_as<Lanes>(from);
  }
  AQD_TARGET static void store(Lanes x, int32_t *to) { store_as(x, to); }

  // Of the last vector of channels there may be some lanes alone.
  template <class T>
  AQD_TARGET static Lanes load(const T *from, int lanes) {
    if (lanes == kLanes) return Simd::load(from);
    Lanes x = {};
    for (int i = 0; i < lanes; ++i) x[i] = from[i];
    return x;
  }
  template <class T>
  AQD_TARGET static void store(Lanes x, T *to, int lanes) {
    if (lanes == kLanes) return Simd::store(x, to);
    for (int i = 0; i < lanes; ++i) to[i] = static_cast<T>(x[i]);
  }

  // What a rule makes of some pixels, as bytes. Where kSaturates, these are
  // clamped as their span says, and four pixels are stored at a time: there is
  // room to read whole groups of four.
  template <class Rule>
  AQD_TARGET AQD_INLINE static void store_bytes(const Rule &rule,
                                                const int32_t *from, int pixels,
                                                const ByteSpan &span) {
    if constexpr (Simd::kSaturates) {
      constexpr int64_t kNext = kLanes;
      for (int p = 0; p < pixels; p += 4, from += 4 * kNext) {
        Simd::store_four({rule(Simd::load(from)),
                          rule(Simd::load(from + kNext)),
                          rule(Simd::load(from + 2 * kNext)),
                          rule(Simd::load(from + 3 * kNext))},
                         p, pixels, span);
      }
    } else {
      int8_t *to = span.to;
      for (int p = 0; p < pixels; ++p, from += kLanes, to += span.next) {
        Simd::store(rule(Simd::load(from)), to, span.lanes);
      }
    }
  }

  // Numbers at places of a table, of some lanes alone: others hold no place.
  AQD_TARGET static Lanes gather(const int32_t *table, Lanes places,
                                 int lanes) {
    alignas(64) int32_t at[kLanes];
    Lanes x = {};
    store_as(places, at);
    for (int i = 0; i < lanes; ++i) x[i] = table[at[i]];
    return x;
  }

  // Whether there are store_four and store_vectors, which saturate Lanes to
  // bytes and clamp these (ByteSpan::clamped): a vector of channels of four
  // pixels, and vectors of one pixel.
  static constexpr bool kSaturates = false;
  // Whether look_up takes a LookupTile.
  static constexpr bool kHasLines = false;
  // Whether multiply_add has fused multiply-adds of floats, by their bits,
  // which round down.
  static constexpr bool kHasFma = false;

  template <class T, int kColumns>
  AQD_TARGET AQD_INLINE static Lanes interleave(
      const T *const (&columns)[kColumns], int64_t channel) {
    // Without a sign, so that all bits may be shifted to their places.
    using Unsigned = typename VectorOf<uint32_t, 4 * kLanes>::type;
    constexpr int kBits = 32 / kColumns;
    Unsigned codes = {};
#pragma GCC unroll 4
    for (int i = 0; i < kColumns; ++i) {
      const Unsigned each = Unsigned(Simd::load(columns[i] + channel));
      codes |= each << (32 - kBits) >> (32 - kBits * (i + 1));
    }
    return Lanes(codes);
  }

  // Past the caches.
  AQD_TARGET static void stream(Lanes x, int32_t *to) { store(x, to); }
  static void prefetch(const uint8_t *) {}
  static void prefetch_write(const uint8_t *) {}

  // To the right, each lane by an amount of its own.
  AQD_TARGET static Wide shift(Wide x, Wide s) { return x >> s; }

  // Runs a convolution by an algorithm of its own; what only others are packed
  // for never comes here.
  template <class Packed>
  static void convolve(const FusedOp &, const Packed &, const Workers &) {
    std::abort();
  }

 private:
  SimdBase() = default;
  friend Simd;
};

template <int kLanes>
struct MacBase {
  using Acc = typename VectorOf<int32_t, 4 * kLanes>::type;
  using Operand = Acc;
  // Whether accumulators have 16 bits, two to a lane. Such a MAC begins with
  // zeros, and its `end` adds to what is in memory. It has two more functions:
  //
  //   widen  The sum of the two accumulators of each lane, 32 bits.
  //   fold   The same sums modulo 2^16, for two vectors of accumulators: the
  //          lower half of a lane is the first one's, the upper the second's.
  static constexpr bool kIsShort = false;

  AQD_TARGET static Acc begin(const int32_t *from) {
    return load_as<Acc>(from);
  }
  AQD_TARGET static void end(Acc acc, int32_t *to) { store_as(acc, to); }
  // Weights, and 4 bytes of the input to meet them in each lane.
  AQD_TARGET static Operand load(const int8_t *from) {
    return load_as<Operand>(from);
  }
  AQD_TARGET static Operand broadcast(const uint8_t *codes) {
    return Operand{} + load_as<int32_t>(codes);
  }
};

// The inner loop of all GEMMs.
//
// Accumulators of MR pixels (or Winograd tiles) x NR vectors of output
// channels, in registers.
template <class Mac, int MR, int NR>
class Accumulators {
 public:
  // From int32 in memory, by the steps from a vector and a pixel to the next.
  AQD_TARGET AQD_INLINE void begin(const int32_t *from, int64_t vector_step,
                                   int64_t pixel_step) {
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        acc_[v][p] = Mac::begin(from + v * vector_step + p * pixel_step);
      }
    }
  }

  AQD_TARGET AQD_INLINE void end(int32_t *to, int64_t vector_step,
                                 int64_t pixel_step) const {
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        Mac::end(acc_[v][p], to + v * vector_step + p * pixel_step);
      }
    }
  }

  // To memory, of a short MAC: two vectors are folded into one.
  AQD_TARGET AQD_INLINE void end_folded(int32_t *to, int64_t vector_step,
                                        int64_t pixel_step) const {
#pragma GCC unroll 8
    for (int v = 0; v < NR; v += 2) {
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        const auto second = v + 1 < NR ? acc_[v + 1][p] : typename Mac::Acc{};
        store_as(Mac::fold(acc_[v][p], second),
                 to + v / 2 * vector_step + p * pixel_step);
      }
    }
  }

  // Those of all pixels, of a vector.
  AQD_TARGET AQD_INLINE typename Mac::Acc (&of(int vector))[MR] {
    return acc_[vector];
  }

  // So many steps of K: each loads NR vectors of weights and broadcasts four
  // bytes of each pixel. Pixels are `pixel_bytes` apart. Moves both pointers
  // on.
  AQD_TARGET AQD_INLINE void add(int64_t k_steps, int64_t pixel_bytes,
                                 const uint8_t *&codes,
                                 const int8_t *&weights) {
    constexpr int64_t kBytes = sizeof(typename Mac::Operand);
    const int8_t *end = weights + k_steps * NR * kBytes;
    for (; weights < end; codes += 4, weights += NR * kBytes) {
      typename Mac::Operand w[NR];
#pragma GCC unroll 8
      for (int v = 0; v < NR; ++v) w[v] = Mac::load(weights + v * kBytes);
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        const auto x = Mac::broadcast(codes + p * pixel_bytes);
#pragma GCC unroll 8
        for (int v = 0; v < NR; ++v) acc_[v][p] = Mac::add(acc_[v][p], x, w[v]);
      }
    }
  }

 private:
  typename Mac::Acc acc_[NR][MR];
};

// The microkernel for so many pixels and vectors, `get` of the constants MR and
// NR.
template <int MR, int NR, class Get>
auto microkernel_for(int64_t pixels, int64_t vectors, const Get &get) {
  if constexpr (NR > 1) {
    if (vectors < NR) return microkernel_for<MR, NR - 1>(pixels, vectors, get);
  }
  if constexpr (MR > 1) {
    if (pixels < MR) return microkernel_for<MR - 1, NR>(pixels, vectors, get);
  }
  return get(std::integral_constant<int, MR>(),
             std::integral_constant<int, NR>());
}

}  // namespace aqd
