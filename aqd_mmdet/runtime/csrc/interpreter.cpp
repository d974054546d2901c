#include "interpreter.h"

#include "kernels/packing.h"

namespace aqd {
namespace {

// Frees codes of weights that kernels of the set have packed.
void drop_codes(Program *program) {
  std::vector<bool> are_read(program->weights.size(), false);
  for (const Node &node : program->nodes) {
    if (!node.op.is<Convolution>() || node.packed.has_kernel) continue;
    const Weights *weights = node.conv().weights;
    are_read[static_cast<size_t>(weights - program->weights.data())] = true;
  }
  for (size_t i = 0; i < are_read.size(); ++i) {
    if (!are_read[i]) std::vector<int8_t>().swap(program->weights[i].codes);
  }
}

}  // namespace

void prepare(const Isa &isa, Model *model) {
  for (Program &each : model->programs) {
    if (isa.run_fused != nullptr) pack_program(isa, &each);
    drop_codes(&each);
  }
}

Execution *Interpreter::execution_of(size_t program, Size size) const {
  const Program &found = model_.programs[program];
  if (size.height <= 0 || size.width <= 0 ||
      size.height % found.stride != 0 || size.width % found.stride != 0) {
    return nullptr;
  }
  Execution &last = workspace_.executions[program];
  return last.prepare(found, isa_, size) ? &last : nullptr;
}

Status Interpreter::output_shape(size_t program, size_t output, Size input,
                                 int32_t shape[3]) const {
  const Execution *execution = execution_of(program, input);
  if (execution == nullptr) return Status::kBadInput;
  const Program &found = model_.programs[program];
  const size_t position = static_cast<size_t>(found.outputs[output]);
  const Size &size = execution->plan().sizes[position];
  shape[0] = found.nodes[position].op.channels;
  shape[1] = size.height;
  shape[2] = size.width;
  return Status::kOk;
}

Status Interpreter::run(size_t program, const void *inputs, int32_t count,
                        Size size, int32_t *const *outputs) const {
  Execution *execution = execution_of(program, size);
  if (execution == nullptr) return Status::kBadInput;
  // A line more, so that tensors can begin where one does.
  const int64_t bytes = execution->memory(pool_.threads()) + kCacheLine;
  uint8_t *arena = workspace_.arena.get(static_cast<size_t>(bytes));
  if (arena == nullptr) return Status::kNoMemory;
  execution->run(inputs, count, outputs, line_from(arena), &pool_);
  return Status::kOk;
}

}  // namespace aqd
