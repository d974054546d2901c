#include "kernels/fused_op.h"

namespace aqd {
namespace {

// The last operator that reads what one makes; its own index for none.
int last_reader(const FusedOp &fused, int index) {
  for (int i = static_cast<int>(fused.ops.size()) - 1; i > index; --i) {
    const PostOp &each = fused.ops[static_cast<size_t>(i)];
    for (int k = 0; k < each.arity(); ++k) {
      const PostOp::Input &input = each.inputs[k];
      if (input.tensor == nullptr && input.index == index) return i;
    }
  }
  return index;
}

class Buffers {
 public:
  explicit Buffers(FusedOp *fused) : fused_(*fused) {}

  void assign(int index) {
    PostOp &op = fused_.ops[static_cast<size_t>(index)];
    bool is_free[2] = {};
    op.buffer = -1;
    for (int k = 0; k < op.arity(); ++k) {
      PostOp::Input &input = op.inputs[k];
      const bool is_loaded = input.tensor != nullptr;
      input.buffer = is_loaded ? take() : buffer_of(input.index);
      is_free[k] = is_loaded || last_reader(fused_, input.index) == index;
      if (is_free[k] && op.buffer < 0) op.buffer = input.buffer;
    }
    for (int k = 0; k < op.arity(); ++k) {
      if (is_free[k]) is_used_[op.inputs[k].buffer] = false;
    }
    if (op.buffer < 0) op.buffer = take();
    is_used_[op.buffer] = last_reader(fused_, index) != index;
    op.is_stored_only = op.out != nullptr && !is_used_[op.buffer];
  }

 private:
  int buffer_of(int index) const {
    return fused_.ops[static_cast<size_t>(index)].buffer;
  }

  int take() {
    int buffer = 0;
    while (is_used_[buffer]) ++buffer;
    is_used_[buffer] = true;
    return buffer;
  }

  FusedOp &fused_;
  bool is_used_[kMaxBuffers] = {};
};

}  // namespace

void assign_buffers(FusedOp *fused) {
  Buffers buffers(fused);
  for (size_t i = 0; i < fused->ops.size(); ++i) {
    buffers.assign(static_cast<int>(i));
    PostOp &op = fused->ops[i];
    if (!op.op().is<Upsample>()) continue;
    const int64_t width = op.inputs[0].tensor->size.width;
    for (int64_t column = 0; column < fused->size.width; ++column) {
      op.columns.push_back(column * width / fused->size.width);
    }
  }
}

}  // namespace aqd
