#include "kernels/simd_neon.h"

#ifdef AQD_HAS_NEON

#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif

#ifdef __clang__
#define AQD_TARGET __attribute__((target("dotprod")))
#else
#define AQD_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

#include "kernels/conv_direct.h"

namespace aqd {
namespace {

inline uint32_t four_at(const void *from) {
  uint32_t four;
  std::memcpy(&four, from, 4);
  return four;
}

// What products have in common.
struct Product {
  using Sum = int32x4_t;
  using Weights = int8x16_t;
  static constexpr bool kIsShort = false;

  AQD_TARGET static Sum begin(const int32_t *from) { return vld1q_s32(from); }
  AQD_TARGET static void end(Sum sum, int32_t *to) { vst1q_s32(to, sum); }
  AQD_TARGET static Weights load(const int8_t *from) { return vld1q_s8(from); }
  AQD_TARGET static int8x16_t broadcast(const uint8_t *codes) {
    return vreinterpretq_s8_u32(vdupq_n_u32(four_at(codes)));
  }
};

struct Words : Product {
  AQD_TARGET static Sum add(Sum sum, int8x16_t codes, Weights weights) {
    const int16x8_t x = vreinterpretq_s16_s8(codes);
    const int16x8_t w = vreinterpretq_s16_s8(weights);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(w));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, w)));
  }
};

struct Bytes : Product {
  AQD_TARGET static Sum add(Sum sum, int8x16_t codes, Weights weights) {
    return vdotq_s32(sum, codes, weights);
  }
};

struct Neon {
  template <bool>
  using Product = Bytes;
  static constexpr Vectors kVectors = {4, 4, false, INT8_MIN};
  static constexpr ValueTypes kValues = {true, false};
  static constexpr bool kFetches = false;
  static constexpr int kPixels = 6;  // 24 of 32 registers for sums
  using Lanes = int32x4_t;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    const uint16x4_t low = vget_low_u16(vmovl_u8(vcreate_u8(four_at(from))));
    return vreinterpretq_s32_u32(vmovl_u16(low));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four_at(from)))));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return vmovl_s16(vld1_s16(from));
  }
  AQD_TARGET static Lanes load(const int32_t *from) { return vld1q_s32(from); }

  AQD_TARGET static void store(Lanes codes, int32_t *to) {
    vst1q_s32(to, codes);
  }
  AQD_TARGET static void store(Lanes codes, int16_t *to) {
    vst1_s16(to, vmovn_s32(codes));
  }
  AQD_TARGET static void store(Lanes codes, int8_t *to) {
    const int16x4_t words = vmovn_s32(codes);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    std::memcpy(to, &four, 4);
  }

  AQD_TARGET static Lanes weigh(Lanes sums, Lanes codes, Lanes weights) {
    return vmlaq_s32(sums, codes, weights);
  }

  AQD_TARGET static int32x2_t shifted(int64x2_t wide, int64x2_t left) {
    const uint64x2_t made = vshlq_u64(vreinterpretq_u64_s64(wide), left);
    return vmovn_s64(vreinterpretq_s64_u64(made));
  }

  AQD_TARGET static void requantize(const int64_t *table, const Grid &grid,
                                    const int32_t *from, int pixels,
                                    int32_t *to) {
    const int32x4_t m = vreinterpretq_s32_s64(vld1q_s64(table));
    const int32x4_t less = vreinterpretq_s32_s64(vld1q_s64(table + 2));
    const int64x2_t low_b = vld1q_s64(table + 4);
    const int64x2_t high_b = vld1q_s64(table + 6);
    const int64x2_t low_left = vnegq_s64(vld1q_s64(table + 8));
    const int64x2_t high_left = vnegq_s64(vld1q_s64(table + 10));
    const int32x4_t least = vdupq_n_s32(grid.low);
    const int32x4_t most = vdupq_n_s32(grid.high);
    for (int i = 0; i < pixels * kVectors.lanes; i += kVectors.lanes) {
      const int32x4_t sums = vld1q_s32(from + i);
      const int64x2_t low =
          vmlal_s32(low_b, vget_low_s32(sums), vget_low_s32(m));
      const int64x2_t high = vmlal_high_s32(high_b, sums, m);
      int32x4_t codes =
          vcombine_s32(shifted(low, low_left), shifted(high, high_left));
      codes = vsubq_s32(codes, less);
      vst1q_s32(to + i, vminq_s32(vmaxq_s32(codes, least), most));
    }
  }

  static Block<Neon> block_of(const Node &node, int64_t pixels, int64_t vectors) {
    return node.packed.reading.as_words ? aqd::block_of<Neon, Words>(pixels, vectors)
                               : aqd::block_of<Neon, Bytes>(pixels, vectors);
  }
};

// Lowers bytes that signed ones do not hold.
Reading read_bytes(const Node &, const Codes &codes) {
  Reading made;
  if (codes.grid.high > INT8_MAX) made.raise = INT8_MIN;
  return made;
}

int64_t scratch(const Program &program, int position, const Plan &plan) {
  return scratch_of(Neon::kVectors, program, position, plan);
}

bool has_dot_products() {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

}  // namespace

const Isa kNeon = {
    "neon", has_dot_products,
    [](Program *program) {
      prepare(Neon::kVectors, Neon::kValues, read_bytes, program);
    },
    scratch, run_fused<Neon>};

}  // namespace aqd

#endif
