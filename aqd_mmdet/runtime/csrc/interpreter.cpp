#include "interpreter.h"

#include <algorithm>
#include <new>

#include "kernels/isa.h"
#include "kernels/rounding.h"
#include "selection.h"

namespace aqd {

// A program that is planned for a size of its input.
class Execution {
 public:
  Execution(const Program &program, const Isa &isa, RunOrder order)
      : program_(program), isa_(isa), order_(std::move(order)) {}
  Execution(Execution &&) = default;

  // Plans the program, if it is not planned for this size. Returns whether it
  // takes an input of this size.
  bool plan_for(Size input) {
    if (!tensors_.empty() && same(plan_.input, input)) return true;
    tensors_.clear();
    steps_.clear();
    if (input.height <= 0 || input.width <= 0 ||
        input.height % program_.stride != 0 ||
        input.width % program_.stride != 0 ||
        !make_plan(program_, order_, isa_, input, &plan_)) {
      return false;
    }
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      const Op &op = program_.nodes[i].op;
      tensors_.push_back(
          {nullptr, op.grid.type(), op.channels, plan_.sizes[i]});
    }
    Tensor given = tensors_[0];
    given.type = node(0).op.is<ImageOp>() ? Type::kU8 : Type::kI32;
    tensors_.push_back(given);
    for (size_t time = 0; time < order_.roots.size(); ++time) {
      if (time == order_.choice) choice_ = steps_.size();
      const size_t i = order_.roots[time];
      const Node &each = program_.nodes[i];
      Step step = {&each, {}, {}, &tensors_[i]};
      if (can_be_root(each.op)) {
        step.fused = fused_op(each);
      } else if (each.is_stored) {
        if (i == 0) step.inputs.push_back(&tensors_.back());
        for (const size_t x : each.op.inputs) step.inputs.push_back(tensor(x));
      } else {
        continue;
      }
      steps_.push_back(std::move(step));
    }
    if (order_.choice == order_.roots.size()) choice_ = steps_.size();
    return true;
  }

  const Tensor *output(size_t index) const {
    return tensor(program_.outputs[index]);
  }

  // Runs it on inputs, each after the other.
  Status run(const void *inputs, int32_t count, int32_t *const *outputs,
             Buffer *arena, ThreadPool *pool,
             std::vector<OpProfile> *profile) {
    if (profile != nullptr) *profile = profile_of_steps();
    for (size_t image = 0; image < static_cast<size_t>(count); ++image) {
      if (!place(inputs, image, outputs, arena, pool)) return kNoMemory;
      if (profile == nullptr) {
        run_steps(0, steps_.size());
      } else {
        run_timed(profile);
      }
    }
    return kOk;
  }

  // Runs what the choice needs.
  Status begin(const void *input, int32_t *const *outputs, Buffer *arena,
               ThreadPool *pool) {
    if (!place(input, 0, outputs, arena, pool)) return kNoMemory;
    run_steps(0, choice_);
    return kOk;
  }

  // Runs the rest, for some pixels of each output.
  void finish(const std::vector<const PixelSet *> &wanted) {
    const std::deque<PixelSet> sets =
        select_pixels(program_, wanted, choice_, &steps_, &tensors_);
    run_steps(choice_, steps_.size());
    for (Tensor &each : tensors_) each.made = nullptr;
    for (Step &step : steps_) step.fused.wanted = nullptr;
  }

 private:
  // Finds memory for the tensors of an image, the i-th of some.
  bool place(const void *inputs, size_t i, int32_t *const *outputs,
             Buffer *arena, ThreadPool *pool) {
    uint8_t *memory =
        arena->get(plan_.peak + plan_.scratch * pool->threads() + kSlack);
    if (memory == nullptr) return false;
    workers_ = {pool, memory + plan_.peak, plan_.scratch};
    Tensor &given = tensors_.back();
    // Kernels only read what they are given.
    uint8_t *input = static_cast<uint8_t *>(const_cast<void *>(inputs));
    given.data = input + i * given.count() * bytes_of(given.type);
    outputs_.clear();
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      outputs_.push_back(outputs[o] + i * output(o)->count());
    }
    place_tensors(memory);
    return true;
  }

  // Runs the steps from the first on, to before the end.
  void run_steps(size_t first, size_t end) const {
    for (size_t i = first; i < end; ++i) run_step(steps_[i]);
    widen_outputs(first, end);
  }

  // Copies outputs of few bits, which steps made elsewhere.
  void widen_outputs(size_t first, size_t end) const {
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      const Tensor &made = *output(o);
      if (made.data == outputs_[o]) continue;
      const Node *root = &node(node(program_.outputs[o]).root);
      for (size_t i = first; i < end; ++i) {
        if (steps_[i].node == root) widen(made, outputs_[o]);
      }
    }
  }

  void run_step(const Step &step) const {
    const Op &op = step.node->op;
    const PixelSet *wanted = step.fused.wanted;
    if (wanted != nullptr && wanted->count() == 0) return;
    if (step.fused.ops.empty()) {
      op.info->run(op, step.inputs.data(), *step.output, workers_.pool);
    } else if (step.node->packed.has_kernel) {
      const RoundsDown scope;
      isa_.run_fused(step.fused, workers_);
    } else {
      run_fused(step.fused);
    }
  }

  std::vector<OpProfile> profile_of_steps() const {
    std::vector<OpProfile> made;
    for (const Step &each : steps_) made.push_back(profile_of(each));
    return made;
  }

  // Each operator ends when the last thread is done with it.
  void run_timed(std::vector<OpProfile> *profile) const {
    int64_t begin = now();
    for (OpProfile &each : *profile) {
      run_step(*each.step);
      const int64_t end = now();
      each.nanoseconds += end - begin;
      begin = end;
    }
    widen_outputs(0, steps_.size());
  }

  const Node &node(size_t position) const { return program_.nodes[position]; }
  const Tensor *tensor(size_t position) const { return &tensors_[position]; }

  FusedOp fused_op(const Node &root) const {
    const std::vector<size_t> &members = root.members;
    FusedOp fused;
    for (const size_t position : members) {
      PostOp each;
      each.node = &node(position);
      if (each.node->is_stored) each.out = tensor(position);
      const std::vector<size_t> &inputs = each.op().inputs;
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (node(inputs[i]).root == root.root && position != root.root) {
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
    fused.x = root.packed.reads_pixels ? &tensors_.back()
                                       : tensor(root.op.inputs[0]);
    return fused;
  }

  // Outputs are written to the caller's memory. Until then it has the tensors
  // that they donate it to.
  void place_tensors(uint8_t *memory) {
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      tensors_[program_.outputs[o]].data = outputs_[o];
    }
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      if (!program_.nodes[i].is_placed) continue;
      const size_t donor = plan_.donors[i];
      uint8_t *from = donor == kArena ? memory : line_from(tensor(donor)->data);
      tensors_[i].data = from + plan_.offsets[i];
    }
  }

  const Program &program_;
  const Isa &isa_;
  const RunOrder order_;
  Plan plan_;
  std::vector<Tensor> tensors_;  // of all operators; what the first one reads
  std::vector<Step> steps_;      // with pointers to tensors
  size_t choice_ = 0;            // how many of these the choice needs
  // Of the image that is run: what threads work with, and the caller's memory.
  Workers workers_ = {};
  std::vector<int32_t *> outputs_;
};

uint8_t *Buffer::get(int64_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = 0;
    if (bytes > PTRDIFF_MAX - kCacheLine) return nullptr;
    const size_t with_line = static_cast<size_t>(bytes + kCacheLine);
    data_.reset(new (std::nothrow) uint8_t[with_line]);
    if (data_ != nullptr) bytes_ = bytes;
  }
  return data_ == nullptr ? nullptr : line_from(data_.get());
}

Interpreter::Interpreter(const Model &model, const Isa &isa, ThreadPool *pool)
    : model_(model), pool_(*pool) {
  executions_.reserve(model.programs.size());
  for (const Program &each : model.programs) {
    executions_.emplace_back(each, isa, scheduled_order(each));
  }
  if (!model.refusal.empty()) return;
  const Program &network = model.programs[0];
  choosing_ = std::make_unique<Execution>(
      network, isa, choice_order(network, choice_of(model.detector.post)));
}

Interpreter::~Interpreter() = default;

const Tensor *Interpreter::output(size_t program, size_t index, Size input) {
  Execution &execution = executions_[program];
  return execution.plan_for(input) ? execution.output(index) : nullptr;
}

Status Interpreter::begin(const void *image, Size size,
                          int32_t *const *outputs) {
  if (!choosing_->plan_for(size)) return kBadInput;
  return choosing_->begin(image, outputs, &arena_, &pool_);
}

void Interpreter::finish(const std::vector<const PixelSet *> &wanted) {
  choosing_->finish(wanted);
}

Status Interpreter::run(size_t program, const void *inputs, int32_t count,
                        Size size, int32_t *const *outputs,
                        std::vector<OpProfile> *profile) {
  Execution &execution = executions_[program];
  if (!execution.plan_for(size)) return kBadInput;
  return execution.run(inputs, count, outputs, &arena_, &pool_, profile);
}

Interpreter *InterpreterPool::take() {
  for (std::atomic<Interpreter *> &each : free_) {
    Interpreter *found = each.exchange(nullptr);
    if (found != nullptr) return found;
  }
  return new (std::nothrow) Interpreter(model_, isa_, &pool_);
}

void InterpreterPool::give_back(Interpreter *interpreter) {
  for (std::atomic<Interpreter *> &each : free_) {
    Interpreter *none = nullptr;
    if (each.compare_exchange_strong(none, interpreter)) return;
  }
  delete interpreter;
}

void prepare(const Isa &isa, Model *model) {
  for (Program &program : model->programs) {
    if (isa.run_fused != nullptr) pack_program(isa, &program);
    // Codes of weights that only kernels of the set read are packed by now.
    std::vector<bool> are_read(program.weights.size(), false);
    for (const Node &node : program.nodes) {
      if (!node.op.is<Convolution>() || node.packed.has_kernel) continue;
      const Weights *weights = node.conv().weights;
      are_read[static_cast<size_t>(weights - program.weights.data())] = true;
    }
    for (size_t i = 0; i < are_read.size(); ++i) {
      if (!are_read[i]) std::vector<int8_t>().swap(program.weights[i].codes);
    }
  }
}

}  // namespace aqd
