// What follows a convolution code by code, by the vectors of AVX-512.

#pragma once

#include "kernels/simd_avx512.h"

#ifdef AQD_HAS_AVX512

#include <vector>

#include "graph/schedule.h"

#define AQD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

namespace aqd {

constexpr int kLanes = 16;       // int32 codes of a vector
constexpr int kTilePixels = 16;  // pixels that stages run for at once

inline int64_t vectors_of(int64_t channels) {
  return (channels + kLanes - 1) / kLanes;
}

// What stages made of 16 channels of up to 16 pixels.
struct Made {
  alignas(64) int32_t codes[kMaxFused][kTilePixels * kLanes];
};

// Of a requantisation to few codes Op::thresholds holds, for 16 channels at a
// time, what sums are combined with (all ones for a negative multiplier), the
// lowest code, and three sums that must be exceeded for one code more.
constexpr int kCompared = 3;
constexpr int kThresholds = (2 + kCompared) * kLanes;

struct VectorStage;

// A residual connection: sums are requantised, something is added (a tensor,
// which is requantised or upsampled before, or neither), and what that makes
// may be requantised.
struct Residual {
  const VectorStage *first = nullptr, *other = nullptr, *add = nullptr,
                    *last = nullptr;
  const Tensor *term = nullptr;
  bool is_short = false;  // whether the last one is to bytes, by sums of 16 bits
};

// Runs stages of a fused for a tile; those of a convolution after its sums.
class Stages {
 public:
  explicit Stages(const FusedOp &fused);
  ~Stages();

  // The sums of a convolution are the codes of stage 0.
  void run(const TileCoord &tile, Made *made) const;

  // Fetches into the cache what stages read and write of a tile, and of some
  // vectors from its own on; those before must have been fetched.
  void fetch(const TileCoord &tile, int64_t vectors) const;

 private:
  std::vector<VectorStage> stages_;
  int64_t width_, channels_;
  size_t first_;
  bool is_short_;  // whether sums of 16 bits and bytes are all there is
  bool is_single_;  // whether a requantisation of sums to 32 bits is
  Residual residual_;  // or this
};

// Makes what a requantisation of a fused reads.
void prepare_requantize(Node *node);

}  // namespace aqd

#endif
