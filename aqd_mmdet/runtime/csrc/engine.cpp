// The C API: memory for a size of image, and the operators in their order.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "aqd.h"
#include "avx512.h"
#include "kernels.h"
#include "program.h"

namespace aqd {
namespace {

constexpr int64_t kMaxSide = 1 << 16;
// Largest arena; more than any machine has.
constexpr int64_t kMaxArena = int64_t{1} << 46;
constexpr int64_t kCacheLine = 64;

int32_t windowed(int64_t n, int64_t k, int64_t s, int64_t p, int64_t d) {
  const int64_t reach = n + 2 * p - d * (k - 1) - 1;
  return reach < 0 ? 0 : static_cast<int32_t>(reach / s + 1);
}

int32_t sliced(int64_t n, int64_t offset, int64_t step) {
  return offset >= n ? 0 : static_cast<int32_t>((n - offset + step - 1) / step);
}

bool same(const Size &a, const Size &b) {
  return a.height == b.height && a.width == b.width;
}

// Where the tensors of a program lie for one size of its input.
struct Plan {
  Size input;
  std::vector<Size> sizes;
  std::vector<int64_t> offsets;
  int64_t peak = 0;
  int64_t scratch = 0;  // bytes that the largest operator needs
};

// Whether an operator can take inputs of these sizes.
bool fits(const Program &program, int position, const Size *sizes) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  const Size &size = sizes[position];
  const bool right = 0 < size.height && size.height <= kMaxSide &&
                     0 < size.width && size.width <= kMaxSide;
  if (!right || op.kind == Kind::kUpsample) return right;
  const bool gate = op.kind == Kind::kMultiply;
  for (const int input : op.inputs) {
    const Size &found = sizes[input];
    const bool one = gate && same(found, {1, 1});
    if (op.inputs.size() > 1 && !one && !same(found, size)) return false;
  }
  return true;
}

bool make_plan(const Program &program, Size input, Plan *plan) {
  struct Living {
    int64_t start, end;
    int last_use;
  };
  const size_t count = program.ops.size();
  plan->input = input;
  plan->sizes.assign(count, {});
  plan->offsets.assign(count, 0);
  plan->peak = plan->scratch = 0;
  std::vector<Living> living;  // by their start
  for (size_t i = 0; i < count; ++i) {
    const Op &op = program.ops[i];
    const int position = static_cast<int>(i);
    plan->sizes[i] = i == 0 ? input
                            : output_size(program, position, plan->sizes.data());
    if (!fits(program, position, plan->sizes.data())) return false;
    if (op.kind == Kind::kConvolution) {
      const size_t read = static_cast<size_t>(op.inputs[0]);
      const int64_t scratch =
          scratch_avx512(op, program.ops[read], plan->sizes[read]);
      if (scratch > kMaxArena) return false;
      plan->scratch = std::max(plan->scratch, scratch);
    }
    if (op.is_fused) continue;
    const int64_t bytes = int64_t{op.channels} * plan->sizes[i].height *
                              plan->sizes[i].width *
                              static_cast<int64_t>(bytes_of(op.grid.type())) +
                          kSlack;
    const int64_t need = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    int64_t at = 0;
    auto before = living.begin();
    for (; before != living.end(); ++before) {
      if (at + need <= before->start) break;
      at = std::max(at, before->end);
    }
    if (at + need > kMaxArena) return false;
    living.insert(before, {at, at + need, op.last_use});
    plan->offsets[i] = at;
    plan->peak = std::max(plan->peak, at + need);
    const auto dead = [&](const Living &x) { return x.last_use <= position; };
    living.erase(std::remove_if(living.begin(), living.end(), dead),
                 living.end());
  }
  return true;
}

}  // namespace

Size output_size(const Program &program, int position, const Size *sizes) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  const Size &x = sizes[op.inputs[0]];
  switch (op.kind) {
    case Kind::kConvolution:
    case Kind::kMaxPool:
      return {windowed(x.height, op.kernel.height, op.stride.height,
                       op.padding.height, op.dilation.height),
              windowed(x.width, op.kernel.width, op.stride.width,
                       op.padding.width, op.dilation.width)};
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

}  // namespace aqd

struct aqd_model {
  aqd::Model model;
  std::vector<aqd::Plan> plans;  // the last of each program
  std::unique_ptr<uint8_t[]> arena;
  int64_t arena_size = 0;
  std::unique_ptr<aqd::Pool> pool;
};

namespace {

const aqd::Program *program_of(const aqd_model *model, int index) {
  const auto &programs = model->model.programs;
  const bool right = index >= 0 && static_cast<size_t>(index) < programs.size();
  return right ? &programs[static_cast<size_t>(index)] : nullptr;
}

void convolve(const aqd::Op &op, const aqd::Op *requantize,
              const aqd::Tensor &x, const aqd::Tensor &out, uint8_t *scratch,
              aqd::Pool *pool) {
  if (op.is_packed) {
    aqd::convolve_avx512(op, requantize, x, out, scratch, pool);
  } else {
    aqd::convolve(op, requantize, x, out);
  }
}

enum class Isa { kPortable, kAvx512, kBest };

// Which instructions to use: as AQD_ISA says, or the best that there are.
bool choose_isa(Isa *isa, std::string *message) {
  const bool vectors = aqd::has_avx512();
  const char *asked = std::getenv("AQD_ISA");
  *isa = vectors ? Isa::kBest : Isa::kPortable;
  if (asked == nullptr) return true;
  if (std::strcmp(asked, "portable") == 0) {
    *isa = Isa::kPortable;
  } else if (vectors && std::strcmp(asked, "avx512") == 0) {
    *isa = Isa::kAvx512;
  } else {
    *message = std::string("AQD_ISA=") + asked + " is not portable" +
               (vectors ? " or avx512" : ", all that this machine has");
    return false;
  }
  return true;
}

void tell(const std::string &what, char *message, size_t capacity) {
  if (capacity == 0) return;
  const size_t count = std::min(capacity - 1, what.size());
  std::memcpy(message, what.data(), count);
  message[count] = '\0';
}

// The plan of a program for an input's size, the last one if it is the same;
// null if the program does not take it.
const aqd::Plan *plan_of(aqd_model *model, int index, aqd::Size size) {
  const aqd::Program *program = program_of(model, index);
  if (program == nullptr || size.height <= 0 || size.width <= 0 ||
      size.height % program->stride != 0 || size.width % program->stride != 0) {
    return nullptr;
  }
  aqd::Plan &plan = model->plans[static_cast<size_t>(index)];
  if (aqd::same(plan.input, size)) return &plan;
  if (aqd::make_plan(*program, size, &plan)) return &plan;
  plan.input = {};
  return nullptr;
}

}  // namespace

int aqd_load(const void *content, size_t length, int threads,
             aqd_model **model, char *message, size_t capacity) {
  *model = nullptr;
  std::unique_ptr<aqd_model> made(new (std::nothrow) aqd_model);
  if (made == nullptr) return AQD_NO_MEMORY;
  std::string what;
  Isa isa = Isa::kPortable;
  if (!choose_isa(&isa, &what)) {
    tell(what, message, capacity);
    return AQD_BAD_INPUT;
  }
  const uint8_t *bytes = static_cast<const uint8_t *>(content);
  if (!aqd::load_model(bytes, length, &made->model, &what)) {
    tell(what, message, capacity);
    return AQD_BAD_FILE;
  }
  made->pool.reset(new (std::nothrow) aqd::Pool(threads));
  if (made->pool == nullptr) return AQD_NO_MEMORY;
  made->plans.resize(made->model.programs.size());
  if (isa != Isa::kPortable) {
    for (aqd::Program &each : made->model.programs) {
      aqd::prepare_avx512(&each, isa == Isa::kBest);
    }
  }
  *model = made.release();
  return AQD_OK;
}

void aqd_free(aqd_model *model) {
  if (model != nullptr && model->pool != nullptr && model->pool->is_forked()) {
    // Left alone: workers that are not there cannot be waited for.
    static_cast<void>(model->pool.release());
  }
  delete model;
}

int aqd_program_count(const aqd_model *model) {
  return static_cast<int>(model->model.programs.size());
}

int aqd_output_count(const aqd_model *model, int program) {
  const aqd::Program *found = program_of(model, program);
  return found == nullptr ? 0 : static_cast<int>(found->outputs.size());
}

int aqd_output_shape(aqd_model *model, int program, int output, int32_t height,
                     int32_t width, int32_t shape[3]) {
  const aqd::Plan *plan = plan_of(model, program, {height, width});
  if (plan == nullptr || output < 0 ||
      output >= aqd_output_count(model, program)) {
    return AQD_BAD_INPUT;
  }
  const aqd::Program &found = *program_of(model, program);
  const size_t position =
      static_cast<size_t>(found.outputs[static_cast<size_t>(output)]);
  shape[0] = found.ops[position].channels;
  shape[1] = plan->sizes[position].height;
  shape[2] = plan->sizes[position].width;
  return AQD_OK;
}

int aqd_run(aqd_model *model, int program, const void *input, int32_t count,
            int32_t height, int32_t width, int32_t *const *outputs) {
  const aqd::Plan *planned = plan_of(model, program, {height, width});
  if (planned == nullptr || count < 0) return AQD_BAD_INPUT;
  const aqd::Plan &plan = *planned;
  const aqd::Program *found = program_of(model, program);
  // Behind the tensors what is given, of at most four bytes a code; later
  // what operators need while they run.
  const int64_t first = int64_t{found->ops[0].channels} * height * width * 4;
  const int64_t need = plan.peak + std::max(first, plan.scratch);
  if (need > model->arena_size) {
    model->arena.reset();
    model->arena_size = 0;
    // A line more, so that tensors can begin where one does.
    const size_t bytes =
        static_cast<size_t>(need + aqd::kCacheLine + aqd::kSlack);
    model->arena.reset(new (std::nothrow) uint8_t[bytes]);
    if (model->arena == nullptr) return AQD_NO_MEMORY;
    model->arena_size = need;
  }
  const uintptr_t line = static_cast<uintptr_t>(aqd::kCacheLine);
  const uintptr_t start =
      (reinterpret_cast<uintptr_t>(model->arena.get()) + line - 1) & ~(line - 1);
  uint8_t *arena = reinterpret_cast<uint8_t *>(start);
  std::vector<aqd::Tensor> tensors(found->ops.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const aqd::Op &op = found->ops[i];
    tensors[i] = {arena + plan.offsets[i], op.grid.type(), op.channels,
                  plan.sizes[i]};
  }
  // Channels innermost, in the type that it is given in: behind the arena.
  uint8_t *scratch = arena + plan.peak;
  aqd::Tensor inner = tensors[0];
  inner.data = scratch;
  aqd::Tensor given = inner;
  given.type = found->ops[0].kind == aqd::Kind::kImage ? aqd::Type::kU8
                                                       : aqd::Type::kI32;
  inner.type = given.type;
  std::vector<const aqd::Tensor *> inputs;
  for (int32_t n = 0; n < count; ++n) {
    const size_t bytes = given.count() * aqd::bytes_of(given.type);
    const uint8_t *pixels = static_cast<const uint8_t *>(input);
    // Kernels only read what they are given.
    given.data = const_cast<uint8_t *>(pixels) + static_cast<size_t>(n) * bytes;
    aqd::to_inner(given, inner);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const aqd::Op &op = found->ops[i];
      if (op.is_fused) continue;
      const bool fuses = op.convolution >= 0;
      if (fuses || op.kind == aqd::Kind::kConvolution) {
        const aqd::Op &source =
            fuses ? found->ops[static_cast<size_t>(op.convolution)] : op;
        const aqd::Tensor &x = tensors[static_cast<size_t>(source.inputs[0])];
        convolve(source, fuses ? &op : nullptr, x, tensors[i], scratch,
                 model->pool.get());
        continue;
      }
      if (!op.packed.empty()) {
        const aqd::Tensor &x = tensors[static_cast<size_t>(op.inputs[0])];
        aqd::requantize_avx512(op, x, tensors[i], model->pool.get());
        continue;
      }
      inputs.clear();
      if (i == 0) inputs.push_back(&inner);
      for (const int position : op.inputs) {
        inputs.push_back(&tensors[static_cast<size_t>(position)]);
      }
      aqd::run_op(op, inputs.data(), tensors[i]);
    }
    for (size_t o = 0; o < found->outputs.size(); ++o) {
      const aqd::Tensor &made = tensors[static_cast<size_t>(found->outputs[o])];
      aqd::to_outer(made, outputs[o] + static_cast<size_t>(n) * made.count());
    }
  }
  return AQD_OK;
}
