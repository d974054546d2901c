#include "graph/memory_plan.h"

#include <algorithm>

#include "kernels/isa.h"

namespace aqd {
namespace {

constexpr int64_t kMaxSide = 1 << 16;
// Largest arena; more than any machine has.
constexpr int64_t kMaxArena = int64_t{1} << 46;

int32_t windowed(int64_t n, int64_t k, int64_t s, int64_t p, int64_t d) {
  const int64_t reach = n + 2 * p - d * (k - 1) - 1;
  return reach < 0 ? 0 : static_cast<int32_t>(reach / s + 1);
}

int32_t sliced(int64_t n, int64_t offset, int64_t step) {
  return offset >= n ? 0 : static_cast<int32_t>((n - offset + step - 1) / step);
}

// Size of what becomes of a convolution's sums.
Size pooled(const Pooling &by, Size sums) {
  if (by.kernel.height == 0) return sums;
  return {windowed(sums.height, by.kernel.height, by.stride.height,
                   by.padding.height, 1),
          windowed(sums.width, by.kernel.width, by.stride.width,
                   by.padding.width, 1)};
}

// Size of an operator's output; sizes are those of all before it.
Size output_size(const Program &program, int position, const Size *sizes) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  const Size &x = sizes[op.inputs[0]];
  switch (op.kind) {
    case Kind::kConvolution:
    case Kind::kMaxPool:
      return pooled(op.pooling, windowed(op, x));
    case Kind::kMean:
      return {1, 1};
    case Kind::kUpsample:
      return sizes[op.inputs[1]];
    case Kind::kSlice:
      return {sliced(x.height, op.padding.height, op.stride.height),
              sliced(x.width, op.padding.width, op.stride.width)};
    default:
      return x;
  }
}

bool has_pixels(const Size &size) {
  return 0 < size.height && size.height <= kMaxSide && 0 < size.width &&
         size.width <= kMaxSide;
}

// Whether an operator can take inputs of these sizes.
bool fits(const Program &program, int position, const Size *sizes) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  const Size &size = sizes[position];
  bool right = has_pixels(size);
  if (op.pooling.kernel.height > 0) {
    right = right && has_pixels(windowed(op, sizes[op.inputs[0]]));
  }
  if (!right || op.kind == Kind::kUpsample) return right;
  const bool gate = op.kind == Kind::kMultiply;
  for (const int input : op.inputs) {
    const Size &found = sizes[input];
    const bool one = gate && same(found, {1, 1});
    if (op.inputs.size() > 1 && !one && !same(found, size)) return false;
  }
  return true;
}

struct Living {
  int64_t start, end;
  int last_use;
};

// Memory of some size, and the tensors that live in it in their order.
struct Region {
  int64_t size;
  std::vector<Living> living;

  // Returns where so many bytes are free, or -1 if they are nowhere.
  int64_t place(int64_t need, int last_use) {
    int64_t at = 0;
    auto before = living.begin();
    for (; before != living.end(); ++before) {
      if (at + need <= before->start) break;
      at = std::max(at, before->end);
    }
    if (at + need > size) return -1;
    living.insert(before, {at, at + need, last_use});
    return at;
  }

  void forget(int position) {
    const auto dead = [&](const Living &x) { return x.last_use <= position; };
    living.erase(std::remove_if(living.begin(), living.end(), dead),
                 living.end());
  }
};

int64_t bytes_of(const Op &op, const Size &size) {
  return int64_t{op.channels} * size.height * size.width *
         static_cast<int64_t>(bytes_of(op.grid.type()));
}

// Where tensors lie while a program runs.
class Placer {
 public:
  Placer(const Program &program, Plan *plan)
      : program_(program), plan_(plan), own_{kMaxArena, {}} {
    for (const int output : program.outputs) {
      const Op &op = program.ops[static_cast<size_t>(output)];
      const bool is_known = std::any_of(
          lent_.begin(), lent_.end(),
          [&](const Lent &each) { return each.position == output; });
      if (op.is_placed || is_known) continue;
      const Size &size = plan->sizes[static_cast<size_t>(output)];
      // It may begin anywhere in a line.
      const int64_t bytes = bytes_of(op, size) - kCacheLine;
      lent_.push_back({output, op.head, {bytes, {}}});
    }
  }

  // Finds a place for a tensor that needs one.
  bool place(int position) {
    const size_t i = static_cast<size_t>(position);
    const Op &op = program_.ops[i];
    if (!op.is_stored || !op.is_placed) return true;
    const int64_t need = whole_lines(bytes_of(op, plan_->sizes[i]) + kSlack);
    for (Lent &each : lent_) {
      if (op.last_use >= each.head) continue;
      plan_->offsets[i] = each.region.place(need, op.last_use);
      plan_->lenders[i] = each.position;
      if (plan_->offsets[i] >= 0) return true;
    }
    plan_->lenders[i] = -1;
    plan_->offsets[i] = own_.place(need, op.last_use);
    plan_->peak = std::max(plan_->peak, plan_->offsets[i] + need);
    return plan_->offsets[i] >= 0;
  }

  // Frees what nothing behind a position reads.
  void forget(int position) {
    for (Lent &each : lent_) each.region.forget(position);
    own_.forget(position);
  }

 private:
  // The memory of an output that is made at a head.
  struct Lent {
    int position, head;
    Region region;
  };

  const Program &program_;
  Plan *plan_;
  std::vector<Lent> lent_;
  Region own_;
};

}  // namespace

Size windowed(const Op &op, Size x) {
  return {windowed(x.height, op.kernel.height, op.stride.height,
                   op.padding.height, op.dilation.height),
          windowed(x.width, op.kernel.width, op.stride.width, op.padding.width,
                   op.dilation.width)};
}

bool make_plan(const Program &program, const Isa &isa, Size input,
               Plan *plan) {
  const size_t count = program.ops.size();
  plan->input = input;
  plan->sizes.assign(count, {});
  plan->offsets.assign(count, 0);
  plan->peak = plan->scratch = 0;
  plan->lenders.assign(count, -1);
  for (size_t i = 0; i < count; ++i) {
    const int position = static_cast<int>(i);
    plan->sizes[i] = i == 0 ? input
                            : output_size(program, position, plan->sizes.data());
    if (!fits(program, position, plan->sizes.data())) return false;
  }
  Placer placer(program, plan);
  for (size_t i = 0; i < count; ++i) {
    const int position = static_cast<int>(i);
    const Op &head = program.ops[i];
    if (head.head != position) continue;
    if (head.is_packed) {
      const int64_t scratch = isa.scratch(program, position, *plan);
      if (scratch > kMaxArena) return false;
      plan->scratch = std::max(plan->scratch, scratch);
    }
    if (!placer.place(position)) return false;
    for (const int follower : head.followers) {
      if (!placer.place(follower)) return false;
    }
    placer.forget(position);
  }
  return true;
}

}  // namespace aqd
