// The C API, and the operators in their order.

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "aqd.h"
#include "detect.h"
#include "isa.h"
#include "kernels.h"
#include "plan.h"
#include "schedule.h"

struct aqd_model {
  const aqd::Isa *isa = nullptr;
  aqd::Model model;
  std::vector<aqd::Plan> plans;  // the last of each program
  std::unique_ptr<uint8_t[]> arena;
  int64_t arena_size = 0;
  std::unique_ptr<aqd::Pool> pool;
  aqd::Workspace workspace;
};

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
      const auto maker = std::find(members.begin(), members.end(), op.inputs[i]);
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

}  // namespace

Parts parts_of(aqd_model *model) {
  return {model->model, *model->pool, model->workspace};
}

const Model &content_of(const aqd_model *model) { return model->model; }

}  // namespace aqd

namespace {

const aqd::Program *program_of(const aqd_model *model, int index) {
  const auto &programs = model->model.programs;
  const bool right = index >= 0 && static_cast<size_t>(index) < programs.size();
  return right ? &programs[static_cast<size_t>(index)] : nullptr;
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
  if (aqd::make_plan(*program, *model->isa, size, &plan)) return &plan;
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
  made->isa = aqd::choose_isa(&what);
  if (made->isa == nullptr) {
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
  for (aqd::Program &each : made->model.programs) {
    made->isa->prepare(&each);
    aqd::drop_codes(&each);
  }
#ifdef __GLIBC__
  // What was freed lies between what stays: a fifth of what loading took.
  malloc_trim(0);
#endif
  tell(made->model.refusal, message, capacity);
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
  // Behind the tensors what threads need while they run.
  const int64_t need = plan.peak + plan.scratch * model->pool->threads();
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
  uint8_t *arena = aqd::line_from(model->arena.get());
  std::vector<aqd::Tensor> tensors(found->ops.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const aqd::Op &op = found->ops[i];
    tensors[i] = {arena + plan.offsets[i], op.grid.type(), op.channels,
                  plan.sizes[i]};
  }
  uint8_t *scratch = arena + plan.peak;
  aqd::Tensor given = tensors[0];
  given.type = found->ops[0].kind == aqd::Kind::kImage ? aqd::Type::kU8
                                                       : aqd::Type::kI32;
  std::vector<const aqd::Tensor *> inputs;
  for (int32_t n = 0; n < count; ++n) {
    const size_t image = static_cast<size_t>(n);
    const size_t bytes = given.count() * aqd::bytes_of(given.type);
    // Kernels only read what they are given.
    given.data = const_cast<uint8_t *>(static_cast<const uint8_t *>(input)) +
                 image * bytes;
    for (size_t o = 0; o < found->outputs.size(); ++o) {
      const size_t position = static_cast<size_t>(found->outputs[o]);
      aqd::Tensor &made = tensors[position];
      if (!found->ops[position].is_placed) {
        made.data = outputs[o] + image * made.count();
      }
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (plan.lenders[i] < 0) continue;
      void *lent = tensors[static_cast<size_t>(plan.lenders[i])].data;
      tensors[i].data = aqd::line_from(lent) + plan.offsets[i];
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      const aqd::Op &op = found->ops[i];
      if (op.head != static_cast<int>(i)) continue;
      if (aqd::can_lead(op)) {
        aqd::Group group = aqd::group_of(*found, op, tensors);
        if (op.reads_pixels) group.x = &given;
        if (op.is_packed) {
          model->isa->run_group(group, scratch, plan.scratch,
                                model->pool.get());
        } else {
          aqd::run_group(group);
        }
        continue;
      }
      if (!op.is_stored) continue;
      inputs.clear();
      if (i == 0) inputs.push_back(&given);
      for (const int position : op.inputs) {
        inputs.push_back(&tensors[static_cast<size_t>(position)]);
      }
      aqd::run_op(op, inputs.data(), tensors[i], model->pool.get());
    }
    for (size_t o = 0; o < found->outputs.size(); ++o) {
      const aqd::Tensor &made = tensors[static_cast<size_t>(found->outputs[o])];
      int32_t *to = outputs[o] + image * made.count();
      if (made.data != to) aqd::widen(made, to);
    }
  }
  return AQD_OK;
}
