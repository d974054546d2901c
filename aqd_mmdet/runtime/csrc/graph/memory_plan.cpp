#include "graph/memory_plan.h"

#include <algorithm>

#include "format/limits.h"
#include "kernels/isa.h"

namespace aqd {
namespace {

// Largest arena; more than any machine has.
constexpr int64_t kMaxArena = int64_t{1} << 46;

bool has_pixels(const Size &size) {
  return kTensorSide.hold(size.height) && kTensorSide.hold(size.width);
}

int64_t bytes_of(const Op &op, const Size &size) {
  return int64_t{op.channels} * size.height * size.width *
         static_cast<int64_t>(bytes_of(op.grid.type()));
}

// When the roots of a program run, from 0 on.
struct Times {
  std::vector<size_t> made;      // of each operator
  std::vector<size_t> last_use;  // of what it makes

  Times(const Program &program, const RunOrder &order)
      : made(program.nodes.size()), last_use(program.nodes.size()) {
    for (size_t time = 0; time < order.roots.size(); ++time) {
      for (const size_t member : program.nodes[order.roots[time]].members) {
        made[member] = last_use[member] = time;
      }
    }
    for (size_t i = 0; i < program.nodes.size(); ++i) {
      const Op &op = program.nodes[i].op;
      // The second input of an upsampling only gives a size.
      const size_t count = op.is<Upsample>() ? 1 : op.inputs.size();
      for (size_t k = 0; k < count; ++k) {
        last_use[op.inputs[k]] = std::max(last_use[op.inputs[k]], made[i]);
      }
    }
    for (const size_t output : program.outputs) {
      last_use[output] = order.roots.size();
    }
  }
};

// Memory that tensors share: that of an output while it is not needed, or the
// arena.
class Memory {
 public:
  // It is there from one time on, to before another.
  Memory(size_t donor, size_t begin, size_t end, int64_t size)
      : donor_(donor), begin_(begin), end_(end), size_(size) {}

  size_t donor() const { return donor_; }
  int64_t peak() const { return peak_; }

  // Returns where so many bytes are free, from the time when they are made
  // until they are last read; -1 if they are nowhere.
  int64_t allocate(int64_t bytes, size_t made, size_t last_use) {
    if (made < begin_ || last_use >= end_) return -1;
    const auto is_dead = [&](const Allocation &x) { return x.last_use < made; };
    allocations_.erase(
        std::remove_if(allocations_.begin(), allocations_.end(), is_dead),
        allocations_.end());
    int64_t at = 0;
    auto next = allocations_.begin();
    for (; next != allocations_.end(); ++next) {
      if (at + bytes <= next->start) break;
      at = std::max(at, next->end);
    }
    if (at + bytes > size_) return -1;
    allocations_.insert(next, {at, at + bytes, last_use});
    peak_ = std::max(peak_, at + bytes);
    return at;
  }

 private:
  struct Allocation {
    int64_t start, end;
    size_t last_use;
  };

  size_t donor_, begin_, end_;
  int64_t size_, peak_ = 0;
  std::vector<Allocation> allocations_;  // in the order of their places
};

// The memory of outputs that donate it, then the arena.
std::vector<Memory> memories_of(const Program &program, const RunOrder &order,
                                const Times &times, const Plan &plan) {
  std::vector<Memory> memories;
  for (const size_t output : program.outputs) {
    const Node &node = program.nodes[output];
    const bool is_known = std::any_of(
        memories.begin(), memories.end(),
        [&](const Memory &each) { return each.donor() == output; });
    if (node.is_placed || is_known) continue;
    // Its first whole line begins up to a line behind its start.
    const int64_t bytes = bytes_of(node.op, plan.sizes[output]) - kCacheLine;
    memories.emplace_back(output, 0, times.made[output], bytes);
    const auto &free = order.free;
    if (std::find(free.begin(), free.end(), output) != free.end()) {
      memories.emplace_back(output, order.choice, SIZE_MAX, bytes);
    }
  }
  memories.emplace_back(kArena, 0, SIZE_MAX, kMaxArena);
  return memories;
}

// Finds a place for a tensor if it needs one. Returns false if there is none.
bool place(const Node &node, size_t position, const Times &times,
           std::vector<Memory> *memories, Plan *plan) {
  if (!node.is_stored || !node.is_placed) return true;
  const int64_t bytes =
      whole_lines(bytes_of(node.op, plan->sizes[position]) + kSlack);
  for (Memory &each : *memories) {
    plan->offsets[position] =
        each.allocate(bytes, times.made[position], times.last_use[position]);
    plan->donors[position] = each.donor();
    if (plan->offsets[position] >= 0) return true;
  }
  return false;
}

}  // namespace

bool infer_sizes(const Program &program, Size input, std::vector<Size> *sizes) {
  sizes->assign(program.nodes.size(), {});
  for (size_t i = 0; i < sizes->size(); ++i) {
    const Node &node = program.nodes[i];
    std::vector<Size> inputs;
    for (const size_t read : node.op.inputs) inputs.push_back((*sizes)[read]);
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

bool make_plan(const Program &program, const RunOrder &order, const Isa &isa,
               Size input, Plan *plan) {
  const size_t count = program.nodes.size();
  plan->input = input;
  plan->offsets.assign(count, 0);
  plan->donors.assign(count, kArena);
  plan->scratch = 0;
  if (!infer_sizes(program, input, &plan->sizes)) return false;
  const Times times(program, order);
  std::vector<Memory> memories = memories_of(program, order, times, *plan);
  for (const size_t i : order.roots) {
    const Node &root = program.nodes[i];
    if (root.packed.has_kernel) {
      const int64_t scratch = scratch_bytes(isa.shape, program, i, *plan);
      if (scratch > kMaxArena) return false;
      plan->scratch = std::max(plan->scratch, scratch);
    }
    for (const size_t member : root.members) {
      if (!place(program.nodes[member], member, times, &memories, plan)) {
        return false;
      }
    }
  }
  plan->peak = memories.back().peak();
  return true;
}

}  // namespace aqd
