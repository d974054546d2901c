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
#include "kernels/lookup_bytes.h"

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
  static constexpr SimdShape kShape = {4,    4,     false, INT8_MIN,
                                       true, false, false, true};
  static constexpr int kMr = 6;  // 24 of 32 registers for accumulators
  static constexpr bool kHasLines = true;
  static constexpr bool kHasFma = true;
  static constexpr bool kSaturates = true;

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

  // Vectors of channels of one pixel, as bytes.
  template <int NR>
  AQD_TARGET AQD_INLINE static void store_vectors(const Lanes (&x)[NR],
                                                  const ByteSpan &span,
                                                  int8_t *to) {
    const auto at = [&](int v) AQD_TARGET { return x[v < NR ? v : 0]; };
    alignas(16) int8_t all[16];
    store_as(to_bytes(pack(at(0), at(1)), pack(at(2), at(3)), span), all);
    if (span.lanes == 4 * NR) {  // a constant, so that it is one instruction
      std::memcpy(to, all, 4 * NR);
    } else {
      std::memcpy(to, all, static_cast<size_t>(span.lanes));
    }
  }

  // As bytes, those of four pixels from p on that there are.
  AQD_TARGET AQD_INLINE static void store_four(const Lanes (&x)[4], int p,
                                               int pixels,
                                               const ByteSpan &span) {
    const uint8x16_t bytes =
        to_bytes(pack(x[0], x[1]), pack(x[2], x[3]), span);
    int8_t *to = span.to + p * span.next;
    if (span.next == 4 && pixels - p >= 4) {
      store_as(bytes, to);
      return;
    }
    alignas(16) int8_t each[16];
    store_as(bytes, each);
    for (int i = 0; i < std::min(pixels - p, 4); ++i, to += span.next) {
      if (span.lanes == 4) {  // one instruction
        std::memcpy(to, each + ptrdiff_t{4} * i, 4);
      } else {
        std::memcpy(to, each + ptrdiff_t{4} * i,
                    static_cast<size_t>(span.lanes));
      }
    }
  }
  // Numbers of 16 bits, clamped.
  AQD_TARGET AQD_INLINE static uint8x16_t to_bytes(int16x8_t first,
                                                   int16x8_t second,
                                                   const ByteSpan &span) {
    return span.clamped(
        span.is_unsigned
            ? vcombine_u8(vqmovun_s16(first), vqmovun_s16(second))
            : vreinterpretq_u8_s8(
                  vcombine_s8(vqmovn_s16(first), vqmovn_s16(second))));
  }
  AQD_TARGET AQD_INLINE static int16x8_t pack(Lanes first, Lanes second) {
    return vcombine_s16(vqmovn_s32(int32x4_t(first)),
                        vqmovn_s32(int32x4_t(second)));
  }

  // For lookup_bytes.h.
  using Words = VectorOf<int16_t, 16>::type;
  using Bytes = VectorOf<uint8_t, 16>::type;

  AQD_TARGET static void look_up(const LookupTile &tile) {
    look_up_bytes<Neon>(tile);
  }
  AQD_TARGET AQD_INLINE static Words to_words(Lanes first, Lanes second) {
    return Words(vcombine_u16(vqmovun_s32(int32x4_t(first)),
                              vqmovun_s32(int32x4_t(second))));
  }
  AQD_TARGET AQD_INLINE static Words least(Words x, Words y) {
    return Words(vminq_u16(uint16x8_t(x), uint16x8_t(y)));
  }
  AQD_TARGET AQD_INLINE static Bytes to_bytes(Words first, Words second) {
    return Bytes(vcombine_u8(vqmovun_s16(int16x8_t(first)),
                             vqmovun_s16(int16x8_t(second))));
  }
  AQD_TARGET AQD_INLINE static Bytes shuffle(const uint8_t *table,
                                             Bytes place) {
    const uint8x16x4_t parts = {{vld1q_u8(table), vld1q_u8(table + 16),
                                 vld1q_u8(table + 32), vld1q_u8(table + 48)}};
    return Bytes(vqtbl4q_u8(parts, uint8x16_t(place)));
  }
  AQD_TARGET AQD_INLINE static void from_halves(Bytes lower, Bytes upper,
                                                Words *to) {
    const uint8x16_t x = uint8x16_t(lower), y = uint8x16_t(upper);
    to[0] = Words(vzip1q_u8(x, y));
    to[1] = Words(vzip2q_u8(x, y));
  }
  AQD_TARGET AQD_INLINE static Words multiply_fractions(Words x, Words y) {
    return Words(vqrdmulhq_s16(int16x8_t(x), int16x8_t(y)));
  }
  AQD_TARGET AQD_INLINE static void widen(Words x, Lanes *to) {
    to[0] = Lanes(vmovl_u16(vget_low_u16(uint16x8_t(x))));
    to[1] = Lanes(vmovl_u16(vget_high_u16(uint16x8_t(x))));
  }

  // Rounds as RoundsDown has it.
  AQD_TARGET static Lanes multiply_add(Lanes x, Lanes m, Lanes b) {
    return Lanes(vfmaq_f32(float32x4_t(b), float32x4_t(x), float32x4_t(m)));
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
                   signed_bytes, /*has_lut=*/false, /*has_amx=*/false,
                   /*has_lines=*/true, /*has_fma=*/true};

}  // namespace aqd

#endif
