#include "detect/detect.h"

#include <algorithm>

#include "graph/memory_plan.h"

namespace aqd {
namespace {

// Begins to run the network. Its outputs are the interpreter's until the next
// call.
Status begin_network(Interpreter *interpreter, const void *input, Size size,
                     std::vector<Map> *maps) {
  // Each begins with a line of the cache.
  const auto bytes_of = [](const Map &map) {
    return whole_lines(int64_t{map.size.height} * map.size.width *
                       map.channels * 4);
  };
  int64_t bytes = 0;
  for (size_t i = 0; i < interpreter->model().programs[0].outputs.size(); ++i) {
    const Tensor *output = interpreter->output(0, i, size);
    if (output == nullptr) return kBadInput;
    maps->push_back({nullptr, output->channels, output->size});
    bytes += bytes_of(maps->back());
    if (bytes > PTRDIFF_MAX / 2) return kNoMemory;  // before they overflow
  }
  uint8_t *next = interpreter->maps()->get(bytes);
  if (next == nullptr) return kNoMemory;
  std::vector<int32_t *> outputs;
  for (Map &map : *maps) {
    outputs.push_back(reinterpret_cast<int32_t *>(next));
    map.codes = outputs.back();
    next += bytes_of(map);
  }
  return interpreter->begin(input, size, outputs.data());
}

// Makes the other outputs where they are needed. Finds the candidates.
std::vector<Candidate> finish_network(Interpreter *interpreter,
                                      const std::vector<Map> &maps) {
  const Model &model = interpreter->model();
  const Scores &scores = model.detector.post.scores;
  // Logits without factors are all that candidates need.
  const bool are_first = !choice_of(model.detector.post).is_read_later;
  ThreadPool *pool = interpreter->pool();
  std::vector<Candidate> candidates;
  if (are_first) candidates = find_candidates(model.detector, maps, pool);
  const std::vector<PixelSet> chosen =
      chosen_pixels(model.detector, maps, candidates, pool);
  std::vector<const PixelSet *> wanted(maps.size(), nullptr);
  const size_t levels = chosen.size(), kinds = scores.has_factors() ? 3 : 2;
  for (size_t i = 0; i < kinds * levels; ++i) wanted[i] = &chosen[i % levels];
  interpreter->finish(wanted);
  if (!are_first) candidates = find_candidates(model.detector, maps, pool);
  return candidates;
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

// Edges in the image that was given.
Edges rescaled(const Edges &edges, Size to, Size from) {
  const auto edge = [](int64_t value, int64_t length, int64_t given) {
    return std::clamp<int64_t>(floored(2 * value * given + length, 2 * length),
                               INT32_MIN, INT32_MAX);
  };
  return {edge(edges.x0, to.width, from.width),
          edge(edges.y0, to.height, from.height),
          edge(edges.x1, to.width, from.width),
          edge(edges.y1, to.height, from.height)};
}

}  // namespace

Status detect(Interpreter *interpreter, const Pixels &image,
              std::vector<Box> *found) {
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
  Status status = begin_network(interpreter, pixels, padded, &maps);
  if (status != kOk) return status;
  if (!are_of_one_size(detector.post, maps)) return kBadInput;
  *found = find_boxes(detector, maps, finish_network(interpreter, maps), to);
  if (detector.has_regions()) {
    status = refine_proposals(interpreter, maps, to, found);
  }
  for (Box &box : *found) box.edges = rescaled(box.edges, to, from);
  return status;
}

}  // namespace aqd
