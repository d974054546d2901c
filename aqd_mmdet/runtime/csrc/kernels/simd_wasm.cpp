#include "kernels/simd_wasm.h"

#ifdef AQD_HAS_WASM

#include <wasm_simd128.h>

#define AQD_TARGET

#include "kernels/conv_direct.h"

namespace aqd {
namespace {

struct Words {
  using Sum = v128_t;
  using Weights = v128_t;
  static constexpr bool kIsShort = false;

  static Sum begin(const int32_t *from) { return wasm_v128_load(from); }
  static void end(Sum sum, int32_t *to) { wasm_v128_store(to, sum); }
  static Weights load(const int8_t *from) { return wasm_v128_load(from); }
  static v128_t broadcast(const uint8_t *codes) {
    return wasm_v128_load32_splat(codes);
  }
  static Sum add(Sum sum, v128_t codes, Weights weights) {
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(codes, weights));
  }
};

struct Wasm {
  template <bool>
  using Product = Words;
  static constexpr Vectors kVectors = {4, 2, false, 0};
  static constexpr ValueTypes kValues = {false, true};
  static constexpr bool kFetches = false;
  static constexpr int kPixels = 4;  // 8 of a common machine's 16 registers

  using Lanes = v128_t;

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

  static void store(Lanes codes, int32_t *to) { wasm_v128_store(to, codes); }
  static void store(Lanes codes, int16_t *to) {
    const v128_t words =
        wasm_i16x8_shuffle(codes, codes, 0, 2, 4, 6, 0, 2, 4, 6);
    wasm_v128_store64_lane(to, words, 0);
  }
  static void store(Lanes codes, int8_t *to) {
    const v128_t bytes = wasm_i8x16_shuffle(codes, codes, 0, 4, 8, 12, 0, 4, 8,
                                            12, 0, 4, 8, 12, 0, 4, 8, 12);
    wasm_v128_store32_lane(to, bytes, 0);
  }

  static Lanes weigh(Lanes sums, Lanes codes, Lanes weights) {
    return wasm_i32x4_add(sums, wasm_i32x4_mul(codes, weights));
  }

  // Lanes are shifted by amounts of their own, for which there is no
  // instruction.
  static int32_t shifted(int64_t wide, int64_t s) {
    return static_cast<int32_t>(static_cast<uint64_t>(wide) >> s);
  }

  static void requantize(const int64_t *table, const Grid &grid,
                         const int32_t *from, int pixels, int32_t *to) {
    const v128_t m = wasm_v128_load(table), less = wasm_v128_load(table + 2);
    const v128_t low_b = wasm_v128_load(table + 4);
    const v128_t high_b = wasm_v128_load(table + 6);
    const int64_t *s = table + 8;
    const v128_t least = wasm_i32x4_splat(grid.low);
    const v128_t most = wasm_i32x4_splat(grid.high);
    for (int i = 0; i < pixels * kVectors.lanes; i += kVectors.lanes) {
      const v128_t sums = wasm_v128_load(from + i);
      const v128_t low =
          wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(sums, m), low_b);
      const v128_t high =
          wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(sums, m), high_b);
      v128_t codes =
          wasm_i32x4_make(shifted(wasm_i64x2_extract_lane(low, 0), s[0]),
                          shifted(wasm_i64x2_extract_lane(low, 1), s[1]),
                          shifted(wasm_i64x2_extract_lane(high, 0), s[2]),
                          shifted(wasm_i64x2_extract_lane(high, 1), s[3]));
      codes = wasm_i32x4_sub(codes, less);
      codes = wasm_i32x4_min(wasm_i32x4_max(codes, least), most);
      wasm_v128_store(to + i, codes);
    }
  }

  static Block<Wasm> block_of(const Node &, int64_t pixels, int64_t vectors) {
    return aqd::block_of<Wasm, Words>(pixels, vectors);
  }
};

Reading read_bytes(const Node &, const Codes &) {
  Reading made;
  made.as_words = true;
  return made;
}

int64_t scratch(const Program &program, int position, const Plan &plan) {
  return scratch_of(Wasm::kVectors, program, position, plan);
}

}  // namespace

const Isa kWasm = {
    "wasm", [] { return true; },
    [](Program *program) {
      prepare(Wasm::kVectors, Wasm::kValues, read_bytes, program);
    },
    scratch, run_fused<Wasm>};

}  // namespace aqd

#endif
