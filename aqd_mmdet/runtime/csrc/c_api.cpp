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
#include "format/reader.h"
#include "interpreter.h"

// After loading, only the workspaces and the work of the threads change.
struct aqd_model {
  const aqd::Isa *isa = nullptr;
  aqd::Model content;
  std::unique_ptr<aqd::ThreadPool> pool;
  std::unique_ptr<aqd::Workspaces> workspaces;
};

namespace {

using aqd::Status;

// Status is aqd_status.
constexpr int code(Status status) { return static_cast<int>(status); }

static_assert(code(Status::kOk) == AQD_OK &&
              code(Status::kBadFile) == AQD_BAD_FILE &&
              code(Status::kBadInput) == AQD_BAD_INPUT &&
              code(Status::kNoMemory) == AQD_NO_MEMORY);

// Whether a list has an item of an index.
template <typename Items>
bool has(const Items &items, int index) {
  return index >= 0 && static_cast<size_t>(index) < items.size();
}

const aqd::Program *program_of(const aqd_model *model, int index) {
  const auto &programs = model->content.programs;
  return has(programs, index) ? &programs[static_cast<size_t>(index)] : nullptr;
}

void tell(const std::string &what, char *message, size_t capacity) {
  if (capacity == 0) return;
  const size_t count = std::min(capacity - 1, what.size());
  std::memcpy(message, what.data(), count);
  message[count] = '\0';
}

// Calls what takes an interpreter, with a workspace of its own.
template <typename Work>
int interpret(aqd_model *model, const Work &work) {
  const aqd::Lease lease(model->workspaces.get());
  if (lease.get() == nullptr) return AQD_NO_MEMORY;
  return code(work(aqd::Interpreter(model->content, *model->isa,
                                    model->pool.get(), lease.get())));
}

// What a caller chose; the message is empty if it can be had.
struct Options {
  int threads = 1;
  const aqd::Isa *isa = nullptr;
  std::string message;
};

Options options_of(const aqd_options *given) {
  Options options;
  const std::vector<const aqd::Isa *> sets = aqd::available_isas();
  options.isa = sets[0];
  if (given == nullptr) return options;
  if (given->size != sizeof *given) {
    options.message = aqd::refusal(
        "options", "a size of " + aqd::text(sizeof *given) + " bytes",
        aqd::text(given->size));
    return options;
  }
  options.threads = given->threads;
  if (given->threads < 1) {
    options.message = aqd::refusal("options: threads", "1 or more",
                                   aqd::text(given->threads));
  }
  if (given->isa == nullptr) return options;
  std::string names;
  for (const aqd::Isa *each : sets) {
    if (std::strcmp(given->isa, each->name) == 0) {
      options.isa = each;
      return options;
    }
    names += (names.empty() ? "" : ", ") + std::string(each->name);
  }
  options.message =
      aqd::refusal("options: isa", "one of this machine's (" + names + ")",
                   aqd::quoted(given->isa));
  return options;
}

}  // namespace

int aqd_isa_count(void) {
  return static_cast<int>(aqd::available_isas().size());
}

const char *aqd_isa_name(int index) {
  const std::vector<const aqd::Isa *> sets = aqd::available_isas();
  return has(sets, index) ? sets[static_cast<size_t>(index)]->name : nullptr;
}

int aqd_load(const void *content, size_t length, const aqd_options *options,
             aqd_model **model, char *message, size_t capacity) {
  *model = nullptr;
  std::unique_ptr<aqd_model> made(new (std::nothrow) aqd_model);
  if (made == nullptr) return AQD_NO_MEMORY;
  const Options chosen = options_of(options);
  if (!chosen.message.empty()) {
    tell(chosen.message, message, capacity);
    return AQD_BAD_INPUT;
  }
  const uint8_t *bytes = static_cast<const uint8_t *>(content);
  std::string mistake;
  if (!aqd::load_model(bytes, length, &made->content, &mistake)) {
    tell(mistake, message, capacity);
    return AQD_BAD_FILE;
  }
  made->isa = chosen.isa;
  made->pool.reset(new (std::nothrow) aqd::ThreadPool(chosen.threads));
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
    const aqd::ThreadPool *pool = model->pool.release();
    static_cast<void>(pool);
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
  std::vector<aqd::Detection> all;
  const int status = interpret(model, [&](const aqd::Interpreter &interpreter) {
    return aqd::detect(interpreter, {pixels, {height, width}, stride}, &all);
  });
  if (status != AQD_OK) return status;
  *count = static_cast<int32_t>(all.size());
  for (int32_t i = 0; i < std::min(capacity, *count); ++i) {
    const aqd::Detection &each = all[static_cast<size_t>(i)];
    found[i] = {each.x0, each.y0, each.x1, each.y1, each.label, each.score};
  }
  return AQD_OK;
}

int32_t aqd_max_detections(const aqd_model *model) {
  return aqd::max_detections(model->content);
}

int32_t aqd_label_count(const aqd_model *model) {
  return static_cast<int32_t>(model->content.detector.labels.size());
}

const char *aqd_label(const aqd_model *model, int32_t index) {
  const auto &labels = model->content.detector.labels;
  if (!has(labels, index)) return nullptr;
  return labels[static_cast<size_t>(index)].c_str();
}
