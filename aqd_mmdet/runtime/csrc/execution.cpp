#include "execution.h"

#include <algorithm>

#include "graph/schedule.h"

namespace aqd {

bool Execution::prepare(const Program &program, const Isa &isa, Size input) {
  if (program_ != nullptr && same(plan_.input, input)) return true;
  program_ = nullptr;
  if (!make_plan(program, isa, input, &plan_)) return false;
  program_ = &program;
  isa_ = &isa;
  tensors_.clear();
  steps_.clear();
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const Op &op = program.nodes[i].op;
    tensors_.push_back({nullptr, op.grid.type(), op.channels, plan_.sizes[i]});
  }
  given_ = tensors_[0];
  given_.type = program.nodes[0].op.is<ImageOp>() ? Type::kU8 : Type::kI32;
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const int position = static_cast<int>(i);
    const Node &each = program.nodes[i];
    const bool is_run = can_be_root(each.op) || each.is_stored;
    if (each.root == position && is_run) steps_.push_back(step_of(position));
  }
  return true;
}

Execution::Step Execution::step_of(int position) const {
  Step step;
  step.node = &node(position);
  step.output = tensor(position);
  if (can_be_root(step.node->op)) {
    step.fused = fused_op(*step.node);
    return step;
  }
  if (position == 0) step.inputs.push_back(&given_);
  for (const int input : step.node->op.inputs) {
    step.inputs.push_back(tensor(input));
  }
  return step;
}

FusedOp Execution::fused_op(const Node &root) const {
  std::vector<int> members = {root.root};
  members.insert(members.end(), root.post_ops.begin(), root.post_ops.end());
  FusedOp fused;
  for (const int position : members) {
    PostOp each;
    each.node = &node(position);
    if (each.node->is_stored) each.out = tensor(position);
    const std::vector<int> &inputs = each.op().inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const bool is_inside =
          node(inputs[i]).root == root.root && position != root.root;
      if (is_inside) {
        const auto at = std::find(members.begin(), members.end(), inputs[i]);
        each.inputs[i].index = static_cast<int>(at - members.begin());
      } else {
        each.inputs[i].tensor = tensor(inputs[i]);
      }
    }
    fused.ops.push_back(each);
  }
  const Tensor *out = tensor(root.root);
  fused.size = out->size;
  fused.channels = out->channels;
  assign_buffers(&fused);
  fused.x = root.packed.reads_pixels ? &given_ : tensor(root.op.inputs[0]);
  return fused;
}

// Lets outputs be written to the caller's memory, and lie there until then
// what they donate it to.
void Execution::place_outputs(size_t image, int32_t *const *outputs) {
  for (size_t o = 0; o < program_->outputs.size(); ++o) {
    const int position = program_->outputs[o];
    Tensor &made = tensors_[static_cast<size_t>(position)];
    if (!node(position).is_placed) {
      made.data = outputs[o] + image * made.count();
    }
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (plan_.donors[i] < 0) continue;
    void *donated = tensor(plan_.donors[i])->data;
    tensors_[i].data = line_from(donated) + plan_.offsets[i];
  }
}

void Execution::run(const void *inputs, int32_t count, int32_t *const *outputs,
                    uint8_t *memory, ThreadPool *pool) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    tensors_[i].data = memory + plan_.offsets[i];
  }
  uint8_t *scratch = memory + plan_.peak;
  const size_t bytes = given_.count() * bytes_of(given_.type);
  for (size_t image = 0; image < static_cast<size_t>(count); ++image) {
    // Kernels only read what they are given.
    given_.data = const_cast<uint8_t *>(static_cast<const uint8_t *>(inputs)) +
                  image * bytes;
    place_outputs(image, outputs);
    for (const Step &step : steps_) {
      const Op &op = step.node->op;
      if (step.fused.ops.empty()) {
        op.info->run(op, step.inputs.data(), *step.output, pool);
      } else if (step.node->packed.has_kernel) {
        isa_->run_fused(step.fused, {pool, scratch, plan_.scratch});
      } else {
        run_fused(step.fused);
      }
    }
    for (size_t o = 0; o < program_->outputs.size(); ++o) {
      const Tensor &made = *tensor(program_->outputs[o]);
      int32_t *to = outputs[o] + image * made.count();
      if (made.data != to) widen(made, to);
    }
  }
}

}  // namespace aqd
