// Group norm: docs/integer_contract.md, section 3.

#include <algorithm>
#include <type_traits>

#include "kernels/tensor.h"
#include "thread_pool.h"

namespace aqd {
namespace {

// Fractional bits of the mean and of the variance.
constexpr int kMomentBits = 16;
constexpr int64_t kOne = int64_t{1} << kMomentBits;

// What turns the codes of a group into normalised ones.
struct Normaliser {
  int64_t mean;        // in 2^-16 of a code
  int64_t reciprocal;  // of the standard deviation
  int shift;           // of a product with it

  int64_t operator()(int64_t code) const {
    const int64_t half = int64_t{1} << (shift - 1);
    return ((code * kOne - mean) * reciprocal + half) >> shift;
  }
};

int64_t square_root(int64_t x) {
  int64_t root = 0;
  for (int64_t bit = int64_t{1} << 30; bit != 0; bit >>= 1) {
    if ((root + bit) * (root + bit) <= x) root += bit;
  }
  return root;
}

Normaliser normaliser_of(int64_t count, int64_t sum, int64_t sum_of_squares,
                         int64_t epsilon) {
  // Rounded down, where C++ rounds towards 0.
  const int64_t whole = sum / count - (sum % count < 0);
  const int64_t rest = sum - whole * count;
  const int64_t squares = sum_of_squares - whole * (sum + rest);
  const int64_t mean = rest * kOne / count;
  int64_t variance = squares / count * kOne + squares % count * kOne / count -
                     mean * mean / kOne + epsilon;
  int shift = 56;
  for (; variance < int64_t{1} << 60; variance *= 4) --shift;
  return {whole * kOne + mean, (int64_t{1} << 60) / square_root(variance),
          shift};
}

// Calls with the first index of each run of codes of a group of channels.
template <class Take>
void each_run(const Tensor &x, int64_t channels, int64_t group,
              const Take &take) {
  const int64_t pixels = static_cast<int64_t>(x.plane());
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    take(pixel * x.channels + group * channels);
  }
}

}  // namespace

void run_group_norm(const Op &op, const Tensor *const *inputs,
                    const Tensor &out, ThreadPool *threads) {
  const GroupNorm &norm = op.as<GroupNorm>();
  const Tensor &x = *inputs[0];
  const int64_t channels = x.channels / norm.groups;
  threads->run(norm.groups, [&](int64_t group, int) {
    with_codes(x, out, [&](const auto *from, auto *to) {
      using To = std::remove_reference_t<decltype(*to)>;
      int64_t sum = 0, squares = 0;
      each_run(x, channels, group, [&](int64_t first) {
        for (int64_t i = first; i < first + channels; ++i) {
          const int64_t code = from[i];
          sum += code;
          squares += code * code;
        }
      });
      const int64_t count = channels * static_cast<int64_t>(x.plane());
      const Normaliser normalise =
          normaliser_of(count, sum, squares, norm.epsilon);
      each_run(x, channels, group, [&](int64_t first) {
        for (int64_t i = first; i < first + channels; ++i) {
          to[i] = static_cast<To>(std::clamp<int64_t>(
              normalise(from[i]), op.grid.low, op.grid.high));
        }
      });
    });
  });
}

}  // namespace aqd
