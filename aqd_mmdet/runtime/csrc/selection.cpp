#include "selection.h"

#include <algorithm>

namespace aqd {
namespace {

// What is needed of a tensor.
struct Need {
  bool is_all = false;
  const PixelSet *pixels = nullptr;  // null for none

  bool is_none() const { return !is_all && pixels == nullptr; }
};

// Works from the last step back to the first one behind the choice.
class PixelSelector {
 public:
  PixelSelector(const Program &program, std::vector<Tensor> *tensors,
                std::deque<PixelSet> *sets)
      : program_(program), tensors_(*tensors), sets_(*sets),
        needs_(program.nodes.size()) {}

  void want(const std::vector<const PixelSet *> &wanted) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      const size_t output = program_.outputs[i];
      if (wanted[i] == nullptr) {
        needs_[output].is_all = true;
      } else {
        add(output, *wanted[i]);
      }
    }
  }

  // Limits a step to what later ones need of its outputs.
  void limit(Step *step) {
    Need need;
    for (const size_t position : step->node->members) {
      join(needs_[position], &need);
    }
    const Size size = step->output->size;
    if (!need.is_all && need.pixels == nullptr) {
      sets_.emplace_back(size);
      need.pixels = &sets_.back();
    }
    // Where most pixels are needed, the others cost less than runs.
    const int64_t plane = int64_t{size.height} * size.width;
    if (need.is_all || 4 * need.pixels->count() > 3 * plane ||
        (need.pixels->count() > 0 && !can_select(*step))) {
      for (const size_t position : step->node->members) need_inputs(position);
      return;
    }
    if (is_depthwise(*step)) need.pixels = &aligned(*need.pixels);
    step->fused.wanted = need.pixels;
    for (const size_t position : step->node->members) {
      tensors_[position].made = need.pixels;
      need_inputs(position, *need.pixels);
    }
  }

 private:
  const Node &node(size_t position) const { return program_.nodes[position]; }

  // Whether kernels can leave pixels out. Codes that were left out can be
  // anything, for which no table has a value.
  static bool can_select(const Step &step) {
    const std::vector<PostOp> &ops = step.fused.ops;
    const auto looks_up = [](const PostOp &op) {
      return op.op().is<Lookup>();
    };
    const auto reads_tensor = [](const PostOp &op) {
      return std::any_of(op.inputs, op.inputs + op.arity(),
                         [](const auto &x) { return x.tensor != nullptr; });
    };
    return !ops.empty() && !step.node->is_pooled() &&
           !step.node->packed.reads_pixels &&
           (std::none_of(ops.begin(), ops.end(), looks_up) ||
            std::none_of(ops.begin(), ops.end(), reads_tensor));
  }

  static bool is_depthwise(const Step &step) {
    return step.node->op.is<Convolution>() && step.node->conv().groups > 1;
  }

  // Runs of a depthwise convolution begin where a group of columns may
  // (ColumnGroups).
  const PixelSet &aligned(const PixelSet &pixels) {
    constexpr int64_t kColumns = 4;
    sets_.emplace_back(pixels.size());
    PixelSet &made = sets_.back();
    for (int64_t row = 0; row < pixels.size().height; ++row) {
      pixels.each_run(row, [&](int64_t first, int64_t end) {
        made.add_run(row, first / kColumns * kColumns, end);
      });
    }
    return made;
  }

  // Adds to a need what another one is.
  void join(const Need &other, Need *need) {
    need->is_all = need->is_all || other.is_all;
    if (other.pixels == nullptr) return;
    if (need->pixels == nullptr) {
      need->pixels = other.pixels;
      return;
    }
    sets_.push_back(*need->pixels);
    sets_.back().add(*other.pixels);
    need->pixels = &sets_.back();
  }

  void add(size_t position, const PixelSet &pixels) {
    join({false, &pixels}, &needs_[position]);
  }

  // All that an operator reads of other steps.
  void need_inputs(size_t position) {
    for (const size_t input : node(position).op.inputs) {
      needs_[input].is_all = true;
    }
  }

  // What an operator reads of other steps for some pixels.
  void need_inputs(size_t position, const PixelSet &pixels) {
    const Node &reader = node(position);
    for (const size_t input : reader.op.inputs) {
      if (node(input).root == reader.root) continue;
      if (reader.op.is<Upsample>()) {
        needs_[input].is_all = true;
      } else if (reader.op.is<Convolution>()) {
        sets_.push_back(pixels.read_by(reader.conv().window,
                                       tensors_[input].size));
        add(input, sets_.back());
      } else {
        add(input, pixels);
      }
    }
  }

  const Program &program_;
  std::vector<Tensor> &tensors_;
  std::deque<PixelSet> &sets_;  // which are never moved
  std::vector<Need> needs_;
};

}  // namespace

std::deque<PixelSet> select_pixels(const Program &program,
                                   const std::vector<const PixelSet *> &wanted,
                                   size_t first, std::vector<Step> *steps,
                                   std::vector<Tensor> *tensors) {
  std::deque<PixelSet> sets;
  PixelSelector selector(program, tensors, &sets);
  selector.want(wanted);
  for (size_t i = steps->size(); i-- > first;) selector.limit(&(*steps)[i]);
  return sets;
}

}  // namespace aqd
