#include "kernels/isa.h"

#ifdef AQD_HAS_WASM

#include <wasm_simd128.h>

#define AQD_TARGET

#include "kernels/kernels.h"

namespace aqd {
namespace {

struct WasmMac : MacBase<4> {
  static Acc add(Acc acc, Operand codes, Operand weights) {
    return acc + Acc(wasm_i32x4_dot_i16x8(v128_t(codes), v128_t(weights)));
  }
};

struct Wasm : SimdBase<Wasm, 4> {
  static constexpr SimdShape kShape = {4, 2, false, 0, false, true};
  static constexpr int kMr = 4;  // 8 of a common machine's 16 registers

  using ByteMac = WasmMac;  // never used: bytes are widened
  using WordMac = WasmMac;
  using SimdBase::load;
  using SimdBase::store;

  static Lanes load(const uint8_t *from) {
    return Lanes(wasm_u32x4_extend_low_u16x8(
        wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(from))));
  }
  static Lanes load(const int8_t *from) {
    return Lanes(wasm_i32x4_extend_low_i16x8(
        wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(from))));
  }
  static Lanes load(const int16_t *from) {
    return Lanes(wasm_i32x4_load16x4(from));
  }
  static void store(Lanes x, int16_t *to) {
    const v128_t halves = v128_t(x);
    wasm_v128_store64_lane(
        to, wasm_i16x8_shuffle(halves, halves, 0, 2, 4, 6, 0, 2, 4, 6), 0);
  }
  static void store(Lanes x, int8_t *to) {
    const v128_t bytes = v128_t(x);
    wasm_v128_store32_lane(
        to, wasm_i8x16_shuffle(bytes, bytes, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8,
                               12, 0, 4, 8, 12), 0);
  }

  template <int half>
  static Wide multiply(Lanes x, Lanes m) {
    return Wide(half == 0
                    ? wasm_i64x2_extmul_low_i32x4(v128_t(x), v128_t(m))
                    : wasm_i64x2_extmul_high_i32x4(v128_t(x), v128_t(m)));
  }
  static Lanes combine(Wide low, Wide high) {
    return Lanes(wasm_i32x4_shuffle(v128_t(low), v128_t(high), 0, 2, 4, 6));
  }
};

}  // namespace

const Isa kWasm = {"wasm", [] { return true; }, run_fused<Wasm>, Wasm::kShape,
                   as_words};

}  // namespace aqd

#endif
