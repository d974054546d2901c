#include "graph/memory_plan.h"

#include <algorithm>

#include "format/limits.h"
#include "kernels/packing.h"

namespace aqd {
namespace {

// Largest arena; more than any machine has.
constexpr int64_t kMaxArena = int64_t{1} << 46;

bool has_pixels(const Size &size) {
  const auto fits = [](int32_t side) {
    return kTensorSide.least <= side && side <= kTensorSide.most;
  };
  return fits(size.height) && fits(size.width);
}

// A tensor in memory, and the last root that reads it.
struct Allocation {
  int64_t start, end;
  int last_use;
};

// Memory of some size, and the tensors that are in it, in their order.
class Memory {
 public:
  explicit Memory(int64_t size) : size_(size) {}

  // Returns where so many bytes are free, or -1 if they are nowhere.
  int64_t allocate(int64_t bytes, int last_use) {
    int64_t at = 0;
    auto next = allocations_.begin();
    for (; next != allocations_.end(); ++next) {
      if (at + bytes <= next->start) break;
      at = std::max(at, next->end);
    }
    if (at + bytes > size_) return -1;
    allocations_.insert(next, {at, at + bytes, last_use});
    return at;
  }

  // Frees what no root behind a position reads.
  void free_until(int position) {
    const auto is_dead = [&](const Allocation &x) {
      return x.last_use <= position;
    };
    allocations_.erase(
        std::remove_if(allocations_.begin(), allocations_.end(), is_dead),
        allocations_.end());
  }

 private:
  int64_t size_;
  std::vector<Allocation> allocations_;
};

int64_t bytes_of(const Op &op, const Size &size) {
  return int64_t{op.channels} * size.height * size.width *
         static_cast<int64_t>(bytes_of(op.grid.type()));
}

// Places tensors while a program's roots are gone through in their order.
class Planner {
 public:
  Planner(const Program &program, Plan *plan)
      : program_(program), plan_(*plan), arena_(kMaxArena) {
    for (const int output : program.outputs) {
      const Node &node = program.nodes[static_cast<size_t>(output)];
      const bool is_known = std::any_of(
          donors_.begin(), donors_.end(),
          [&](const Donor &each) { return each.position == output; });
      if (node.is_placed || is_known) continue;
      const Size &size = plan->sizes[static_cast<size_t>(output)];
      // Its first whole line begins up to a line behind its start.
      const int64_t bytes = bytes_of(node.op, size) - kCacheLine;
      donors_.push_back({output, node.root, Memory(bytes)});
    }
  }

  // Finds a place for a tensor that needs one.
  bool place(int position) {
    const size_t i = static_cast<size_t>(position);
    const Node &node = program_.nodes[i];
    if (!node.is_stored || !node.is_placed) return true;
    const int64_t bytes =
        whole_lines(bytes_of(node.op, plan_.sizes[i]) + kSlack);
    for (Donor &each : donors_) {
      if (node.last_use >= each.root) continue;
      plan_.offsets[i] = each.memory.allocate(bytes, node.last_use);
      plan_.donors[i] = each.position;
      if (plan_.offsets[i] >= 0) return true;
    }
    plan_.donors[i] = -1;
    plan_.offsets[i] = arena_.allocate(bytes, node.last_use);
    plan_.peak = std::max(plan_.peak, plan_.offsets[i] + bytes);
    return plan_.offsets[i] >= 0;
  }

  void free_until(int position) {
    for (Donor &each : donors_) each.memory.free_until(position);
    arena_.free_until(position);
  }

 private:
  // An output of the program and the position of the root that makes it.
  struct Donor {
    int position, root;
    Memory memory;
  };

  const Program &program_;
  Plan &plan_;
  std::vector<Donor> donors_;
  Memory arena_;
};

}  // namespace

bool infer_sizes(const Program &program, Size input, std::vector<Size> *sizes) {
  sizes->assign(program.nodes.size(), {});
  for (size_t i = 0; i < sizes->size(); ++i) {
    const Node &node = program.nodes[i];
    std::vector<Size> inputs;
    for (const int read : node.op.inputs) {
      inputs.push_back((*sizes)[static_cast<size_t>(read)]);
    }
    if (i == 0) inputs.push_back(input);
    Size &size = (*sizes)[i];
    size = node.op.info->size(node.op, inputs);
    if (!has_pixels(size)) return false;
    if (!node.is_pooled()) continue;
    size = windowed(node.pooling, size);
    if (!has_pixels(size)) return false;
  }
  return true;
}

bool make_plan(const Program &program, const Isa &isa, Size input,
               Plan *plan) {
  const size_t count = program.nodes.size();
  plan->input = input;
  plan->offsets.assign(count, 0);
  plan->donors.assign(count, -1);
  plan->peak = plan->scratch = 0;
  if (!infer_sizes(program, input, &plan->sizes)) return false;
  Planner planner(program, plan);
  for (size_t i = 0; i < count; ++i) {
    const int position = static_cast<int>(i);
    const Node &root = program.nodes[i];
    if (root.root != position) continue;
    if (root.packed.has_kernel) {
      const int64_t scratch = scratch_bytes(isa.shape, program, position, *plan);
      if (scratch > kMaxArena) return false;
      plan->scratch = std::max(plan->scratch, scratch);
    }
    if (!planner.place(position)) return false;
    for (const int post_op : root.post_ops) {
      if (!planner.place(post_op)) return false;
    }
    planner.free_until(position);
  }
  return true;
}

}  // namespace aqd
