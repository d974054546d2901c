#include "kernels/isa.h"

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

struct NeonByteMac : MacBase<4> {
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    return Acc(vdotq_s32(int32x4_t(acc), int8x16_t(codes), int8x16_t(weights)));
  }
};

struct NeonWordMac : MacBase<4> {
  AQD_TARGET static Acc add(Acc acc, Operand codes, Operand weights) {
    const int16x8_t x = int16x8_t(codes), w = int16x8_t(weights);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(w));
    return acc + Acc(vpaddq_s32(low, vmull_high_s16(x, w)));
  }
};

struct Neon : SimdBase<Neon, 4> {
  static constexpr SimdShape kShape = {4, 4, false, INT8_MIN, true, false};
  static constexpr int kMr = 6;  // 24 of 32 registers for accumulators

  using ByteMac = NeonByteMac;
  using WordMac = NeonWordMac;
  using SimdBase::load;
  using SimdBase::store;

  AQD_TARGET static Lanes load(const uint8_t *from) {
    const uint8x8_t four = vcreate_u8(load_as<uint32_t>(from));
    return Lanes(vmovl_u16(vget_low_u16(vmovl_u8(four))));
  }
  AQD_TARGET static Lanes load(const int8_t *from) {
    const int8x8_t four = vcreate_s8(load_as<uint32_t>(from));
    return Lanes(vmovl_s16(vget_low_s16(vmovl_s8(four))));
  }
  AQD_TARGET static Lanes load(const int16_t *from) {
    return Lanes(vmovl_s16(vld1_s16(from)));
  }
  AQD_TARGET static void store(Lanes x, int16_t *to) {
    vst1_s16(to, vmovn_s32(int32x4_t(x)));
  }
  AQD_TARGET static void store(Lanes x, int8_t *to) {
    const int16x4_t halves = vmovn_s32(int32x4_t(x));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    store_as(vget_lane_s32(vreinterpret_s32_s8(bytes), 0), to);
  }

  template <int half>
  AQD_TARGET static Wide multiply(Lanes x, Lanes m) {
    const int32x4_t a = int32x4_t(x), b = int32x4_t(m);
    return Wide(half == 0 ? vmull_s32(vget_low_s32(a), vget_low_s32(b))
                          : vmull_high_s32(a, b));
  }
  AQD_TARGET static Lanes combine(Wide low, Wide high) {
    return Lanes(vcombine_s32(vmovn_s64(int64x2_t(low)),
                              vmovn_s64(int64x2_t(high))));
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

const Isa kNeon = {"neon", has_dot_products, run_fused<Neon>, Neon::kShape,
                   signed_bytes};

}  // namespace aqd

#endif
