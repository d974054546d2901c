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
  for (const Op &op : program->ops) {
    if (op.weights == nullptr || op.is_packed) continue;
    are_read[static_cast<size_t>(op.weights - program->weights.data())] = true;
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

// A group as kernels take it; tensors are those of all operators.
Group group_of(const Program &program, const Op &head,
               const std::vector<Tensor> &tensors) {
  Group group;
  std::vector<int> members = {head.head};
  members.insert(members.end(), head.followers.begin(), head.followers.end());
  for (const int position : members) {
    const Op &op = program.ops[static_cast<size_t>(position)];
    Stage stage;
    stage.op = &op;
    if (op.is_stored) stage.out = &tensors[static_cast<size_t>(position)];
    for (size_t i = 0; i < 2 && i < op.inputs.size(); ++i) {
      const size_t read = static_cast<size_t>(op.inputs[i]);
      if (program.ops[read].head != head.head || position == head.head) {
        stage.inputs[i].tensor = &tensors[read];
        continue;
      }
      const auto maker =
          std::find(members.begin(), members.end(), op.inputs[i]);
      stage.inputs[i].stage = static_cast<int>(maker - members.begin());
    }
    group.stages.push_back(stage);
  }
  const Tensor &first = tensors[static_cast<size_t>(head.head)];
  group.size = first.size;
  group.channels = first.channels;
  group.x = &tensors[static_cast<size_t>(head.inputs[0])];
  return group;
}

// A program, planned for a size, in its memory: the arena's tensors, and behind
// them what threads need while they run.
class Run {
 public:
  Run(const Program &program, const Plan &plan, const Isa &isa, ThreadPool *pool,
      uint8_t *arena)
      : program_(program), plan_(plan), isa_(isa), pool_(pool),
        scratch_(arena + plan.peak), tensors_(program.ops.size()) {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const Op &op = program.ops[i];
      tensors_[i] = {arena + plan.offsets[i], op.grid.type(), op.channels,
                     plan.sizes[i]};
    }
    given_ = tensors_[0];
    given_.type =
        program.ops[0].kind == Kind::kImage ? Type::kU8 : Type::kI32;
  }

  // Runs it for one input of a batch.
  void run(const void *input, size_t image, int32_t *const *outputs) {
    const size_t bytes = given_.count() * bytes_of(given_.type);
    // Kernels only read what they are given.
    given_.data = const_cast<uint8_t *>(static_cast<const uint8_t *>(input)) +
                  image * bytes;
    place_outputs(image, outputs);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (program_.ops[i].head == static_cast<int>(i)) run_head(i);
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
      if (!program_.ops[position].is_placed) {
        made.data = outputs[o] + image * made.count();
      }
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (plan_.lenders[i] < 0) continue;
      void *lent = tensors_[static_cast<size_t>(plan_.lenders[i])].data;
      tensors_[i].data = line_from(lent) + plan_.offsets[i];
    }
  }

  void run_head(size_t position) {
    const Op &op = program_.ops[position];
    if (can_lead(op)) {
      Group group = group_of(program_, op, tensors_);
      if (op.reads_pixels) group.x = &given_;
      if (!op.is_packed) return run_group(group);
      return isa_.run_group(group, scratch_, plan_.scratch, pool_);
    }
    if (!op.is_stored) return;
    inputs_.clear();
    if (position == 0) inputs_.push_back(&given_);
    for (const int input : op.inputs) {
      inputs_.push_back(&tensors_[static_cast<size_t>(input)]);
    }
    run_op(op, inputs_.data(), tensors_[position], pool_);
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
  shape[0] = found.ops[position].channels;
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
