#include "detect/detect.h"

#include <algorithm>

#include "detect/curves.h"

namespace aqd {
namespace {

// Bytes of all maps; more than any machine has.
constexpr int64_t kMaxBytes = int64_t{1} << 60;

// Runs the network. Its outputs are the interpreter's until the next call.
Status run_network(Interpreter *interpreter, const void *input, Size size,
                   std::vector<Map> *maps) {
  int64_t bytes = 0;
  std::vector<int64_t> starts;
  for (size_t i = 0; i < interpreter->model().programs[0].outputs.size(); ++i) {
    const Tensor *output = interpreter->output(0, i, size);
    if (output == nullptr) return kBadInput;
    maps->push_back({nullptr, output->channels, output->size});
    starts.push_back(bytes);
    // Each begins with a line of the cache.
    bytes += whole_lines(int64_t{output->size.height} * output->size.width *
                         output->channels * 4);
    if (bytes > kMaxBytes) return kNoMemory;
  }
  uint8_t *memory = interpreter->maps()->get(bytes);
  if (memory == nullptr) return kNoMemory;
  std::vector<int32_t *> outputs;
  for (size_t i = 0; i < maps->size(); ++i) {
    outputs.push_back(reinterpret_cast<int32_t *>(memory + starts[i]));
    (*maps)[i].codes = outputs[i];
  }
  return interpreter->run(0, input, 1, size, outputs.data());
}

// Whether the maps of each level have one size.
bool are_of_one_size(const PostProcess &post, const std::vector<Map> &maps) {
  const size_t levels = post.decoder.levels.size();
  const size_t kinds = post.scores.has_factors() ? 3 : 2;
  for (size_t i = levels; i < kinds * levels; ++i) {
    if (!same(maps[i % levels].size, maps[i].size)) return false;
  }
  return true;
}

// An edge in the image that was given.
int32_t rescaled(int64_t edge, int32_t to, int32_t from) {
  const int64_t wide = floored(2 * edge * from + to, 2 * int64_t{to});
  return static_cast<int32_t>(std::clamp<int64_t>(wide, INT32_MIN, INT32_MAX));
}

}  // namespace

Status detect(Interpreter *interpreter, const Pixels &image,
                  std::vector<Detection> *found) {
  const Model &model = interpreter->model();
  const Detector &detector = model.detector;
  if (!model.refusal.empty()) return kBadFile;
  if (!is_image(image)) return kBadInput;
  const Size from = image.size, to = resized_size(detector.pre, from);
  const Size padded = padded_size(detector.pre, to, model.programs[0].stride);
  uint8_t *pixels = interpreter->image()->get(int64_t{padded.height} *
                                              padded.width * kColours);
  if (pixels == nullptr) return kNoMemory;
  resize(detector.pre, image, to, padded, interpreter->pool(), pixels);
  std::vector<Map> maps;
  Status status = run_network(interpreter, pixels, padded, &maps);
  if (status != kOk) return status;
  if (!are_of_one_size(detector.post, maps)) return kBadInput;
  std::vector<Box> boxes = find_boxes(detector, maps, to, interpreter->pool());
  if (detector.has_regions()) {
    status = refine_proposals(interpreter, maps, to, &boxes);
    if (status != kOk) return status;
  }
  for (const Box &box : boxes) {
    const int64_t score = detector.has_regions()
                              ? box.rank
                              : score_of(detector.post.scores, box.rank);
    found->push_back({rescaled(box.edges.x0, to.width, from.width),
                      rescaled(box.edges.y0, to.height, from.height),
                      rescaled(box.edges.x1, to.width, from.width),
                      rescaled(box.edges.y1, to.height, from.height),
                      box.label, static_cast<int32_t>(score)});
  }
  return kOk;
}

}  // namespace aqd
