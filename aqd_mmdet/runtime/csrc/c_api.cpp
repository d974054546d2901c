// The C API.

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "aqd.h"
#include "detect/detect.h"
#include "interpreter.h"

// All that changes after loading are the workspaces of calls, and the threads'
// work.
struct aqd_model {
  const aqd::Isa *isa = nullptr;
  aqd::Model content;
  std::unique_ptr<aqd::ThreadPool> pool;
  std::unique_ptr<aqd::Workspaces> workspaces;
};

namespace {

const aqd::Program *program_of(const aqd_model *model, int index) {
  const auto &programs = model->content.programs;
  const bool right = index >= 0 && static_cast<size_t>(index) < programs.size();
  return right ? &programs[static_cast<size_t>(index)] : nullptr;
}

void tell(const std::string &what, char *message, size_t capacity) {
  if (capacity == 0) return;
  const size_t count = std::min(capacity - 1, what.size());
  std::memcpy(message, what.data(), count);
  message[count] = '\0';
}

// Calls what takes an interpreter, with a workspace of its own; gives a status.
template <typename Work>
int interpret(aqd_model *model, const Work &work) {
  const aqd::Lease lease(model->workspaces.get());
  if (lease.get() == nullptr) return AQD_NO_MEMORY;
  return work(aqd::Interpreter(model->content, *model->isa, model->pool.get(),
                               lease.get()));
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
  if (!aqd::load_model(bytes, length, &made->content, &what)) {
    tell(what, message, capacity);
    return AQD_BAD_FILE;
  }
  made->pool.reset(new (std::nothrow) aqd::ThreadPool(threads));
  if (made->pool == nullptr) return AQD_NO_MEMORY;
  made->workspaces.reset(new (std::nothrow) aqd::Workspaces(
      made->pool.get(), made->content.programs.size()));
  if (made->workspaces == nullptr) return AQD_NO_MEMORY;
  aqd::prepare(*made->isa, &made->content);
#ifdef __GLIBC__
  // What was freed lies between what stays: a fifth of what loading took.
  malloc_trim(0);
#endif
  tell(made->content.refusal, message, capacity);
  *model = made.release();
  return AQD_OK;
}

void aqd_free(aqd_model *model) {
  if (model != nullptr && model->pool->is_forked()) {
    // Left alone: threads that are not there cannot be waited for.
    model->workspaces.release()->forget();
    static_cast<void>(model->pool.release());
  }
  delete model;
}

int aqd_program_count(const aqd_model *model) {
  return static_cast<int>(model->content.programs.size());
}

int aqd_output_count(const aqd_model *model, int program) {
  const aqd::Program *found = program_of(model, program);
  return found == nullptr ? 0 : static_cast<int>(found->outputs.size());
}

int aqd_output_shape(aqd_model *model, int program, int output, int32_t height,
                     int32_t width, int32_t shape[3]) {
  if (output < 0 || output >= aqd_output_count(model, program)) {
    return AQD_BAD_INPUT;
  }
  return interpret(model, [&](const aqd::Interpreter &interpreter) {
    return interpreter.output_shape(static_cast<size_t>(program),
                                    static_cast<size_t>(output),
                                    {height, width}, shape);
  });
}

int aqd_run(aqd_model *model, int program, const void *input, int32_t count,
            int32_t height, int32_t width, int32_t *const *outputs) {
  if (program_of(model, program) == nullptr || count < 0) return AQD_BAD_INPUT;
  return interpret(model, [&](const aqd::Interpreter &interpreter) {
    return interpreter.run(static_cast<size_t>(program), input, count,
                           {height, width}, outputs);
  });
}

int aqd_detect(aqd_model *model, const uint8_t *pixels, int32_t height,
               int32_t width, ptrdiff_t stride, aqd_detection *found,
               int32_t capacity, int32_t *count) {
  *count = 0;
  return interpret(model, [&](const aqd::Interpreter &interpreter) {
    return aqd::detect(interpreter, {pixels, {height, width}, stride}, found,
                       capacity, count);
  });
}

int32_t aqd_max_detections(const aqd_model *model) {
  return aqd::max_detections(model->content);
}

int32_t aqd_label_count(const aqd_model *model) {
  return static_cast<int32_t>(model->content.detector.labels.size());
}

const char *aqd_label(const aqd_model *model, int32_t index) {
  const auto &labels = model->content.detector.labels;
  const bool right = index >= 0 && static_cast<size_t>(index) < labels.size();
  return right ? labels[static_cast<size_t>(index)].c_str() : nullptr;
}
