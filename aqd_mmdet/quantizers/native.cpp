// The arithmetic of quantisers in training (arithmetic.py) for float32 on a
// CPU: one pass over memory for a rounding, and one for its gradient.
//
// Each operation rounds as PyTorch's do, in their order, so that values are
// equal to the last bit; setup.py keeps multiply-adds from being fused. Sums
// are of double, block by block: they are the same for any number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

// Chosen when the library is loaded, where GCC and the system can do it.
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define AQD_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define AQD_CLONES
#endif
#define AQD_INLINE inline __attribute__((always_inline))
#define AQD_INLINE_LAMBDA __attribute__((always_inline))

extern "C" {

// A grid and what is done to values before they are rounded; native.py has the
// same fields.
typedef struct AqdGrid {
  float zero, low, high, stride;
  // Taken off values, which are then divided by the deviation; 0 and 1.
  float mean, deviation;
} AqdGrid;
}

namespace {

constexpr float kMinClip = 0x1p-20F;  // MIN_CLIP in arithmetic.py
constexpr int64_t kBlock = 1 << 13;   // what is summed by itself
constexpr int64_t kLanes = 16;        // sums that a block has at a time
// A thread that has less to do is not worth its start, of 20 microseconds.
constexpr int64_t kLeast = 1 << 17;

AQD_INLINE float clamp(float x, float low, float high) {
  // These pass NaN on.
  x = x < low ? low : x;
  return x > high ? high : x;
}

float step_of(float clip, float codes) {
  return std::max(std::fabs(clip), kMinClip) / codes;
}

float sign_of(float x) {
  return static_cast<float>(x > 0) - static_cast<float>(x < 0);
}

// What a rounding does to one number.
template <bool kNormalizes, bool kHasStride>
struct Rounding {
  AqdGrid grid;
  float step, lowest, highest;

  Rounding(const AqdGrid &g, float clip)
      : grid(g), step(step_of(clip, g.high - g.zero)),
        lowest((g.low - g.zero) * step), highest((g.high - g.zero) * step) {}

  AQD_INLINE float input(float x) const {
    return kNormalizes ? (x - grid.mean) / grid.deviation : x;
  }
  AQD_INLINE float value(float x) const {
    float code = clamp(x / step + grid.zero, grid.low, grid.high);
    if (kHasStride) code = (code - grid.low) / grid.stride;
    code = std::floor(code + 0.5F);
    if (kHasStride) code = code * grid.stride + grid.low;
    return (code - grid.zero) * step;
  }
  AQD_INLINE float inside(float x) const {
    return clamp(x, lowest, highest) == x ? 1.0F : 0.0F;
  }
  AQD_INLINE float input_gradient(float grad) const {
    return kNormalizes ? grad / grid.deviation : grad;
  }
};

// Calls `work(begin, end, block)` for all blocks, on some threads.
template <class Work>
void for_blocks(int64_t count, int threads, const Work &work) {
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  const int64_t most = std::min<int64_t>(threads, count / kLeast);
  const int64_t parts = std::max<int64_t>(most, 1);
  const auto run = [&](int64_t part) {
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts;
         ++b) {
      work(b * kBlock, std::min(count, (b + 1) * kBlock), b);
    }
  };
  std::vector<std::thread> others;
  for (int64_t part = 1; part < parts; ++part) others.emplace_back(run, part);
  run(0);
  for (std::thread &each : others) each.join();
}

template <class R>
AQD_CLONES void round_block(const R &rounding, const float *x, float *y,
                            int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = rounding.value(rounding.input(x[i]));
  }
}

// Sums of what `each` gives for a place, in lanes.
template <int kSums, class Each>
AQD_INLINE void sum_lanes(int64_t count, double *sums, const Each &each) {
  float lanes[kSums][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      float terms[kSums];
      each(i + j, terms);
      for (int s = 0; s < kSums; ++s) lanes[s][j] += terms[s];
    }
  }
  for (int64_t j = 0; i < count; ++i, ++j) {
    float terms[kSums];
    each(i, terms);
    for (int s = 0; s < kSums; ++s) lanes[s][j] += terms[s];
  }
  for (int s = 0; s < kSums; ++s) {
    sums[s] = 0;
    for (const float lane : lanes[s]) sums[s] += lane;
  }
}

template <class R>
AQD_CLONES void gradient_block(const R &rounding, const float *grad,
                               const float *x, float *grad_x, int64_t count,
                               double *sum) {
  sum_lanes<1>(count, sum, [&](int64_t i, float *slope) AQD_INLINE_LAMBDA {
    const float z = rounding.input(x[i]), inside = rounding.inside(z);
    slope[0] = (rounding.value(z) - inside * z) * grad[i];
    grad_x[i] = rounding.input_gradient(grad[i] * inside);
  });
}

template <class R>
void round_all(const R &rounding, const float *x, float *y, int64_t count,
               int threads) {
  for_blocks(count, threads, [&](int64_t begin, int64_t end, int64_t) {
    round_block(rounding, x + begin, y + begin, end - begin);
  });
}

template <class R>
float gradients_of(const R &rounding, float clip, const float *grad,
                   const float *x, float *grad_x, int64_t count, int threads) {
  std::vector<double> sums(count / kBlock + 1);
  for_blocks(count, threads, [&](int64_t begin, int64_t end, int64_t block) {
    gradient_block(rounding, grad + begin, x + begin, grad_x + begin,
                   end - begin, &sums[block]);
  });
  double sum = 0;
  for (const double each : sums) sum += each;
  return static_cast<float>(sum) * sign_of(clip) /
         (rounding.step * (rounding.grid.high - rounding.grid.zero));
}

// Calls `work` with the rounding that a grid needs.
template <class Work>
auto with_rounding(const AqdGrid &grid, float clip, const Work &work) {
  const bool normalizes = grid.mean != 0 || grid.deviation != 1;
  const bool has_stride = grid.stride != 1;
  if (normalizes && has_stride) return work(Rounding<true, true>(grid, clip));
  if (normalizes) return work(Rounding<true, false>(grid, clip));
  if (has_stride) return work(Rounding<false, true>(grid, clip));
  return work(Rounding<false, false>(grid, clip));
}

// What an addition does to two numbers.
struct Sum {
  Rounding<false, false> part;
  float lowest, highest;
  float low_slope;  // of the clip value, where the sum is below its grid

  Sum(const AqdGrid &grid, float clip, float limit, float ratio)
      : part({0, -limit, limit, 1, 0, 1}, clip * ratio) {
    const float step = step_of(clip, grid.high);
    lowest = grid.low * step;
    highest = grid.high * step;
    low_slope = static_cast<float>(double{grid.low} / grid.high);
  }

  AQD_INLINE float total(float x, float y) const {
    return part.value(x) + part.value(y);
  }
};

AQD_CLONES void add_block(const Sum &sum, const float *x, const float *y,
                          float *out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = clamp(sum.total(x[i], y[i]), sum.lowest, sum.highest);
  }
}

AQD_CLONES void add_gradient_block(const Sum &sum, const float *grad,
                                   const float *x, const float *y,
                                   float *grad_x, float *grad_y, int64_t count,
                                   double *sums) {
  sum_lanes<2>(count, sums, [&](int64_t i, float *slopes) AQD_INLINE_LAMBDA {
    const float left = sum.part.value(x[i]), right = sum.part.value(y[i]);
    const float total = left + right;
    const float below = total < sum.lowest ? sum.low_slope : 0.0F;
    slopes[0] = grad[i] * (total > sum.highest ? 1.0F : below);
    const bool fits = clamp(total, sum.lowest, sum.highest) == total;
    const float inner = grad[i] * (fits ? 1.0F : 0.0F);
    const float x_inside = sum.part.inside(x[i]);
    const float y_inside = sum.part.inside(y[i]);
    slopes[1] = (left - x_inside * x[i]) * inner +
                (right - y_inside * y[i]) * inner;
    grad_x[i] = inner * x_inside;
    grad_y[i] = inner * y_inside;
  });
}

}  // namespace

extern "C" {

// y[i] = (code - zero) * step of each x[i].
void aqd_round(const AqdGrid *grid, float clip, const float *x, float *y,
               int64_t count, int threads) {
  with_rounding(*grid, clip, [&](const auto &rounding) {
    round_all(rounding, x, y, count, threads);
  });
}

// Gradients of x, and, returned, of the clip value.
float aqd_round_gradients(const AqdGrid *grid, float clip, const float *grad,
                          const float *x, float *grad_x, int64_t count,
                          int threads) {
  return with_rounding(*grid, clip, [&](const auto &rounding) {
    return gradients_of(rounding, clip, grad, x, grad_x, count, threads);
  });
}

// out[i] is x[i] + y[i], both rounded to codes up to `limit`, saturated.
// `ratio` is that of their clip value to that of the sum.
void aqd_add(const AqdGrid *grid, float clip, float limit, float ratio,
             const float *x, const float *y, float *out, int64_t count,
             int threads) {
  const Sum sum(*grid, clip, limit, ratio);
  for_blocks(count, threads, [&](int64_t begin, int64_t end, int64_t) {
    add_block(sum, x + begin, y + begin, out + begin, end - begin);
  });
}

// Gradients of x and y, and, returned, of the clip value.
float aqd_add_gradients(const AqdGrid *grid, float clip, float limit,
                        float ratio, const float *grad, const float *x,
                        const float *y, float *grad_x, float *grad_y,
                        int64_t count, int threads) {
  const Sum sum(*grid, clip, limit, ratio);
  std::vector<double> sums(2 * (count / kBlock + 1));
  for_blocks(count, threads, [&](int64_t begin, int64_t end, int64_t block) {
    add_gradient_block(sum, grad + begin, x + begin, y + begin, grad_x + begin,
                       grad_y + begin, end - begin, &sums[2 * block]);
  });
  double outside = 0, inside = 0;
  for (size_t i = 0; i < sums.size(); i += 2) {
    outside += sums[i];
    inside += sums[i + 1];
  }
  const float wide = clip * ratio;
  const float share = static_cast<float>(inside) * sign_of(wide) /
                      (sum.part.step * limit);
  return static_cast<float>(outside) * sign_of(clip) + share * ratio;
}
}
