#include "interpreter.h"

#include <algorithm>

#include "aqd.h"
#include "graph/schedule.h"
#include "kernels/reference.h"

namespace aqd {
namespace {

// Frees codes of weights that vector kernels hold in an order of theirs.
void drop_codes(Program *program) {
  std::vector<bool> are_read(program->weights.size(), false);
  for (const Node &node : program->nodes) {
    if (!node.op.is<Convolution>() || node.packed.has_kernel) continue;
    const Weights *weights = node.op.as<Convolution>().weights;
    are_read[static_cast<size_t>(weights - program->weights.data())] = true;
  }
  for (size_t i = 0; i < are_read.size(); ++i) {
    if (!are_read[i]) std::vector<int8_t>().swap(program->weights[i].codes);
  }
}

// Where the next line of a cache begins.
uint8_t *line_from(void *memory) {
  const uintptr_t line = static_cast<uintptr_t>(kCacheLine);
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory) + line - 1;
  return reinterpret_cast<uint8_t *>(start / line * line);
}

// A fused operator as kernels take it; tensors are those of all operators.
FusedOp fused_op(const Program &program, const Node &root,
                 const std::vector<Tensor> &tensors) {
  FusedOp fused;
  std::vector<int> members = {root.root};
  members.insert(members.end(), root.post_ops.begin(), root.post_ops.end());
  for (const int position : members) {
    const Node &node = program.nodes[static_cast<size_t>(position)];
    const std::vector<int> &inputs = node.op.inputs;
    PostOp made;
    made.node = &node;
    if (node.is_stored) made.out = &tensors[static_cast<size_t>(position)];
    for (size_t i = 0; i < 2 && i < inputs.size(); ++i) {
      const size_t read = static_cast<size_t>(inputs[i]);
      if (program.nodes[read].root != root.root || position == root.root) {
        made.inputs[i].tensor = &tensors[read];
        continue;
      }
      const auto maker = std::find(members.begin(), members.end(), inputs[i]);
      made.inputs[i].index = static_cast<int>(maker - members.begin());
    }
    fused.ops.push_back(made);
  }
  const Tensor &first = tensors[static_cast<size_t>(root.root)];
  fused.size = first.size;
  fused.channels = first.channels;
  fused.x = &tensors[static_cast<size_t>(root.op.inputs[0])];
  return fused;
}

// A program, planned for a size, in its memory: the arena's tensors, and behind
// them what threads need while they run.
class Run {
 public:
  Run(const Program &program, const Plan &plan, const Isa &isa, ThreadPool *pool,
      uint8_t *arena)
      : program_(program), plan_(plan), isa_(isa), pool_(pool),
        scratch_(arena + plan.peak), tensors_(program.nodes.size()) {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const Op &op = program.nodes[i].op;
      tensors_[i] = {arena + plan.offsets[i], op.grid.type(), op.channels,
                     plan.sizes[i]};
    }
    given_ = tensors_[0];
    given_.type =
        program.nodes[0].op.is<ImageOp>() ? Type::kU8 : Type::kI32;
  }

  // Runs it for one input of a batch.
  void run(const void *input, size_t image, int32_t *const *outputs) {
    const size_t bytes = given_.count() * bytes_of(given_.type);
    // Kernels only read what they are given.
    given_.data = const_cast<uint8_t *>(static_cast<const uint8_t *>(input)) +
                  image * bytes;
    place_outputs(image, outputs);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (program_.nodes[i].root == static_cast<int>(i)) run_root(i);
    }
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      const Tensor &made = tensors_[static_cast<size_t>(program_.outputs[o])];
      int32_t *to = outputs[o] + image * made.count();
      if (made.data != to) widen(made, to);
    }
  }

 private:
  // Lets outputs be written to the caller's memory, and lie there until then
  // what they lend it to.
  void place_outputs(size_t image, int32_t *const *outputs) {
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      const size_t position = static_cast<size_t>(program_.outputs[o]);
      Tensor &made = tensors_[position];
      if (!program_.nodes[position].is_placed) {
        made.data = outputs[o] + image * made.count();
      }
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (plan_.lenders[i] < 0) continue;
      void *lent = tensors_[static_cast<size_t>(plan_.lenders[i])].data;
      tensors_[i].data = line_from(lent) + plan_.offsets[i];
    }
  }

  void run_root(size_t position) {
    const Node &node = program_.nodes[position];
    if (can_be_root(node.op)) {
      FusedOp fused = fused_op(program_, node, tensors_);
      if (node.packed.reads_pixels) fused.x = &given_;
      if (!node.packed.has_kernel) return run_fused(fused);
      return isa_.run_fused(fused, scratch_, plan_.scratch, pool_);
    }
    if (!node.is_stored) return;
    inputs_.clear();
    if (position == 0) inputs_.push_back(&given_);
    for (const int input : node.op.inputs) {
      inputs_.push_back(&tensors_[static_cast<size_t>(input)]);
    }
    run_op(node.op, inputs_.data(), tensors_[position], pool_);
  }

  const Program &program_;
  const Plan &plan_;
  const Isa &isa_;
  ThreadPool *const pool_;
  uint8_t *const scratch_;
  std::vector<Tensor> tensors_;  // what operators make
  Tensor given_;
  std::vector<const Tensor *> inputs_;
};

}  // namespace

void prepare(const Isa &isa, Model *model) {
  for (Program &each : model->programs) {
    isa.prepare(&each);
    drop_codes(&each);
  }
}

const Plan *Interpreter::plan_of(size_t program, Size size) const {
  const Program &found = model_.programs[program];
  if (size.height <= 0 || size.width <= 0 ||
      size.height % found.stride != 0 || size.width % found.stride != 0) {
    return nullptr;
  }
  Plan &plan = workspace_.plans[program];
  if (same(plan.input, size) || make_plan(found, isa_, size, &plan)) {
    return &plan;
  }
  plan.input = {};
  return nullptr;
}

int Interpreter::output_shape(size_t program, size_t output, Size input,
                              int32_t shape[3]) const {
  const Plan *plan = plan_of(program, input);
  if (plan == nullptr) return AQD_BAD_INPUT;
  const Program &found = model_.programs[program];
  const size_t position = static_cast<size_t>(found.outputs[output]);
  shape[0] = found.nodes[position].op.channels;
  shape[1] = plan->sizes[position].height;
  shape[2] = plan->sizes[position].width;
  return AQD_OK;
}

int Interpreter::run(size_t program, const void *input, int32_t count,
                     Size size, int32_t *const *outputs) const {
  const Plan *plan = plan_of(program, size);
  if (plan == nullptr) return AQD_BAD_INPUT;
  // A line more, so that tensors can begin where one does.
  const int64_t need = plan->peak + plan->scratch * pool_.threads() +
                       kCacheLine + kSlack;
  uint8_t *arena = workspace_.arena.get(static_cast<size_t>(need));
  if (arena == nullptr) return AQD_NO_MEMORY;
  Run run(model_.programs[program], *plan, isa_, &pool_, line_from(arena));
  for (int32_t n = 0; n < count; ++n) {
    run.run(input, static_cast<size_t>(n), outputs);
  }
  return AQD_OK;
}

}  // namespace aqd
