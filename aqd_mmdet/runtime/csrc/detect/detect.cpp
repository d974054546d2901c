#include "detect/detect.h"

#include <algorithm>

#include "detect/curves.h"
#include "detect/nms.h"
#include "detect/rois.h"

namespace aqd {
namespace {

// Of all maps: so that their bytes can be counted.
constexpr int64_t kMaxCodes = PTRDIFF_MAX / 8;
constexpr int64_t kLine = kCacheLine / 4;  // codes in a line of the cache

// Runs the network. Its outputs are in the workspace until the next call.
Status run_network(const Interpreter &interpreter, const void *input, Size size,
                   std::vector<Map> *maps) {
  maps->resize(interpreter.model().programs[0].outputs.size());
  int64_t total = 0;
  std::vector<int64_t> starts;
  for (size_t i = 0; i < maps->size(); ++i) {
    int32_t shape[3];
    const Status status = interpreter.output_shape(0, i, size, shape);
    if (status != Status::kOk) return status;
    Map &map = (*maps)[i];
    map.channels = shape[0];
    map.size = {shape[1], shape[2]};
    starts.push_back(total);
    // Each begins with a line of the cache.
    total += (map.pixels() * map.channels + kLine - 1) / kLine * kLine;
    if (total > kMaxCodes) return Status::kNoMemory;
  }
  int32_t *memory =
      interpreter.workspace().maps.get(static_cast<size_t>(total + kLine));
  if (memory == nullptr) return Status::kNoMemory;
  int32_t *codes = reinterpret_cast<int32_t *>(line_from(memory));
  std::vector<int32_t *> outputs;
  for (size_t i = 0; i < maps->size(); ++i) {
    outputs.push_back(codes + starts[i]);
    (*maps)[i].codes = outputs[i];
  }
  return interpreter.run(0, input, 1, size, outputs.data());
}

// An edge in the image that was given.
int32_t rescaled(int64_t edge, int32_t to, int32_t from) {
  const int64_t wide = floored(2 * edge * from + to, 2 * int64_t{to});
  return static_cast<int32_t>(std::clamp<int64_t>(wide, INT32_MIN, INT32_MAX));
}

// Finds boxes in an image that is resized to a size.
Status find(const Interpreter &interpreter, const Pixels &image, Size resized,
            std::vector<Box> *boxes) {
  const Model &model = interpreter.model();
  const Detector &detector = model.detector;
  const Size size =
      padded_size(detector.pre, resized, model.programs[0].stride);
  uint8_t *pixels = interpreter.workspace().image.get(
      static_cast<size_t>(size.height) * static_cast<size_t>(size.width) *
      kColours);
  if (pixels == nullptr) return Status::kNoMemory;
  resize(detector.pre, image, resized, size, interpreter.pool(), pixels);
  std::vector<Map> maps;
  const Status status = run_network(interpreter, pixels, size, &maps);
  if (status != Status::kOk) return status;
  if (!are_of_one_size(detector.post, maps)) return Status::kBadInput;
  *boxes = find_boxes(detector, maps, resized, interpreter.pool());
  if (!detector.has_regions()) return Status::kOk;
  return refine_proposals(interpreter, maps, resized, boxes);
}

}  // namespace

Status detect(const Interpreter &interpreter, const Pixels &image,
              std::vector<Detection> *found) {
  const Detector &detector = interpreter.model().detector;
  if (!interpreter.model().refusal.empty()) return Status::kBadFile;
  if (!is_image(image)) return Status::kBadInput;
  const Size resized = resized_size(detector.pre, image.size);
  std::vector<Box> boxes;
  const Status status = find(interpreter, image, resized, &boxes);
  if (status != Status::kOk) return status;
  for (const Box &box : boxes) {
    const int64_t score = detector.has_regions()
                              ? box.rank
                              : score_of(detector.post.scores, box.rank);
    found->push_back({rescaled(box.edges.x0, resized.width, image.size.width),
                      rescaled(box.edges.y0, resized.height, image.size.height),
                      rescaled(box.edges.x1, resized.width, image.size.width),
                      rescaled(box.edges.y1, resized.height, image.size.height),
                      box.label, static_cast<int32_t>(score)});
  }
  return Status::kOk;
}

int32_t max_detections(const Model &model) {
  if (!model.refusal.empty()) return 0;
  const Detector &detector = model.detector;
  return static_cast<int32_t>(detector.has_regions() ? detector.regions.keep
                              : detector.post.keep);
}

}  // namespace aqd
