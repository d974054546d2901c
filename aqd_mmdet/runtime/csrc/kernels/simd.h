// A Simd is a class with the vector operations of an instruction set. All
// kernels are templates of it: conv_direct.h, conv_depthwise.h,
// conv_winograd.h, epilogue.h, requantize.h. A file that includes these defines
// AQD_TARGET first, the attribute of functions that use the instructions. The
// class has:
//
//   kShape        SimdShape, below
//   kMr           pixels of the largest microkernel: kMr * kShape.nr
//                 accumulators stay in registers, with room for operands
//   Lanes, Wide   a vector of int32, and of half as many int64
//   load          Lanes of int32, or of codes of any type, widened
//   store         Lanes to int32, or to codes of 8 or 16 bits that hold them
//   load_wide     Wide of int64
//   fill          Lanes that are all one number
//   add, sub, min, max, bit_xor     lane by lane
//   mac           adds products of two Lanes to a third one
//   add_greater   adds 1 in each lane where the second operand exceeds the third
//   multiply_add<h>  products of a half of the lanes (even_first), plus a Wide
//   shift         Wide to the right, each by its own amount (signed_shift)
//   combine       Lanes of the lower halves of two Wide
//
// and the multiply-accumulates (MAC) of convolutions, ByteMac and WordMac. One
// adds to each accumulator the products of 4 bytes, or of 2 numbers of 16 bits:
//
//   Acc, Weights  registers of accumulators, and of weights
//   kIsShort      whether accumulators have 16 bits, which are spilled in time
//   broadcast     4 bytes of input, to meet weights in each lane
//   begin, end    accumulators from int32 in memory, and to it
//   load, add     weights from memory; the multiply-accumulate
//
// Some do more, which the constants below say; others inherit SimdDefaults.

#pragma once

#include <cstdint>
#include <cstdlib>

#define AQD_INLINE __attribute__((always_inline)) inline

namespace aqd {

// What one vector load reads; a load of two cache lines takes twice as long.
struct alignas(64) Line {
  int8_t bytes[64];
};

// What the packing of weights and multipliers depends on.
struct SimdShape {
  int lanes;  // int32 of a vector
  int nr;     // vectors of output channels of a microkernel
  // Whether a Wide has the even lanes, then the odd ones, or lower and upper.
  bool even_first;
  bool signed_shift;  // whether shift keeps the sign
  int lowest_byte;    // of a ByteMac's input: 0 or -128
  // By which MAC Winograd's products can be computed.
  bool winograd_bytes, winograd_words;
};

inline int64_t vectors_of(int64_t channels, int64_t lanes) {
  return (channels + lanes - 1) / lanes;
}

struct SimdDefaults {
  // Whether load and store take a number of lanes, for those of the last vector.
  static constexpr bool kHasMasks = false;
  // Whether stream writes past the caches.
  static constexpr bool kStreams = false;
  // Whether prefetch and prefetch_write pay.
  static constexpr bool kPrefetches = false;
  // Whether store_by_thresholds requantises to bytes by values of 16 bits.
  static constexpr bool kHasInt16Thresholds = false;
  // Runs a convolution by an algorithm of its own; what only others are packed
  // for never comes here.
  template <class... Arguments>
  static void run_other(const Arguments &...) {
    std::abort();
  }
};

}  // namespace aqd
