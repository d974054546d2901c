#include "plan.h"

#include <algorithm>

#include "isa.h"

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

// Finds a place for a tensor that needs one among those that live, in their
// order.
bool place(const Program &program, int position, std::vector<Living> *living,
           Plan *plan) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  if (!op.is_stored || !op.is_placed) return true;
  const Size &size = plan->sizes[static_cast<size_t>(position)];
  const int64_t bytes = int64_t{op.channels} * size.height * size.width *
                            static_cast<int64_t>(bytes_of(op.grid.type())) +
                        kSlack;
  const int64_t need = whole_lines(bytes);
  int64_t at = 0;
  auto before = living->begin();
  for (; before != living->end(); ++before) {
    if (at + need <= before->start) break;
    at = std::max(at, before->end);
  }
  if (at + need > kMaxArena) return false;
  living->insert(before, {at, at + need, op.last_use});
  plan->offsets[static_cast<size_t>(position)] = at;
  plan->peak = std::max(plan->peak, at + need);
  return true;
}

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
  std::vector<Living> living;  // by their start
  for (size_t i = 0; i < count; ++i) {
    const int position = static_cast<int>(i);
    plan->sizes[i] = i == 0 ? input
                            : output_size(program, position, plan->sizes.data());
    if (!fits(program, position, plan->sizes.data())) return false;
  }
  for (size_t i = 0; i < count; ++i) {
    const int position = static_cast<int>(i);
    const Op &head = program.ops[i];
    if (head.head != position) continue;
    if (head.is_packed) {
      const int64_t scratch = isa.scratch(program, position, *plan);
      if (scratch > kMaxArena) return false;
      plan->scratch = std::max(plan->scratch, scratch);
    }
    if (!place(program, position, &living, plan)) return false;
    for (const int follower : head.followers) {
      if (!place(program, follower, &living, plan)) return false;
    }
    const auto dead = [&](const Living &x) { return x.last_use <= position; };
    living.erase(std::remove_if(living.begin(), living.end(), dead),
                 living.end());
  }
  return true;
}

}  // namespace aqd
