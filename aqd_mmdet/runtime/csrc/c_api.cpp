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

// After loading, only interpreters and the work of threads change.
struct aqd_model {
  aqd::Model content;
  std::unique_ptr<aqd::ThreadPool> threads;
  std::unique_ptr<aqd::InterpreterPool> interpreters;
};

namespace {

// Far more than machines have processors; each takes a stack and a place.
constexpr int kMostThreads = 1024;

// Status is aqd_status.
static_assert(int{aqd::kOk} == AQD_OK && int{aqd::kBadFile} == AQD_BAD_FILE &&
              int{aqd::kBadInput} == AQD_BAD_INPUT &&
              int{aqd::kNoMemory} == AQD_NO_MEMORY);

// The item of an index, or null.
template <typename Item>
const Item *item(const std::vector<Item> &items, int index) {
  const size_t i = static_cast<size_t>(index);
  return index >= 0 && i < items.size() ? &items[i] : nullptr;
}

// Returns a status, and tells what is wrong.
int told(int status, const std::string &what, char *message, size_t capacity) {
  if (capacity == 0) return status;
  const size_t count = aqd::whole_letters(what, capacity - 1);
  std::memcpy(message, what.data(), count);
  message[count] = '\0';
  return status;
}

// The set of instructions of a name, or the best one; null if there is none.
const aqd::Isa *find_isa(const char *name) {
  for (const aqd::Isa *each : aqd::available_isas()) {
    if (name == nullptr || std::strcmp(name, each->name) == 0) return each;
  }
  return nullptr;
}

aqd_op_profile told_profile(const aqd::OpProfile &op) {
  const aqd::Tensor &out = *op.step->output;
  return {op.step->node->op.name.c_str(), op.kind, op.nanoseconds, op.macs,
          op.products, op.bytes, op.operand_bits,
          {out.channels, out.size.height, out.size.width}};
}

// Says what is wrong with options; empty if nothing is.
std::string mistake_in(const aqd_options &options) {
  if (options.size != sizeof options) {
    return aqd::refusal("options",
                        "a size of " + aqd::text(sizeof options) + " bytes",
                        aqd::text(options.size));
  }
  if (find_isa(options.isa) == nullptr) {
    std::string names;
    for (const aqd::Isa *each : aqd::available_isas()) {
      names += (names.empty() ? "" : ", ") + std::string(each->name);
    }
    return aqd::refusal("options: isa", "one of this machine's (" + names + ")",
                        aqd::quoted(options.isa));
  }
  if (options.threads >= 1 && options.threads <= kMostThreads) return "";
  return aqd::refusal("options: threads", "1 to " + aqd::text(kMostThreads),
                      aqd::text(options.threads));
}

}  // namespace

int aqd_isa_count(void) {
  return static_cast<int>(aqd::available_isas().size());
}

const char *aqd_isa_name(int index) {
  const std::vector<const aqd::Isa *> sets = aqd::available_isas();
  const aqd::Isa *const *found = item(sets, index);
  return found == nullptr ? nullptr : (*found)->name;
}

int aqd_load(const void *content, size_t length, const aqd_options *options,
             aqd_model **model, char *message, size_t capacity) {
  *model = nullptr;
  const aqd_options plain = {sizeof plain, 1, nullptr};
  const aqd_options &chosen = options == nullptr ? plain : *options;
  std::string mistake = mistake_in(chosen);
  if (!mistake.empty()) return told(AQD_BAD_INPUT, mistake, message, capacity);
  const auto no_memory = [&] {
    return told(AQD_NO_MEMORY, "memory is short", message, capacity);
  };
  std::unique_ptr<aqd_model> made(new (std::nothrow) aqd_model);
  if (made == nullptr) return no_memory();
  const uint8_t *bytes = static_cast<const uint8_t *>(content);
  if (!aqd::load_model(bytes, length, &made->content, &mistake)) {
    return told(AQD_BAD_FILE, mistake, message, capacity);
  }
  const aqd::Isa &isa = *find_isa(chosen.isa);
  made->threads.reset(new (std::nothrow) aqd::ThreadPool(chosen.threads));
  if (made->threads == nullptr) return no_memory();
  made->interpreters.reset(new (std::nothrow) aqd::InterpreterPool(
      made->content, isa, made->threads.get()));
  if (made->interpreters == nullptr) return no_memory();
  aqd::prepare(isa, &made->content);
#ifdef __GLIBC__
  // What was freed lies between what stays: a fifth of what loading took.
  malloc_trim(0);
#endif
  *model = made.release();
  return told(AQD_OK, (*model)->content.refusal, message, capacity);
}

void aqd_free(aqd_model *model) {
  if (model != nullptr && model->threads->is_forked()) {
    // Left alone: threads that are not there cannot be waited for.
    const aqd::ThreadPool *threads = model->threads.release();
    static_cast<void>(threads);
  }
  delete model;
}

int aqd_program_count(const aqd_model *model) {
  return static_cast<int>(model->content.programs.size());
}

int aqd_output_count(const aqd_model *model, int program) {
  const aqd::Program *found = item(model->content.programs, program);
  return found == nullptr ? 0 : static_cast<int>(found->outputs.size());
}

int aqd_output_shape(aqd_model *model, int program, int output, int32_t height,
                     int32_t width, int32_t shape[3]) {
  if (output < 0 || output >= aqd_output_count(model, program)) {
    return AQD_BAD_INPUT;
  }
  const auto tell_shape = [&](aqd::Interpreter *interpreter) {
    const aqd::Tensor *found = interpreter->output(
        static_cast<size_t>(program), static_cast<size_t>(output),
        {height, width});
    if (found == nullptr) return aqd::kBadInput;
    shape[0] = found->channels;
    shape[1] = found->size.height;
    shape[2] = found->size.width;
    return aqd::kOk;
  };
  return model->interpreters->run(tell_shape);
}

int aqd_run(aqd_model *model, int program, const void *input, int32_t count,
            int32_t height, int32_t width, int32_t *const *outputs) {
  if (item(model->content.programs, program) == nullptr || count < 0) {
    return AQD_BAD_INPUT;
  }
  const auto run = [&](aqd::Interpreter *interpreter) {
    return interpreter->run(static_cast<size_t>(program), input, count,
                            {height, width}, outputs);
  };
  return model->interpreters->run(run);
}

int aqd_profile(aqd_model *model, int program, const void *input,
                int32_t height, int32_t width, int32_t *const *outputs,
                aqd_op_profile *ops, size_t size, int32_t capacity,
                int32_t *count) {
  *count = 0;
  if (item(model->content.programs, program) == nullptr ||
      size != sizeof(aqd_op_profile)) {
    return AQD_BAD_INPUT;
  }
  const auto run = [&](aqd::Interpreter *interpreter) {
    std::vector<aqd::OpProfile> all;
    const aqd::Status status =
        interpreter->run(static_cast<size_t>(program), input, 1,
                         {height, width}, outputs, &all);
    *count = static_cast<int32_t>(all.size());
    for (int32_t i = 0; i < std::min(capacity, *count); ++i) {
      ops[i] = told_profile(all[static_cast<size_t>(i)]);
    }
    return status;
  };
  return model->interpreters->run(run);
}

int aqd_detect(aqd_model *model, const uint8_t *pixels, int32_t height,
               int32_t width, ptrdiff_t stride, aqd_detection *found,
               int32_t capacity, int32_t *count) {
  *count = 0;
  std::vector<aqd::Box> all;
  const auto detect = [&](aqd::Interpreter *interpreter) {
    return aqd::detect(interpreter, {pixels, {height, width}, stride}, &all);
  };
  const int status = model->interpreters->run(detect);
  if (status != AQD_OK) return status;
  *count = static_cast<int32_t>(all.size());
  for (int32_t i = 0; i < std::min(capacity, *count); ++i) {
    const aqd::Box &box = all[static_cast<size_t>(i)];
    found[i] = {static_cast<int32_t>(box.edges.x0),
                static_cast<int32_t>(box.edges.y0),
                static_cast<int32_t>(box.edges.x1),
                static_cast<int32_t>(box.edges.y1),
                box.label, static_cast<int32_t>(box.score)};
  }
  return AQD_OK;
}

int32_t aqd_max_detections(const aqd_model *model) {
  if (!model->content.refusal.empty()) return 0;
  const aqd::Detector &detector = model->content.detector;
  return static_cast<int32_t>(detector.has_regions() ? detector.regions.keep
                                                     : detector.post.keep);
}

int32_t aqd_label_count(const aqd_model *model) {
  return static_cast<int32_t>(model->content.detector.labels.size());
}

const char *aqd_label(const aqd_model *model, int32_t index) {
  const std::string *found = item(model->content.detector.labels, index);
  return found == nullptr ? nullptr : found->c_str();
}
