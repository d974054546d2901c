#include "kernels/instruction_sets.h"

#ifdef AQD_HAS_WASM

#include <wasm_simd128.h>

#define AQD_TARGET

#include "kernels/kernels.h"

namespace aqd {
namespace {

struct WasmMac {
  using Acc = v128_t;
  using Weights = v128_t;
  static constexpr bool kIsShort = false;

  static Acc begin(const int32_t *from) { return wasm_v128_load(from); }
  static void end(Acc acc, int32_t *to) { wasm_v128_store(to, acc); }
  static Weights load(const int8_t *from) { return wasm_v128_load(from); }
  static v128_t broadcast(const uint8_t *codes) {
    return wasm_v128_load32_splat(codes);
  }
  static Acc add(Acc acc, v128_t codes, Weights weights) {
    return wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(codes, weights));
  }
};

struct Wasm : SimdDefaults {
  static constexpr SimdShape kShape = {4, 2, false, true, 0, false, true};
  static constexpr int kMr = 4;  // 8 of a common machine's 16 registers

  using Lanes = v128_t;
  using Wide = v128_t;
  using ByteMac = WasmMac;  // never used: bytes are widened
  using WordMac = WasmMac;

  static Lanes load(const uint8_t *from) {
    return wasm_u32x4_extend_low_u16x8(
        wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(from)));
  }
  static Lanes load(const int8_t *from) {
    return wasm_i32x4_extend_low_i16x8(
        wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(from)));
  }
  static Lanes load(const int16_t *from) { return wasm_i32x4_load16x4(from); }
  static Lanes load(const int32_t *from) { return wasm_v128_load(from); }
  static Wide load_wide(const int64_t *from) { return wasm_v128_load(from); }

  static void store(Lanes x, int32_t *to) { wasm_v128_store(to, x); }
  static void store(Lanes x, int16_t *to) {
    const v128_t halves = wasm_i16x8_shuffle(x, x, 0, 2, 4, 6, 0, 2, 4, 6);
    wasm_v128_store64_lane(to, halves, 0);
  }
  static void store(Lanes x, int8_t *to) {
    const v128_t bytes = wasm_i8x16_shuffle(x, x, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4,
                                            8, 12, 0, 4, 8, 12);
    wasm_v128_store32_lane(to, bytes, 0);
  }

  static Lanes fill(int32_t x) { return wasm_i32x4_splat(x); }
  static Lanes add(Lanes x, Lanes y) { return wasm_i32x4_add(x, y); }
  static Lanes min(Lanes x, Lanes y) { return wasm_i32x4_min(x, y); }
  static Lanes max(Lanes x, Lanes y) { return wasm_i32x4_max(x, y); }
  static Lanes bit_xor(Lanes x, Lanes y) { return wasm_v128_xor(x, y); }
  static Lanes mac(Lanes acc, Lanes x, Lanes y) {
    return wasm_i32x4_add(acc, wasm_i32x4_mul(x, y));
  }
  static Lanes add_greater(Lanes code, Lanes x, Lanes threshold) {
    return wasm_i32x4_sub(code, wasm_i32x4_gt(x, threshold));
  }

  template <int half>
  static Wide multiply_add(Lanes x, Lanes m, Wide b) {
    return wasm_i64x2_add(half == 0 ? wasm_i64x2_extmul_low_i32x4(x, m)
                                    : wasm_i64x2_extmul_high_i32x4(x, m),
                          b);
  }
  // No instruction shifts each lane by an amount of its own.
  static Wide shift(Wide x, Wide s) {
    return wasm_i64x2_make(
        wasm_i64x2_extract_lane(x, 0) >> wasm_i64x2_extract_lane(s, 0),
        wasm_i64x2_extract_lane(x, 1) >> wasm_i64x2_extract_lane(s, 1));
  }
  static Lanes combine(Wide low, Wide high) {
    return wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
  }
};

InputFormat words(const Weights &, const Grid &) {
  InputFormat format;
  format.widen = true;
  return format;
}

}  // namespace

const Isa kWasm = {
    "wasm", [] { return true; },
    [](Program *program) { pack_program({Wasm::kShape, words}, program); },
    [](const Program &program, size_t position, const Plan &plan) {
      return scratch_bytes(Wasm::kShape, program, position, plan);
    },
    run_fused<Wasm>};

}  // namespace aqd

#endif
