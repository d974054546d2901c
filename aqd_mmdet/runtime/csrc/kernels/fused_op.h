// Fused operators.

#pragma once

#include <vector>

#include "graph/program.h"
#include "kernels/tensor.h"
#include "thread_pool.h"

namespace aqd {

// Buffers of values that a fused operator may need at a time.
constexpr int kMaxBuffers = static_cast<int>(kMaxFused) + 2;

// An operator of a fused one, which is run for a few codes at a time.
struct PostOp {
  // What an input is: the codes of an earlier operator of the same fused one,
  // or a tensor's, which are loaded into a buffer first.
  struct Input {
    int index = 0;
    const Tensor *tensor = nullptr;
    int buffer = 0;
  };

  const Node *node = nullptr;
  Input inputs[2];
  int buffer = 0;               // of what it makes
  const Tensor *out = nullptr;  // where that is stored; null if it is not
  bool is_stored_only = false;  // no later operator of the fused one reads it
  bool is_for_next = false;     // the next operator alone reads it
  // Of an upsampling: the column that it reads for each of its output.
  std::vector<int64_t> columns;

  const Op &op() const { return node->op; }
  // How many inputs are read.
  int arity() const {
    return op().is<Convolution>() ? 0 : op().is<Add>() ? 2 : 1;
  }
};

// A root, which is a convolution or an elementwise operator, and its post-ops.
// All have outputs of one size.
struct FusedOp {
  const Tensor *x = nullptr;  // a convolution's input
  std::vector<PostOp> ops;    // the root, then its post-ops
  Size size;
  int32_t channels = 0;
  const PixelSet *wanted = nullptr;  // the pixels to be made; null for all

  const Node &root() const { return *ops[0].node; }
  const Convolution &conv() const { return root().conv(); }

  bool wants_rows(int64_t first, int64_t end) const {
    return wanted == nullptr || wanted->has_rows(first, end);
  }
  bool wants_any(int64_t row, int64_t first, int64_t end) const {
    return wanted == nullptr || wanted->has_any(row, first, end);
  }
  // Calls with each run of wanted neighbours in a row: take(first, end).
  template <class Take>
  AQD_INLINE void each_run(int64_t row, const Take &take) const {
    if (wanted != nullptr) return wanted->each_run(row, take);
    take(int64_t{0}, int64_t{size.width});
  }
};

// Completes a fused operator of which nodes, tensors and indices are known. A
// value gets the buffer of one that nobody reads any more, so that most fused
// operators have one or two.
void assign_buffers(FusedOp *fused);

// Threads, each with scratch memory of its own.
struct Workers {
  ThreadPool *pool;
  uint8_t *memory;
  int64_t scratch_bytes;  // of a thread

  int threads() const { return pool->threads(); }
  // Calls work(part, scratch) for all parts below a count.
  template <class Work>
  void run(int64_t parts, const Work &work) const {
    pool->run(parts, [&](int64_t part, int thread) {
      work(part, memory + scratch_bytes * thread);
    });
  }
};

// Requantises a value of a channel.
inline int32_t requantize(const Multipliers &table, const Grid &grid,
                          size_t channel, int32_t x) {
  const size_t k = table.m.size() > 1 ? channel : 0;
  const int64_t code = (x * int64_t{table.m[k]} + table.b[k]) >> table.s[k];
  return static_cast<int32_t>(
      code < grid.low ? grid.low : code > grid.high ? grid.high : code);
}

// The portable kernel (reference.cpp).
void run_fused(const FusedOp &fused);

// Codes as int32.
void widen(const Tensor &x, int32_t *out);

}  // namespace aqd
