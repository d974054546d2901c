#include "detect/detect.h"

#include <algorithm>

#include "detect/curves.h"
#include "detect/nms.h"
#include "detect/rois.h"

namespace aqd {
namespace {

// Of all maps: so that their bytes can be counted.
constexpr int64_t kMaxCodes = PTRDIFF_MAX / 8;
constexpr int64_t kLine = 16;  // codes in a line of the cache

// Runs the network; its outputs are in the workspace until the next call.
int run_network(const Interpreter &interpreter, const void *input, Size size,
                std::vector<Map> *maps) {
  maps->resize(interpreter.model().programs[0].outputs.size());
  int64_t total = 0;
  std::vector<int64_t> starts;
  for (size_t i = 0; i < maps->size(); ++i) {
    int32_t shape[3];
    const int status = interpreter.output_shape(0, i, size, shape);
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
      interpreter.workspace().maps.get(static_cast<size_t>(total + kLine));
  if (codes == nullptr) return AQD_NO_MEMORY;
  while (reinterpret_cast<uintptr_t>(codes) % (4 * kLine) != 0) ++codes;
  std::vector<int32_t *> outputs;
  for (size_t i = 0; i < maps->size(); ++i) {
    outputs.push_back(codes + starts[i]);
    (*maps)[i].codes = outputs[i];
  }
  return interpreter.run(0, input, 1, size, outputs.data());
}

// Runs the program of a stage, which makes one code of each channel.
int run_stage(const void *context, size_t stage, const int32_t *averages,
              int32_t count, int32_t *const *outputs) {
  const Interpreter &interpreter = *static_cast<const Interpreter *>(context);
  const int32_t bins =
      interpreter.model().detector.regions.stages[stage].bins;
  for (size_t output = 0; output < 2; ++output) {
    int32_t shape[3];
    const int status =
        interpreter.output_shape(stage + 1, output, {bins, bins}, shape);
    if (status != AQD_OK) return status;
    if (shape[1] != 1 || shape[2] != 1) return AQD_BAD_INPUT;
  }
  return interpreter.run(stage + 1, averages, count, {bins, bins}, outputs);
}

// An edge in the image that was given.
int32_t rescaled(int64_t edge, int32_t to, int32_t from) {
  const int64_t wide = floored(2 * edge * from + to, 2 * int64_t{to});
  return static_cast<int32_t>(std::clamp<int64_t>(wide, INT32_MIN, INT32_MAX));
}

// Finds boxes in an image of a size that fits the network.
int find(const Interpreter &interpreter, const Pixels &image, Size fitted,
         std::vector<Box> *boxes) {
  const Model &model = interpreter.model();
  const Detector &detector = model.detector;
  const Size size =
      bordered_size(detector.pre, fitted, model.programs[0].stride);
  uint8_t *pixels = interpreter.workspace().image.get(
      static_cast<size_t>(size.height) * static_cast<size_t>(size.width) *
      kColours);
  if (pixels == nullptr) return AQD_NO_MEMORY;
  prepare(detector.pre, image, fitted, size, interpreter.pool(), pixels);
  std::vector<Map> maps;
  const int status = run_network(interpreter, pixels, size, &maps);
  if (status != AQD_OK) return status;
  if (!are_maps(detector.post, maps)) return AQD_BAD_INPUT;
  *boxes = find_boxes(detector, maps, fitted, interpreter.pool());
  if (!detector.has_regions()) return AQD_OK;
  return find_in_regions(detector, maps, fitted, {run_stage, &interpreter},
                         interpreter.pool(), boxes);
}

}  // namespace

int detect(const Interpreter &interpreter, const Pixels &image,
           aqd_detection *found, int32_t capacity, int32_t *count) {
  const Detector &detector = interpreter.model().detector;
  if (!interpreter.model().refusal.empty()) return AQD_BAD_FILE;
  if (!is_image(image)) return AQD_BAD_INPUT;
  const Size fitted = fitted_size(detector.pre, image.size);
  std::vector<Box> boxes;
  const int status = find(interpreter, image, fitted, &boxes);
  if (status != AQD_OK) return status;
  *count = static_cast<int32_t>(boxes.size());
  for (int32_t i = 0; i < std::min(capacity, *count); ++i) {
    const Box &box = boxes[static_cast<size_t>(i)];
    const int64_t score = detector.has_regions()
                              ? box.rank
                              : shown(detector.post.scores, box.rank);
    found[i] = {rescaled(box.edges.x0, fitted.width, image.size.width),
                rescaled(box.edges.y0, fitted.height, image.size.height),
                rescaled(box.edges.x1, fitted.width, image.size.width),
                rescaled(box.edges.y1, fitted.height, image.size.height),
                box.label,
                static_cast<int32_t>(score)};
  }
  return AQD_OK;
}

int32_t max_detections(const Model &model) {
  if (!model.refusal.empty()) return 0;
  const Detector &detector = model.detector;
  return static_cast<int32_t>(detector.has_regions() ? detector.regions.keep
                                                     : detector.post.keep);
}

}  // namespace aqd
