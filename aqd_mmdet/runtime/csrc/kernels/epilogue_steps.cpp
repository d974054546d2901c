#include "kernels/epilogue_steps.h"

#include "graph/memory_plan.h"
#include "kernels/tuning.h"

namespace aqd {
namespace {

int arity(const Op &op) {
  if (op.is<Convolution>()) return 0;
  return op.is<Add>() ? 2 : 1;
}

// The last operator that reads what one makes; its own index for none.
int last_reader(const FusedOp &fused, int index) {
  for (int i = static_cast<int>(fused.ops.size()) - 1; i > index; --i) {
    const PostOp &each = fused.ops[static_cast<size_t>(i)];
    for (int k = 0; k < arity(each.op()); ++k) {
      const PostOp::Input &input = each.inputs[k];
      if (input.tensor == nullptr && input.index == index) return i;
    }
  }
  return index;
}

bool is_streamed(const Tensor *out, int lanes) {
  return out != nullptr && out->type == Type::kI32 &&
         out->channels % lanes == 0 && out->count() * 4 >= kStreamedBytes &&
         reinterpret_cast<uintptr_t>(out->data) %
                 static_cast<uintptr_t>(kCacheLine) == 0;
}

void set_nearest(const FusedOp &fused, EpilogueStep *step) {
  const Size &from = step->inputs[0].tensor->size;
  for (int64_t y = 0; y < fused.size.height; ++y) {
    step->rows.push_back(y * from.height / fused.size.height * from.width);
  }
  for (int64_t x = 0; x < fused.size.width; ++x) {
    step->columns.push_back(x * from.width / fused.size.width);
  }
}

// Gives buffers to values: one that nobody reads any more is used again.
class Buffers {
 public:
  explicit Buffers(const FusedOp &fused) : fused_(fused) {}

  void assign(int index, EpilogueStep *step) {
    const PostOp &from = fused_.ops[static_cast<size_t>(index)];
    const int count = arity(from.op());
    bool is_free[2] = {};
    step->buffer = -1;
    for (int k = 0; k < count; ++k) {
      const PostOp::Input &input = from.inputs[k];
      EpilogueStep::Input &to = step->inputs[k];
      to.tensor = input.tensor;
      to.buffer = input.tensor != nullptr ? take() : buffer_of_[input.index];
      is_free[k] = input.tensor != nullptr ||
                   last_reader(fused_, input.index) == index;
      if (is_free[k] && step->buffer < 0) step->buffer = to.buffer;
    }
    for (int k = 0; k < count; ++k) {
      if (is_free[k]) is_used_[step->inputs[k].buffer] = false;
    }
    if (step->buffer < 0) step->buffer = take();
    buffer_of_[index] = step->buffer;
    is_used_[step->buffer] = last_reader(fused_, index) != index;
  }

 private:
  int take() {
    int buffer = 0;
    while (is_used_[buffer]) ++buffer;
    is_used_[buffer] = true;
    return buffer;
  }

  const FusedOp &fused_;
  bool is_used_[kEpilogueBuffers] = {};
  int buffer_of_[kMaxFused] = {};
};

}  // namespace

std::vector<EpilogueStep> epilogue_steps(const FusedOp &fused, int lanes) {
  std::vector<EpilogueStep> steps(fused.ops.size());
  Buffers buffers(fused);
  for (size_t i = 0; i < steps.size(); ++i) {
    const PostOp &from = fused.ops[i];
    const int index = static_cast<int>(i);
    EpilogueStep &step = steps[i];
    step.op = &from.op();
    step.packed = from.node->packed.requantize;
    step.out = from.out;
    step.is_streamed = is_streamed(from.out, lanes);
    buffers.assign(index, &step);
    if (from.op().is<Requantize>()) {
      step.kind = EpilogueStep::Kind::kRequantize;
      step.is_stored_only =
          from.out != nullptr && last_reader(fused, index) == index;
    } else if (from.op().is<Add>()) {
      step.kind = EpilogueStep::Kind::kAdd;
    } else if (from.op().is<Upsample>()) {
      step.kind = EpilogueStep::Kind::kUpsample;
      set_nearest(fused, &step);
    }
  }
  return steps;
}

}  // namespace aqd
