#include "kernels/fused_op.h"

namespace aqd {
namespace {

// Whether an operator reads what an earlier one makes.
bool reads(const PostOp &op, int index) {
  for (int k = 0; k < op.arity(); ++k) {
    if (op.inputs[k].tensor == nullptr && op.inputs[k].index == index) {
      return true;
    }
  }
  return false;
}

// The last operator that reads what one makes; its own index for none.
int last_reader(const FusedOp &fused, int index) {
  int i = static_cast<int>(fused.ops.size()) - 1;
  while (i > index && !reads(fused.ops[static_cast<size_t>(i)], index)) --i;
  return i;
}

}  // namespace

void assign_buffers(FusedOp *fused) {
  bool is_used[kMaxBuffers] = {};
  const auto take = [&] {
    int buffer = 0;
    while (is_used[buffer]) ++buffer;
    is_used[buffer] = true;
    return buffer;
  };
  for (size_t i = 0; i < fused->ops.size(); ++i) {
    PostOp &op = fused->ops[i];
    const int index = static_cast<int>(i);
    for (int k = 0; k < op.arity(); ++k) {
      PostOp::Input &input = op.inputs[k];
      input.buffer = input.tensor != nullptr
                         ? take()
                         : fused->ops[static_cast<size_t>(input.index)].buffer;
    }
    for (int k = 0; k < op.arity(); ++k) {
      const PostOp::Input &input = op.inputs[k];
      is_used[input.buffer] = input.tensor == nullptr &&
                              last_reader(*fused, input.index) != index;
    }
    op.buffer = take();
    is_used[op.buffer] = last_reader(*fused, index) != index;
    op.is_for_next =
        op.out == nullptr && last_reader(*fused, index) == index + 1;
    op.is_stored_only = op.out != nullptr && !is_used[op.buffer];
    if (!op.op().is<Upsample>()) continue;
    const int64_t width = op.inputs[0].tensor->size.width;
    for (int64_t column = 0; column < fused->size.width; ++column) {
      op.columns.push_back(column * width / fused->size.width);
    }
  }
}

}  // namespace aqd
