#include "kernels/instruction_sets.h"

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

#include "kernels/kernels.h"

namespace aqd {
namespace {

inline uint32_t load_4(const void *from) {
  uint32_t four;
  std::memcpy(&four, from, 4);
  return four;
}

// What MACs have in common.
struct Mac {
  using Acc = int32x4_t;
  using Weights = int8x16_t;
  static constexpr bool kIsShort = false;

  AQD_TARGET static Acc begin(const int32_t *from) { return vld1q_s32(from); }
  AQD_TARGET static void end(Acc acc, int32_t *to) { vst1q_s32(to, acc); }
  AQD_TARGET static Weights load(const int8_t *from) { return vld1q_s8(from); }
  AQD_TARGET static int8x16_t broadcast(const uint8_t *codes) {
    return vreinterpretq_s8_u32(vdupq_n_u32(load_4(codes)));
  }
};

struct NeonWordMac : Mac {
  AQD_TARGET static Acc add(Acc acc, int8x16_t codes, Weights weights) {
    const int16x8_t x = vreinterpretq_s16_s8(codes);
    const int16x8_t w = vreinterpretq_s16_s8(weights);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(w));
    return vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(x, w)));
  }
};

struct NeonByteMac : Mac {
  AQD_TARGET static Acc add(Acc acc, int8x16_t codes, Weights weights) {
    return vdotq_s32(acc, codes, weights);
  }
};

struct Neon : SimdDefaults {
  static constexpr SimdShape kShape = {4, 4, false, true, INT8_MIN, true, false};
  static constexpr int kMr = 6;  // 24 of 32 registers for accumulators

  using Lanes = int32x4_t;
  using Wide = int64x2_t;
  using ByteMac = NeonByteMac;
  using WordMac = NeonWordMac;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    const uint16x4_t low = vget_low_u16(vmovl_u8(vcreate_u8(load_4(from))));
    return vreinterpretq_s32_u32(vmovl_u16(low));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(load_4(from)))));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return vmovl_s16(vld1_s16(from));
  }
  AQD_TARGET static Lanes load(const int32_t *from) { return vld1q_s32(from); }
  AQD_TARGET static Wide load_wide(const int64_t *from) {
    return vld1q_s64(from);
  }

  AQD_TARGET static void store(Lanes x, int32_t *to) { vst1q_s32(to, x); }
  AQD_TARGET static void store(Lanes x, int16_t *to) {
    vst1_s16(to, vmovn_s32(x));
  }
  AQD_TARGET static void store(Lanes x, int8_t *to) {
    const int16x4_t halves = vmovn_s32(x);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    std::memcpy(to, &four, 4);
  }

  AQD_TARGET static Lanes fill(int32_t x) { return vdupq_n_s32(x); }
  AQD_TARGET static Lanes add(Lanes x, Lanes y) { return vaddq_s32(x, y); }
  AQD_TARGET static Lanes min(Lanes x, Lanes y) { return vminq_s32(x, y); }
  AQD_TARGET static Lanes max(Lanes x, Lanes y) { return vmaxq_s32(x, y); }
  AQD_TARGET static Lanes bit_xor(Lanes x, Lanes y) { return veorq_s32(x, y); }
  AQD_TARGET static Lanes mac(Lanes acc, Lanes x, Lanes y) {
    return vmlaq_s32(acc, x, y);
  }
  AQD_TARGET static Lanes add_greater(Lanes code, Lanes x, Lanes threshold) {
    return vsubq_s32(code, vreinterpretq_s32_u32(vcgtq_s32(x, threshold)));
  }

  template <int half>
  AQD_TARGET static Wide multiply_add(Lanes x, Lanes m, Wide b) {
    return half == 0 ? vmlal_s32(b, vget_low_s32(x), vget_low_s32(m))
                     : vmlal_high_s32(b, x, m);
  }
  AQD_TARGET static Wide shift(Wide x, Wide s) {
    return vshlq_s64(x, vnegq_s64(s));
  }
  AQD_TARGET static Lanes combine(Wide low, Wide high) {
    return vcombine_s32(vmovn_s64(low), vmovn_s64(high));
  }
};

// Lowers bytes that signed ones do not hold.
InputFormat signed_bytes(const Weights &, const Grid &codes) {
  InputFormat format;
  if (codes.high > INT8_MAX) format.zero_point_shift = INT8_MIN;
  return format;
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
    [](Program *program) { pack_program({Neon::kShape, signed_bytes}, program); },
    [](const Program &program, size_t position, const Plan &plan) {
      return scratch_bytes(Neon::kShape, program, position, plan);
    },
    run_fused<Neon>};

}  // namespace aqd

#endif
