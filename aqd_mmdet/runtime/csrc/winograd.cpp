// A convolution with a window of 3x3 needs fewer products for a tile of outputs
// at once (Lavin and Gray, "Fast algorithms for convolutional neural networks",
// 2016): tiles of codes and windows of weights become values of polynomials at a
// few points, which are multiplied point by point, and the products become
// outputs again. Four outputs in a row take the points 0, 1, -1, 2, -2 and
// infinity; three leave out -2, two leave out 2 as well.
//
//   tile    products   for as many by windows
//   3 x 4      30          108    2 bits: all values fit bytes
//   2 x 4      24           72    3 bits
//   4 x 4      36          144    8 bits: they fit 16 bits, whose products are
//                                 half as many to an instruction
//
// All is exact. Weights are not divided by what interpolation divides them by:
// outputs are, in the end, once for all. Sums may wrap around 2^32 until then,
// since additions and multiplications do not mind; a division by 2^n * k, k odd,
// is a multiplication by the inverse of k and a shift, which leaves all but the
// upper n bits of what was divided, and outputs are proven to need no more.
//
// Weights of few bits are odd, 2v + 1; then values of the v are multiplied, which
// take a bit less, and an output is twice their sum and the sum of its codes.

#include "winograd.h"

#ifdef AQD_HAS_AVX512

#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "plan.h"
#include "stages512.h"

namespace aqd {
namespace {

constexpr int kColumns = 4;  // outputs of a row of a tile
constexpr int kWide = kColumns + 2;
constexpr int kMostRows = 4;
constexpr int kMostPoints = (kMostRows + 2) * kWide;
constexpr int kVectors = 4;  // of output channels at once
constexpr int kTiles = 6;    // with kVectors, 24 of 32 registers for sums
// Tiles of a thread at a time: their values and sums stay in an L2 cache, and
// are enough to read all weights for.
constexpr int64_t kMostTiles = 36;
constexpr int kLine = 64;
constexpr int kFormat = 1 << 8;  // of weights, beside those of other kernels

// How values of weights and codes come about for a row of so many outputs.
struct Points {
  int outputs;
  int weights[kWide][3];
  int codes[kWide][kWide];
};

constexpr Points kPoints[] = {
    {2,
     {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 1}},
     {{-1, 0, 1}, {0, 1, 1}, {0, -1, 1}, {0, -1, 0, 1}}},
    {3,
     {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {0, 0, 1}},
     {{2, -1, -2, 1}, {0, -2, -1, 1}, {0, 2, -3, 1}, {0, -1, 0, 1},
      {0, 2, -1, -2, 1}}},
    {4,
     {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}},
     {{4, 0, -5, 0, 1}, {0, -4, -4, 1, 1}, {0, 4, -4, -1, 1},
      {0, -2, -1, 2, 1}, {0, 2, -1, -2, 1}, {0, 4, 0, -5, 0, 1}}}};

// Tiles of so many rows, and whether their values are bytes or have 16 bits.
struct Form {
  int rows;
  bool bytes;

  constexpr const Points &down() const { return kPoints[rows - 2]; }
  constexpr const Points &across() const { return kPoints[kColumns - 2]; }
  constexpr int points() const { return (rows + 2) * kWide; }
  // Codes of an instruction.
  constexpr int together() const { return bytes ? 4 : 2; }
  // What an output is multiplied by: a power of two and an odd number.
  constexpr int shift() const { return rows == 2 ? 4 : rows == 3 ? 4 : 6; }
  constexpr uint32_t inverse() const {
    return rows == 2 ? 0xaaaaaaab : 0x38e38e39;  // of 3, of 9
  }
};

// The best first.
constexpr Form kForms[] = {{3, true}, {2, true}, {4, false}};

struct Range {
  int64_t low, high;
};

// What numbers of a range amount to, each times a factor for rows and columns.
Range range_of(const int *down, int rows, const int *across, int columns,
               Range each) {
  Range sum = {0, 0};
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      const int factor = down[y] * across[x];
      sum.low += factor * (factor < 0 ? each.high : each.low);
      sum.high += factor * (factor < 0 ? each.low : each.high);
    }
  }
  return sum;
}

Range codes_at(Form form, int point, Range codes) {
  return range_of(form.down().codes[point / kWide], form.rows + 2,
                  form.across().codes[point % kWide], kWide, codes);
}

// What a layer is multiplied as.
struct Layer {
  Form form;
  bool is_halved;  // whether values are those of v
  Range codes;

  // What values of codes are raised by to be unsigned bytes.
  int raise(int point) const {
    return form.bytes ? static_cast<int>(-codes_at(form, point, codes).low) : 0;
  }
};

// Weights of other layers are other numbers; 0 is for none.
int format_of(const Layer &layer) {
  const int codes = static_cast<int>(layer.codes.high * 256 - layer.codes.low);
  return kFormat * (1 + codes) + 4 * layer.form.rows +
         (layer.form.bytes ? 2 : 0) + (layer.is_halved ? 1 : 0);
}

Layer layer_of(int format) {
  const int64_t codes = format / kFormat - 1;
  const int form = format % kFormat;
  return {{form / 4, (form & 2) != 0},
          (form & 1) != 0,
          {-(codes % 256), codes / 256}};
}

bool fits(const Layer &layer, Range weights) {
  const Form &form = layer.form;
  for (int point = 0; point < form.points(); ++point) {
    const Range x = codes_at(form, point, layer.codes);
    const Range w =
        range_of(form.down().weights[point / kWide], 3,
                 form.across().weights[point % kWide], 3, weights);
    const bool right =
        form.bytes ? x.high - x.low <= UINT8_MAX && w.low >= INT8_MIN &&
                         w.high <= INT8_MAX
                   : x.low >= INT16_MIN && x.high <= INT16_MAX &&
                         w.low >= INT16_MIN && w.high <= INT16_MAX;
    if (!right) return false;
  }
  return true;
}

// Whether outputs are whole without the upper bits that a division takes.
bool is_exact(const Layer &layer, const Weights &weights) {
  const size_t outs = weights.sums.size();
  std::vector<Range> sums(outs, {0, 0});
  const auto [low, high] = layer.codes;
  for (size_t i = 0; i < weights.codes.size(); i += outs) {
    for (size_t o = 0; o < outs; ++o) {
      const int code = weights.codes[i + o];
      const int value = layer.is_halved ? code >> 1 : code;
      sums[o].low += value * (value < 0 ? high : low);
      sums[o].high += value * (value < 0 ? low : high);
    }
  }
  const int64_t most = int64_t{1} << (31 - layer.form.shift());
  return std::all_of(sums.begin(), sums.end(), [&](const Range &sum) {
    return -most <= sum.low && sum.high < most;
  });
}

// How codes are multiplied by weights; there are no rows if they fit no form.
Layer layer_of(Range codes, const Weights &weights) {
  const std::vector<int8_t> &all = weights.codes;
  const auto [low, high] = std::minmax_element(all.begin(), all.end());
  const bool are_odd = std::all_of(all.begin(), all.end(),
                                   [](int8_t code) { return code % 2 != 0; });
  for (const Form &form : kForms) {
    const Layer layer = {form, form.bytes && are_odd, codes};
    const int shift = layer.is_halved ? 1 : 0;
    if (fits(layer, {*low >> shift, *high >> shift}) &&
        is_exact(layer, weights)) {
      return layer;
    }
  }
  return {{0, false}, false, codes};
}

int64_t steps_of(Form form, int64_t channels) {
  return (channels + form.together() - 1) / form.together();
}

// Bytes of a tile's values at a point.
int64_t length_of(Form form, int64_t channels) {
  return whole_lines(channels * (form.bytes ? 1 : 2));
}

// Weights of 16 output channels for one input channel at all points.
AQD_AVX512 void values_of(const Layer &layer, const int8_t *codes,
                          int64_t next_tap, int count, int32_t (*to)[kLanes]) {
  int32_t taps[9][kLanes] = {}, rows[3][kWide][kLanes];
  for (int tap = 0; tap < 9; ++tap) {
    for (int lane = 0; lane < count; ++lane) {
      const int code = codes[tap * next_tap + lane];
      taps[tap][lane] = layer.is_halved ? code >> 1 : code;
    }
  }
  for (int y = 0; y < 3; ++y) {
    for (int point = 0; point < kWide; ++point) {
      const int *by = layer.form.across().weights[point];
      for (int lane = 0; lane < kLanes; ++lane) {
        rows[y][point][lane] = by[0] * taps[3 * y][lane] +
                               by[1] * taps[3 * y + 1][lane] +
                               by[2] * taps[3 * y + 2][lane];
      }
    }
  }
  for (int point = 0; point < layer.form.points(); ++point) {
    const int *by = layer.form.down().weights[point / kWide];
    const int x = point % kWide;
    for (int lane = 0; lane < kLanes; ++lane) {
      to[point][lane] = by[0] * rows[0][x][lane] + by[1] * rows[1][x][lane] +
                        by[2] * rows[2][x][lane];
    }
  }
}

// Weights: block of vectors, point, what sums start from and instructions,
// vector, lane.
AQD_AVX512 void pack(const Layer &layer, int64_t channels, int64_t outs,
                     Weights *weights) {
  const Form &form = layer.form;
  const int64_t vectors = vectors_of(outs), steps = steps_of(form, channels);
  const int points = form.points(), together = form.together();
  const int bits = 32 / together, mask = form.bytes ? 0xff : 0xffff;
  weights->packed.resize(
      static_cast<size_t>(vectors * points * (1 + steps)));
  int8_t *to = weights->packed.data()->bytes;
  for (int64_t v = 0; v < vectors; ++v) {
    const int64_t first = v / kVectors * kVectors;
    const int64_t wide = std::min<int64_t>(kVectors, vectors - first);
    // Of this vector and a point what is first; all of it is `wide` apart.
    const auto place = [&](int64_t point) {
      return to + ((first * points + point * wide) * (1 + steps) + v - first) *
                      kLine;
    };
    const int count =
        static_cast<int>(std::min<int64_t>(kLanes, outs - v * kLanes));
    int32_t start[kMostPoints][kLanes] = {};
    for (int64_t step = 0; step < steps; ++step) {
      int32_t packed[kMostPoints][kLanes] = {}, values[kMostPoints][kLanes];
      for (int i = 0; i < together; ++i) {
        const int64_t channel = step * together + i;
        if (channel >= channels) break;
        values_of(layer, weights->codes.data() + channel * outs + v * kLanes,
                  channels * outs, count, values);
        for (int point = 0; point < points; ++point) {
          const int raise = layer.raise(point);
          for (int lane = 0; lane < kLanes; ++lane) {
            const int value = values[point][lane];
            start[point][lane] -= raise * value;
            packed[point][lane] |= static_cast<int>(
                static_cast<unsigned>(value & mask) << bits * i);
          }
        }
      }
      for (int point = 0; point < points; ++point) {
        std::memcpy(place(point) + (1 + step) * wide * kLine, packed[point],
                    kLine);
      }
    }
    for (int point = 0; point < points; ++point) {
      std::memcpy(place(point), start[point], kLine);
    }
  }
}

// Additions of bytes, words and sums; they wrap around.
struct Bytes {
  __m512i x;
  AQD_AVX512 friend Bytes operator+(Bytes a, Bytes b) {
    return {_mm512_add_epi8(a.x, b.x)};
  }
  AQD_AVX512 friend Bytes operator-(Bytes a, Bytes b) {
    return {_mm512_sub_epi8(a.x, b.x)};
  }
};

struct Words {
  __m512i x;
  AQD_AVX512 friend Words operator+(Words a, Words b) {
    return {_mm512_add_epi16(a.x, b.x)};
  }
  AQD_AVX512 friend Words operator-(Words a, Words b) {
    return {_mm512_sub_epi16(a.x, b.x)};
  }
};

struct Numbers {
  __m512i x;
  AQD_AVX512 friend Numbers operator+(Numbers a, Numbers b) {
    return {_mm512_add_epi32(a.x, b.x)};
  }
  AQD_AVX512 friend Numbers operator-(Numbers a, Numbers b) {
    return {_mm512_sub_epi32(a.x, b.x)};
  }
};

template <int kBits>
AQD_AVX512 inline Numbers times(Numbers a) {
  return {_mm512_slli_epi32(a.x, kBits)};
}

template <class T>
AQD_AVX512 inline T twice(T a) {
  return a + a;
}

// Values of a row or column of codes, `next` apart: Points::codes.
template <int kOutputs, class T>
AQD_AVX512 inline void to_values(const T *d, int next, T *to) {
  const T d0 = d[0], d1 = d[next], d2 = d[2 * next], d3 = d[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = d2 - d0;
    to[1] = d1 + d2;
    to[2] = d2 - d1;
    to[3] = d3 - d1;
  } else {
    const T d4 = d[4 * next], odd = d3 - d1, even = d4 - d2;
    if constexpr (kOutputs == 3) {
      const T less = d1 - d2;
      to[0] = twice(d0 - d2) + odd;
      to[1] = odd - (d1 + d2);
      to[2] = odd + (twice(less) + less);
      to[3] = odd;
      to[4] = even - twice(odd);
    } else {
      const T d5 = d[5 * next], odds = twice(odd);
      const T far = even - (twice(d2) + d2), off = d3 - twice(twice(d1));
      to[0] = twice(twice(d0 - d2)) + even;
      to[1] = far + off;
      to[2] = far - off;
      to[3] = even + odds;
      to[4] = even - odds;
      to[5] = (d5 - d3) - twice(odds);
    }
  }
}

// A row or column of outputs, times 2, 6 or 24, of sums at points.
template <int kOutputs>
AQD_AVX512 inline void to_outputs(const Numbers *m, int next, Numbers *to) {
  const Numbers m0 = m[0], m1 = m[next], m2 = m[2 * next], m3 = m[3 * next];
  if constexpr (kOutputs == 2) {
    to[0] = m1 + m2 - times<1>(m0);
    to[1] = m1 - m2 + times<1>(m3);
  } else if constexpr (kOutputs == 3) {
    const Numbers m4 = m[4 * next], m1s = times<1>(m1) + m1;
    to[0] = times<1>(m0) + m0 - m1s + (m3 - m2);
    to[1] = times<1>(m3) + m2 - m1s;
    to[2] = times<2>(m3) - m2 - m1s + (times<2>(m4) + times<1>(m4));
  } else {
    const Numbers m4 = m[4 * next], m5 = m[5 * next];
    const Numbers near = times<2>(m1 + m2), apart = times<2>(m1 - m2);
    const Numbers far = m3 + m4, off = times<1>(m3 - m4);
    to[0] = times<2>(m0) + times<1>(m0) - near + far;
    to[1] = off - apart;
    to[2] = times<2>(far) - near;
    to[3] = times<2>(off) - apart + (times<4>(m5) + times<3>(m5));
  }
}

// What a thread works with, in its scratch.
struct Work {
  uint8_t *values;  // of codes: point, tile, channel
  int32_t *sums;    // point, tile, lane
  int32_t *boxes;   // of an output's codes: tile, row, column
  uint8_t *zeros;   // a pixel of the padding
};

int64_t sums_bytes(Form form) {
  return form.points() * kMostTiles * kVectors * kLine;
}

int64_t boxes_bytes() { return kMostTiles * kMostRows * kColumns * 4; }

Work work_of(Form form, int64_t channels, uint8_t *scratch) {
  Work work;
  work.values = scratch;
  scratch += form.points() * kMostTiles * length_of(form, channels);
  work.sums = reinterpret_cast<int32_t *>(scratch);
  scratch += sums_bytes(form);
  work.boxes = reinterpret_cast<int32_t *>(scratch);
  work.zeros = scratch + boxes_bytes();
  return work;
}

// Tiles in the order of rows; those at the end may reach beyond the output.
struct Tiles {
  int64_t across, count;
};

Tiles tiles_of(Form form, Size size) {
  const int64_t across = (size.width + kColumns - 1) / kColumns;
  return {across, across * ((size.height + form.rows - 1) / form.rows)};
}

// Some tiles, and blocks of output channels.
struct Share {
  int64_t first, count;
  int64_t block, end;
};

template <int kRows, bool kBytes>
class Kernel {
 public:
  static constexpr Form kForm = {kRows, kBytes};
  static constexpr int kHigh = kRows + 2;

  Kernel(const Group &group, const Layer &layer, const Stages &stages)
      : group_(group), op_(group.op()), x_(*group.x), layer_(layer),
        stages_(stages), tiles_(tiles_of(kForm, group.size)),
        length_(length_of(kForm, x_.channels)),
        steps_(steps_of(kForm, x_.channels)) {
    for (int point = 0; point < kForm.points(); ++point) {
      raises_[point] = static_cast<int8_t>(layer.raise(point));
    }
  }

  void run(const Share &share, const Work &work) const {
    std::memset(work.zeros, 0, static_cast<size_t>(x_.channels));
    for (int64_t i = 0; i < share.count; ++i) {
      transform(share.first + i, i, work);
    }
    const int64_t vectors = vectors_of(op_.channels);
    for (int64_t v = share.block * kVectors;
         v < std::min(share.end * kVectors, vectors); v += kVectors) {
      const int64_t wide = std::min<int64_t>(kVectors, vectors - v);
      multiply(share, v, wide, work);
      finish(share, v, wide, work);
    }
  }

 private:
  // A vector of codes, as values are.
  AQD_AVX512 auto load(const uint8_t *from) const {
    if constexpr (kBytes) {
      return Bytes{_mm512_loadu_si512(from)};
    } else {
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
      return Words{x_.type == Type::kI8 ? _mm512_cvtepi8_epi16(x)
                                        : _mm512_cvtepu8_epi16(x)};
    }
  }

  AQD_AVX512 void transform(int64_t tile, int64_t i, const Work &work) const {
    const int64_t top = tile / tiles_.across * kRows - op_.padding.height;
    const int64_t left = tile % tiles_.across * kColumns - op_.padding.width;
    const uint8_t *pixels[kHigh][kWide];
    for (int y = 0; y < kHigh; ++y) {
      for (int x = 0; x < kWide; ++x) {
        const bool inside = top + y >= 0 && top + y < x_.size.height &&
                            left + x >= 0 && left + x < x_.size.width;
        const int64_t at =
            ((top + y) * x_.size.width + left + x) * x_.channels;
        pixels[y][x] = inside ? static_cast<const uint8_t *>(x_.data) + at
                              : work.zeros;
      }
    }
    constexpr int kEach = kBytes ? kLine : kLine / 2;
    const int64_t next = kMostTiles * length_;
    uint8_t *to = work.values + i * length_;
    using T = decltype(load(nullptr));
    for (int64_t c = 0; c < x_.channels; c += kEach, to += kLine) {
      T rows[kHigh][kWide];
#pragma GCC unroll 6
      for (int y = 0; y < kHigh; ++y) {
        T codes[kWide];
#pragma GCC unroll 6
        for (int x = 0; x < kWide; ++x) codes[x] = load(pixels[y][x] + c);
        to_values<kColumns>(codes, 1, rows[y]);
      }
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x) {
        T values[kHigh];
        to_values<kRows>(rows[0] + x, kWide, values);
#pragma GCC unroll 6
        for (int y = 0; y < kHigh; ++y) {
          const int point = y * kWide + x;
          T value = values[y];
          if constexpr (kBytes) {
            value = value + T{_mm512_set1_epi8(raises_[point])};
          }
          _mm512_store_si512(to + point * next, value.x);
        }
      }
    }
    if (layer_.is_halved) sum_boxes(pixels, work.boxes + i * kRows * kColumns);
  }

  // Sums of the codes that each output of a tile sees.
  AQD_AVX512 void sum_boxes(const uint8_t *const (*pixels)[kWide],
                            int32_t *to) const {
    Numbers rows[kHigh][kColumns];
    for (int y = 0; y < kHigh; ++y) {
      Numbers sums[kWide];
      if (x_.type == Type::kI8) {
        sum_pixels<true>(pixels[y], sums);
      } else {
        sum_pixels<false>(pixels[y], sums);
      }
#pragma GCC unroll 4
      for (int x = 0; x < kColumns; ++x) {
        rows[y][x] = sums[x] + sums[x + 1] + sums[x + 2];
      }
    }
    for (int y = 0; y < kRows; ++y) {
      for (int x = 0; x < kColumns; ++x) {
        const Numbers sum = rows[y][x] + rows[y + 1][x] + rows[y + 2][x];
        to[y * kColumns + x] = _mm512_reduce_add_epi32(sum.x);
      }
    }
  }

  // Sums of the codes of each pixel, in 16 parts.
  template <bool kSigned>
  AQD_AVX512 void sum_pixels(const uint8_t *const *pixels, Numbers *to) const {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums[kWide];
#pragma GCC unroll 6
    for (int x = 0; x < kWide; ++x) sums[x] = _mm512_setzero_si512();
    for (int64_t c = 0; c < x_.channels; c += kLine) {
      const int64_t left = std::min<int64_t>(kLine, x_.channels - c);
      const __mmask64 mask = ~uint64_t{0} >> (kLine - left);
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x) {
        const __m512i codes = _mm512_maskz_loadu_epi8(mask, pixels[x] + c);
        sums[x] = kSigned ? _mm512_dpbusd_epi32(sums[x], ones, codes)
                          : _mm512_dpbusd_epi32(sums[x], codes, ones);
      }
    }
#pragma GCC unroll 6
    for (int x = 0; x < kWide; ++x) to[x] = {sums[x]};
  }

  template <int T, int V>
  AQD_AVX512 static void multiply(const uint8_t *values, int64_t length,
                                  int64_t steps, const int8_t *weights,
                                  int32_t *to) {
    __m512i sums[T][V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const __m512i start = _mm512_load_si512(weights + kLine * v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[t][v] = start;
    }
    weights += kLine * V;
    for (int64_t k = 0; k < steps; ++k, values += 4, weights += kLine * V) {
      __m512i w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = _mm512_load_si512(weights + kLine * v);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        int32_t four;
        std::memcpy(&four, values + t * length, 4);
        const __m512i x = _mm512_set1_epi32(four);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[t][v] = kBytes ? _mm512_dpbusd_epi32(sums[t][v], x, w[v])
                              : _mm512_dpwssd_epi32(sums[t][v], x, w[v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        _mm512_store_si512(to + (t * V + v) * kLanes, sums[t][v]);
      }
    }
  }

  using Multiply = void (*)(const uint8_t *, int64_t, int64_t, const int8_t *,
                            int32_t *);

  template <int V>
  static Multiply multiply_of(int64_t tiles) {
    static constexpr Multiply kAll[kTiles] = {
        multiply<1, V>, multiply<2, V>, multiply<3, V>,
        multiply<4, V>, multiply<5, V>, multiply<6, V>};
    return kAll[tiles - 1];
  }

  static Multiply multiply_of(int64_t tiles, int64_t vectors) {
    switch (vectors) {
      case 1:
        return multiply_of<1>(tiles);
      case 2:
        return multiply_of<2>(tiles);
      case 3:
        return multiply_of<3>(tiles);
      default:
        return multiply_of<4>(tiles);
    }
  }

  // Sums of a block of output channels at all points.
  void multiply(const Share &share, int64_t vector, int64_t wide,
                const Work &work) const {
    const int8_t *weights = op_.weights->packed.data()->bytes +
                            vector * kForm.points() * (1 + steps_) * kLine;
    const int64_t parts = (share.count + kTiles - 1) / kTiles;
    for (int point = 0; point < kForm.points(); ++point) {
      const uint8_t *values = work.values + point * kMostTiles * length_;
      int32_t *sums = work.sums + point * kMostTiles * wide * kLanes;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = share.count * part / parts;
        const int64_t end = share.count * (part + 1) / parts;
        multiply_of(end - first, wide)(values + first * length_, length_,
                                       steps_, weights,
                                       sums + first * wide * kLanes);
      }
      weights += wide * (1 + steps_) * kLine;
    }
  }

  // Outputs of a vector of channels of a tile, to rows of several.
  AQD_AVX512 void outputs(const int32_t *sums, int64_t next,
                          const int32_t *boxes, int32_t *const *to) const {
    Numbers rows[kHigh][kColumns];
#pragma GCC unroll 6
    for (int y = 0; y < kHigh; ++y) {
      Numbers m[kWide];
#pragma GCC unroll 6
      for (int x = 0; x < kWide; ++x, sums += next) {
        m[x] = {_mm512_load_si512(sums)};
      }
      to_outputs<kColumns>(m, 1, rows[y]);
    }
    const __m512i inverse =
        _mm512_set1_epi32(static_cast<int>(kForm.inverse()));
#pragma GCC unroll 4
    for (int x = 0; x < kColumns; ++x) {
      Numbers column[kRows];
      to_outputs<kRows>(rows[0] + x, kColumns, column);
#pragma GCC unroll 4
      for (int y = 0; y < kRows; ++y) {
        __m512i sum = _mm512_mullo_epi32(column[y].x, inverse);
        if (layer_.is_halved) {
          sum = _mm512_add_epi32(
              _mm512_srai_epi32(sum, kForm.shift() - 1),
              _mm512_set1_epi32(boxes[y * kColumns + x]));
        } else {
          sum = _mm512_srai_epi32(sum, kForm.shift());
        }
        _mm512_store_si512(to[y] + x * kLanes, sum);
      }
    }
  }

  // Tiles that are neighbours, as many as stages run for at once, and where
  // their outputs begin.
  struct Few {
    int64_t first, count;
    int64_t row, column;
  };

  Few few_of(const Share &share, int64_t i) const {
    const int64_t tile = share.first + i;
    const int64_t across = tile % tiles_.across;
    const int64_t count =
        std::min<int64_t>({kPlacePixels / kColumns, share.count - i,
                           tiles_.across - across});
    return {i, count, tile / tiles_.across * kRows, across * kColumns};
  }

  // Calls what takes a place and its row of the tiles for each row that the
  // output has.
  template <class Take>
  void each_row(const Few &few, int64_t vector, const Take &take) const {
    const int64_t pixels =
        std::min(few.count * kColumns, group_.size.width - few.column);
    const int64_t rows = std::min<int64_t>(kRows, group_.size.height - few.row);
    for (int64_t y = 0; y < rows; ++y) {
      take(Place{few.row + y, few.column, static_cast<int>(pixels), vector}, y);
    }
  }

  // Runs the stages for a block of output channels.
  void finish(const Share &share, int64_t vector, int64_t wide,
              const Work &work) const {
    Made made[kRows];
    int32_t *rows[kRows];
    const int64_t next = kMostTiles * wide * kLanes;
    const auto fetch = [&](const Few &few) {
      each_row(few, vector, [&](const Place &place, int64_t) {
        stages_.fetch(place, wide);
      });
    };
    Few few = few_of(share, 0);
    fetch(few);
    while (few.count != 0) {
      const Few following = few_of(share, few.first + few.count);
      if (following.count != 0) fetch(following);
      for (int64_t v = 0; v < wide; ++v) {
        for (int64_t t = 0; t < few.count; ++t) {
          const int64_t tile = few.first + t;
          for (int y = 0; y < kRows; ++y) {
            rows[y] = made[y].codes[0] + t * kColumns * kLanes;
          }
          outputs(work.sums + (tile * wide + v) * kLanes, next,
                  work.boxes + tile * kRows * kColumns, rows);
        }
        each_row(few, vector + v, [&](const Place &place, int64_t y) {
          stages_.run(place, made + y);
        });
      }
      few = following;
    }
  }

  const Group &group_;
  const Op &op_;
  const Tensor &x_;
  const Layer &layer_;
  const Stages &stages_;
  const Tiles tiles_;
  const int64_t length_, steps_;
  int8_t raises_[kMostPoints];
};

// Divides tiles among threads; where they are few, output channels instead.
template <int kRows, bool kBytes>
void convolve(const Group &group, const Layer &layer, uint8_t *scratch,
              int64_t step, Pool *pool) {
  const Stages stages(group);
  const Kernel<kRows, kBytes> kernel(group, layer, stages);
  const int64_t tiles = tiles_of(layer.form, group.size).count;
  const int64_t blocks =
      (vectors_of(group.channels) + kVectors - 1) / kVectors;
  const int64_t threads = pool->threads();
  const bool few = tiles <= kMostTiles;
  int64_t parts = (tiles + kMostTiles - 1) / kMostTiles;
  // As many for each thread.
  parts = few ? std::min(threads, blocks) : (parts + threads - 1) / threads * threads;
  pool->run(parts, [&](int64_t part, int thread) {
    const int64_t all = few ? blocks : tiles;
    const int64_t first = all * part / parts, end = all * (part + 1) / parts;
    const Share share = few ? Share{0, tiles, first, end}
                            : Share{first, end - first, 0, blocks};
    kernel.run(share,
               work_of(layer.form, group.x->channels, scratch + step * thread));
  });
}

}  // namespace

bool prepare_winograd(Op *op, const Op &x) {
  const auto is = [](const Size &size, int length) {
    return size.height == length && size.width == length;
  };
  const Type type = x.grid.type();
  if (!is(op->kernel, 3) || !is(op->stride, 1) || !is(op->dilation, 1) ||
      op->groups != 1 || op->reads_pixels || op->pooling.kernel.height != 0 ||
      (type != Type::kU8 && type != Type::kI8)) {
    return false;
  }
  Weights *weights = op->weights;
  const Range codes = {std::min(x.grid.low, 0), std::max(x.grid.high, 0)};
  if (weights->format == 0) {
    const Layer layer = layer_of(codes, *weights);
    if (layer.form.rows == 0) return false;
    weights->format = format_of(layer);
    pack(layer, x.channels, op->channels, weights);
    return true;
  }
  if (weights->format < kFormat) return false;
  const Range packed = layer_of(weights->format).codes;
  return packed.low == codes.low && packed.high == codes.high;
}

int64_t scratch_of_winograd(const Op &op, int64_t channels) {
  const Form form = layer_of(op.weights->format).form;
  return form.points() * kMostTiles * length_of(form, channels) +
         sums_bytes(form) + boxes_bytes() + whole_lines(channels) + kLine;
}

void convolve_winograd(const Group &group, uint8_t *scratch, int64_t step,
                       Pool *pool) {
  const Layer layer = layer_of(group.op().weights->format);
  if (!layer.form.bytes) {
    convolve<4, false>(group, layer, scratch, step, pool);
  } else if (layer.form.rows == 3) {
    convolve<3, true>(group, layer, scratch, step, pool);
  } else {
    convolve<2, true>(group, layer, scratch, step, pool);
  }
}

}  // namespace aqd

#endif
