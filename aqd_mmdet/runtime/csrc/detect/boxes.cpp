#include <algorithm>
#include <array>

#include "detect/detect.h"

namespace aqd {
namespace {

constexpr int64_t kMaxDelta = int64_t{64} << kDeltaBits;
constexpr int64_t kMaxDistance = 1 << 26;
constexpr int64_t kHalf = 1 << (kDeltaBits - 1);
constexpr int64_t kOnePixel = 1 << kGeometryBits;

// The codes dx, dy, dw, dh, limited to a magnitude.
std::array<int64_t, 4> deltas_of(const int32_t *codes, const Multipliers &table,
                                 int64_t most) {
  std::array<int64_t, 4> deltas;
  for (size_t i = 0; i < 4; ++i) {
    deltas[i] = requantize(codes[i], table, i, most);
  }
  return deltas;
}

// A box around a point, as large as an anchor times the exponentials of Q16
// logarithms.
Edges box_around(int64_t x, int64_t y, const Anchor &anchor, int64_t log_width,
                 int64_t log_height, int64_t limit, const Curve &exp) {
  const auto scaled = [&](int64_t side, int64_t log) {
    return rounded(read_curve(exp, std::clamp(log, -limit, limit)) * side,
                   kDeltaBits);
  };
  const int64_t width = scaled(anchor.width, log_width);
  const int64_t height = scaled(anchor.height, log_height);
  const int64_t x0 = x - (width >> 1), y0 = y - (height >> 1);
  return {x0, y0, x0 + width, y0 + height};
}

Edges decode_cell(const Decoder &decoder, Size stride, const Anchor &anchor,
                  const int32_t *codes) {
  const auto [dx, dy, dw, dh] =
      deltas_of(codes, decoder.tables[0], -kLowestLogit);
  const auto inside = [&](int64_t delta, int32_t side) {
    // Q16 times pixels, to Q12.
    return rounded((read_curve(decoder.sigmoid, delta) - kHalf) * side,
                   kDeltaBits - kGeometryBits);
  };
  return box_around(anchor.x + inside(dx, stride.width),
                    anchor.y + inside(dy, stride.height), anchor, dw, dh,
                    decoder.limit, decoder.exp);
}

// The mean of one side's distribution, in Q12.
int64_t mean(const Decoder &decoder, const int32_t *codes, int32_t stride) {
  int64_t powers[64];
  const size_t bins = static_cast<size_t>(decoder.bins);
  for (size_t i = 0; i < bins; ++i) {
    powers[i] = requantize(codes[i], decoder.tables[0], 0, kLargestLogit);
  }
  const int64_t total = exponentiate(decoder.exp, bins, powers);
  int64_t sum = 0;
  for (size_t i = 0; i < bins; ++i) sum += powers[i] * static_cast<int64_t>(i);
  return (sum * stride * kOnePixel + (total >> 1)) / total;
}

// The distance of one side from a point, in Q12.
int64_t distance(const Decoder &decoder, size_t level, const int32_t *codes,
                 size_t side) {
  const BoxLevel &from = decoder.levels[level];
  if (decoder.kind == DecoderKind::kExponents) {
    const int64_t x =
        requantize(codes[side], decoder.tables[0], side, decoder.limit);
    return rounded(read_curve(decoder.exp, x) * from.edge, kDeltaBits);
  }
  if (decoder.kind == DecoderKind::kBins) {
    return mean(decoder, codes + side * static_cast<size_t>(decoder.bins),
                from.stride.height);
  }
  return requantize(codes[side], decoder.tables[level], side, kMaxDistance);
}

// The box that a prior of a level stands for, in Q12 pixels. Its index counts
// rows, columns and priors.
Edges decode(const Decoder &decoder, size_t level, const Map &map,
             int64_t index) {
  const BoxLevel &from = decoder.levels[level];
  const int64_t priors = from.priors(), pixel = index / priors;
  const int32_t *codes = map.codes + index * (map.channels / priors);
  const int64_t x = pixel % map.size.width * from.stride.width * kOnePixel;
  const int64_t y = pixel / map.size.width * from.stride.height * kOnePixel;
  Edges box;  // as if the pixel were the first
  if (decoder.has_anchors()) {
    const Anchor &anchor = from.anchors[static_cast<size_t>(index % priors)];
    box = decoder.kind == DecoderKind::kCells
              ? decode_cell(decoder, from.stride, anchor, codes)
              : decode_deltas(anchor, codes, decoder.tables[0], decoder.limit,
                              decoder.exp);
  } else {
    box = {from.offset.width - distance(decoder, level, codes, 0),
           from.offset.height - distance(decoder, level, codes, 1),
           from.offset.width + distance(decoder, level, codes, 2),
           from.offset.height + distance(decoder, level, codes, 3)};
  }
  return {box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y};
}

int64_t intersection(const Edges &a, const Edges &b) {
  const Edges shared = {std::max(a.x0, b.x0), std::max(a.y0, b.y0),
                        std::min(a.x1, b.x1), std::min(a.y1, b.y1)};
  return shared.has_area() ? shared.area() : 0;
}

}  // namespace

Edges decode_deltas(const Anchor &from, const int32_t *codes,
                    const Multipliers &table, int64_t limit, const Curve &exp) {
  const auto [dx, dy, dw, dh] = deltas_of(codes, table, kMaxDelta);
  return box_around(from.x + rounded(dx * from.width, kDeltaBits),
                    from.y + rounded(dy * from.height, kDeltaBits), from, dw,
                    dh, limit, exp);
}

Edges clip(const Edges &wide, int64_t near, Size far) {
  const auto edge = [&](int64_t value, int64_t end) {
    return rounded(std::clamp(value, near * kOnePixel, end * kOnePixel),
                   kGeometryBits - kBoxBits);
  };
  return {edge(wide.x0, far.width), edge(wide.y0, far.height),
          edge(wide.x1, far.width), edge(wide.y1, far.height)};
}

void nms(int64_t overlap, int64_t keep, std::vector<Box> *boxes) {
  std::stable_sort(
      boxes->begin(), boxes->end(),
      [](const Box &a, const Box &b) { return a.score > b.score; });
  int32_t largest = 0;
  for (const Box &box : *boxes) largest = std::max(largest, box.label);
  // Linked lists of the kept boxes of each label, from the newest one back.
  std::vector<int64_t> last(static_cast<size_t>(largest) + 1, -1), earlier;
  std::vector<Box> kept;
  for (const Box &box : *boxes) {
    if (kept.size() == static_cast<size_t>(keep)) break;
    int64_t &newest = last[static_cast<size_t>(box.label)];
    int64_t other = newest;
    for (; other >= 0; other = earlier[static_cast<size_t>(other)]) {
      const Edges &edges = kept[static_cast<size_t>(other)].edges;
      const int64_t shared = intersection(box.edges, edges);
      const int64_t joined = box.edges.area() + edges.area() - shared;
      if (shared << kOverlapBits > overlap * joined) break;
    }
    if (other >= 0) continue;
    earlier.push_back(newest);
    newest = static_cast<int64_t>(kept.size());
    kept.push_back(box);
  }
  *boxes = std::move(kept);
}

std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps,
                            const std::vector<Candidate> &candidates,
                            Size size) {
  const PostProcess &post = detector.post;
  const Map *codes = &maps[post.decoder.levels.size()];
  const int32_t margin = static_cast<int32_t>(post.margin);
  const Size far = {size.height + margin, size.width + margin};
  std::vector<Box> boxes;
  for (const Candidate &each : candidates) {
    const Edges wide = decode(post.decoder, each.level, codes[each.level],
                              each.index / post.classes);
    const Edges edges = clip(wide, -std::max(margin, 0), far);
    if (!edges.has_area()) continue;
    // Proposals of one level suppress each other.
    const int64_t label = detector.has_regions()
                              ? static_cast<int64_t>(each.level)
                              : each.index % post.classes;
    boxes.push_back({edges, static_cast<int32_t>(label), each.rank});
  }
  nms(post.overlap, post.keep, &boxes);
  for (Box &box : boxes) box.score = score_of(post.scores, box.score);
  return boxes;
}

}  // namespace aqd
