#include "detect.h"

#include <algorithm>

#include "curves.h"
#include "postprocess.h"
#include "preprocess.h"
#include "regions.h"

namespace aqd {
namespace {

// Of all maps: so that their bytes can be counted.
constexpr int64_t kMaxCodes = PTRDIFF_MAX / 8;
constexpr int64_t kLine = 16;  // codes in a line of the cache

// Runs a program; its outputs are in the workspace until the next call.
int run_program(aqd_model *model, int program, const void *input, Size size,
                std::vector<Map> *maps) {
  maps->resize(static_cast<size_t>(aqd_output_count(model, program)));
  int64_t total = 0;
  std::vector<int64_t> starts;
  for (size_t i = 0; i < maps->size(); ++i) {
    int32_t shape[3];
    const int status =
        aqd_output_shape(model, program, static_cast<int>(i), size.height,
                         size.width, shape);
    if (status != AQD_OK) return status;
    Map &map = (*maps)[i];
    map.channels = shape[0];
    map.size = {shape[1], shape[2]};
    starts.push_back(total);
    // Each begins with a line of the cache.
    total += (map.pixels() * map.channels + kLine - 1) / kLine * kLine;
    if (total > kMaxCodes) return AQD_NO_MEMORY;
  }
  int32_t *codes =
      parts_of(model).workspace.maps.get(static_cast<size_t>(total + kLine));
  if (codes == nullptr) return AQD_NO_MEMORY;
  while (reinterpret_cast<uintptr_t>(codes) % (4 * kLine) != 0) ++codes;
  std::vector<int32_t *> outputs;
  for (size_t i = 0; i < maps->size(); ++i) {
    outputs.push_back(codes + starts[i]);
    (*maps)[i].codes = outputs[i];
  }
  return aqd_run(model, program, input, 1, size.height, size.width,
                 outputs.data());
}

// Runs the program of a stage, which makes one code of each channel.
int run_stage(void *context, size_t stage, const int32_t *averages,
              int32_t count, int32_t *const *outputs) {
  aqd_model *model = static_cast<aqd_model *>(context);
  const int program = static_cast<int>(stage) + 1;
  const int32_t bins =
      parts_of(model).model.detector.regions.stages[stage].bins;
  for (int output = 0; output < 2; ++output) {
    int32_t shape[3];
    const int status =
        aqd_output_shape(model, program, output, bins, bins, shape);
    if (status != AQD_OK) return status;
    if (shape[1] != 1 || shape[2] != 1) return AQD_BAD_INPUT;
  }
  return aqd_run(model, program, averages, count, bins, bins, outputs);
}

// An edge in the image that was given.
int32_t rescaled(int64_t edge, int32_t to, int32_t from) {
  const int64_t wide = floored(2 * edge * from + to, 2 * int64_t{to});
  return static_cast<int32_t>(std::clamp<int64_t>(wide, INT32_MIN, INT32_MAX));
}

int detect(aqd_model *model, const Pixels &image, std::vector<Box> *boxes,
           Size *fitted) {
  const Parts parts = parts_of(model);
  const Detector &detector = parts.model.detector;
  if (!parts.model.refusal.empty()) return AQD_BAD_FILE;
  if (!is_image(image)) return AQD_BAD_INPUT;
  *fitted = fitted_size(detector.pre, image.size);
  const Size size = bordered_size(detector.pre, *fitted,
                                  parts.model.programs[0].stride);
  uint8_t *pixels = parts.workspace.image.get(
      static_cast<size_t>(size.height) * static_cast<size_t>(size.width) *
      kColours);
  if (pixels == nullptr) return AQD_NO_MEMORY;
  prepare(detector.pre, image, *fitted, size, &parts.pool, pixels);
  std::vector<Map> maps;
  const int status = run_program(model, 0, pixels, size, &maps);
  if (status != AQD_OK) return status;
  if (!are_maps(detector.post, maps)) return AQD_BAD_INPUT;
  *boxes = find_boxes(detector, maps, *fitted, &parts.pool);
  if (!detector.has_regions()) return AQD_OK;
  return find_in_regions(detector, maps, *fitted, {run_stage, model},
                         &parts.pool, boxes);
}

}  // namespace
}  // namespace aqd

int aqd_detect(aqd_model *model, const uint8_t *pixels, int32_t height,
               int32_t width, ptrdiff_t stride, aqd_detection *found,
               int32_t capacity, int32_t *count) {
  *count = 0;
  std::vector<aqd::Box> boxes;
  aqd::Size fitted;
  const int status =
      aqd::detect(model, {pixels, {height, width}, stride}, &boxes, &fitted);
  if (status != AQD_OK) return status;
  const aqd::Detector &detector = aqd::content_of(model).detector;
  *count = static_cast<int32_t>(boxes.size());
  for (int32_t i = 0; i < std::min(capacity, *count); ++i) {
    const aqd::Box &box = boxes[static_cast<size_t>(i)];
    const int64_t score = detector.has_regions()
                              ? box.rank
                              : aqd::shown(detector.post.scores, box.rank);
    found[i] = {aqd::rescaled(box.edges.x0, fitted.width, width),
                aqd::rescaled(box.edges.y0, fitted.height, height),
                aqd::rescaled(box.edges.x1, fitted.width, width),
                aqd::rescaled(box.edges.y1, fitted.height, height),
                box.label,
                static_cast<int32_t>(score)};
  }
  return AQD_OK;
}

int32_t aqd_max_detections(const aqd_model *model) {
  const aqd::Model &content = aqd::content_of(model);
  if (!content.refusal.empty()) return 0;
  const aqd::Detector &detector = content.detector;
  return static_cast<int32_t>(detector.has_regions() ? detector.regions.keep
                                                     : detector.post.keep);
}

int32_t aqd_label_count(const aqd_model *model) {
  return static_cast<int32_t>(aqd::content_of(model).detector.labels.size());
}

const char *aqd_label(const aqd_model *model, int32_t index) {
  const auto &labels = aqd::content_of(model).detector.labels;
  const bool right = index >= 0 && static_cast<size_t>(index) < labels.size();
  return right ? labels[static_cast<size_t>(index)].c_str() : nullptr;
}
