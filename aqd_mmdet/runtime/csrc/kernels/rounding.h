// How a thread rounds floats. Requantisation by multiply-adds (requantize.h)
// needs sums that are rounded down, and AVX-512 alone has instructions that name
// their rounding.

#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace aqd {

#if defined(__x86_64__) || defined(__aarch64__)

// While it lives, floats of this thread are rounded down. Nothing traps, and
// denormals are numbers. The caller's settings come back behind it.
class RoundsDown {
 public:
  RoundsDown() : saved_(get()) { set(kDown); }
  ~RoundsDown() { set(saved_); }
  RoundsDown(const RoundsDown &) = delete;
  RoundsDown &operator=(const RoundsDown &) = delete;

 private:
#if defined(__x86_64__)
  using Word = uint32_t;
  // All exceptions masked, bits 7 to 12; rounding in bits 13 and 14.
  static constexpr Word kDown = 0x1f80 | 1 << 13;
  static Word get() { return _mm_getcsr(); }
  static void set(Word word) { _mm_setcsr(word); }
#else
  using Word = uint64_t;
  // Rounding in bits 22 and 23.
  static constexpr Word kDown = 2 << 22;
  static Word get() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void set(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#endif

  Word saved_;
};

#else

// Other machines have no multiply-adds of floats.
class RoundsDown {
 public:
  RoundsDown() {}
};

#endif

}  // namespace aqd
