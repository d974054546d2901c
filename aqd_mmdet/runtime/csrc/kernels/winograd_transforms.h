// The transforms of Winograd's convolution (winograd.cpp has their matrices),
// of vectors of numbers. A file that includes this defines AQD_TARGET (simd.h).

#pragma once

namespace aqd {

// B^T d of a row or column of codes, `next` apart; all wraps around.
template <int kOutputs, class T>
AQD_TARGET inline void transform_input(const T *d, int64_t next, T *to) {
  const T d0 = d[0], d1 = d[next], d2 = d[2 * next], d3 = d[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = d2 - d0;
    to[1] = d1 + d2;
    to[2] = d2 - d1;
    to[3] = d3 - d1;
    return;
  }
  const T d4 = d[4 * next], odd = d3 - d1, even = d4 - d2, odds = odd + odd;
  const T first = d0 - d2, twice = first + first;
  if constexpr (kOutputs == 3) {
    const T less = d1 - d2;
    to[0] = twice + odd;
    to[1] = odd - (d1 + d2);
    to[2] = odd + (less + less + less);
    to[3] = odd;
    to[4] = even - odds;
  } else {
    const T d5 = d[5 * next], twice1 = d1 + d1;
    const T far = even - (d2 + d2 + d2), off = d3 - (twice1 + twice1);
    to[0] = twice + twice + even;
    to[1] = far + off;
    to[2] = far - off;
    to[3] = even + odds;
    to[4] = even - odds;
    to[5] = (d5 - d3) - (odds + odds);
  }
}

// A^T m: a row or column of outputs, times 2, 6 or 24, of values at points.
template <int kOutputs, class T>
AQD_TARGET inline void transform_output(const T *m, int64_t next, T *to) {
  const T m0 = m[0], m1 = m[next], m2 = m[2 * next], m3 = m[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = m1 + m2 - (m0 << 1);
    to[1] = m1 - m2 + (m3 << 1);
  } else if constexpr (kOutputs == 3) {
    const T m4 = m[4 * next], thrice = (m1 << 1) + m1;
    to[0] = (m0 << 1) + m0 - thrice + (m3 - m2);
    to[1] = (m3 << 1) + m2 - thrice;
    to[2] = (m3 << 2) - m2 - thrice + ((m4 << 2) + (m4 << 1));
  } else {
    const T m4 = m[4 * next], m5 = m[5 * next];
    const T near = (m1 + m2) << 2, apart = (m1 - m2) << 2;
    const T far = m3 + m4, off = (m3 - m4) << 1;
    to[0] = (m0 << 2) + (m0 << 1) - near + far;
    to[1] = off - apart;
    to[2] = (far << 2) - near;
    to[3] = (off << 2) - apart + ((m5 << 4) + (m5 << 3));
  }
}

}  // namespace aqd
