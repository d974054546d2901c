#include "detect/nms.h"

#include <algorithm>

namespace aqd {
namespace {

// A candidate of any level.
struct RankedBox {
  Box box;
  int64_t candidate_rank;  // what it was chosen by
};

// With fewer logits a thread costs more than it saves.
constexpr int64_t kPart = 1 << 16;

// The best candidates of a level. Its priors are divided among threads into few
// parts, since each part begins with the lowest threshold again.
TopK top_candidates(const PostProcess &post, const Map &logits,
                    const Map *factors, int64_t places, ThreadPool *pool) {
  const int64_t threads = pool->threads();
  const int64_t together = std::max((places + threads - 1) / threads,
                                    1 + kPart / post.classes);
  const int64_t parts = (places + together - 1) / together;
  TopK all(post.candidates, post.threshold);
  std::vector<TopK> best(static_cast<size_t>(parts), all);
  pool->run(parts, [&](int64_t part, int) {
    const int64_t first = part * together;
    collect_candidates(post, logits, factors, first,
                       std::min(first + together, places),
                       &best[static_cast<size_t>(part)]);
  });
  for (const TopK &each : best) all.add(each);
  return all;
}

void decode_level(const PostProcess &post, size_t level, const Map *maps,
                  Size size, ThreadPool *pool, std::vector<RankedBox> *found) {
  const size_t levels = post.decoder.levels.size();
  const Map &logits = maps[level], &codes = maps[levels + level];
  const Map *factors =
      post.scores.has_factors() ? &maps[2 * levels + level] : nullptr;
  const int64_t priors = post.decoder.levels[level].priors();
  TopK best = top_candidates(post, logits, factors, logits.pixels() * priors,
                             pool);
  const int64_t coded = codes.channels / priors;
  const int32_t margin = static_cast<int32_t>(post.margin);
  const Size far = {size.height + margin, size.width + margin};
  for (const Candidate &each : best.finish()) {
    const int64_t place = each.index / post.classes;
    const int64_t pixel = place / priors, width = logits.size.width;
    const Edges wide =
        decode(post.decoder, level, codes.codes + place * coded,
               {pixel / width, pixel % width, place % priors});
    RankedBox made;
    made.box.edges = clip(wide, -std::max<int64_t>(post.margin, 0), far);
    made.box.label = static_cast<int32_t>(each.index % post.classes);
    made.box.rank = final_rank(post, each, factors);
    made.candidate_rank = each.rank;
    found->push_back(made);
  }
}

// Keeps the best by the ranks that chose them, without changing their order. Of
// equal ones the first is better.
void keep_top(int64_t count, std::vector<RankedBox> *found) {
  if (static_cast<size_t>(count) >= found->size()) return;
  TopK best(count, INT64_MIN);
  for (size_t i = 0; i < found->size(); ++i) {
    best.offer((*found)[i].candidate_rank, static_cast<int64_t>(i));
  }
  std::vector<Candidate> kept = best.finish();
  std::sort(kept.begin(), kept.end(),
            [](const Candidate &a, const Candidate &b) {
              return a.index < b.index;
            });
  std::vector<RankedBox> left;
  for (const Candidate &each : kept) {
    left.push_back((*found)[static_cast<size_t>(each.index)]);
  }
  *found = std::move(left);
}

int64_t area(const Edges &box) {
  return (box.x1 - box.x0) * (box.y1 - box.y0);
}

int64_t intersection(const Edges &a, const Edges &b) {
  const int64_t width = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
  const int64_t height = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  return width > 0 && height > 0 ? width * height : 0;
}

}  // namespace

bool are_of_one_size(const PostProcess &post, const std::vector<Map> &maps) {
  const size_t levels = post.decoder.levels.size();
  const size_t kinds = post.scores.has_factors() ? 3 : 2;
  for (size_t i = levels; i < kinds * levels; ++i) {
    const Size &first = maps[i % levels].size, &size = maps[i].size;
    if (first.height != size.height || first.width != size.width) return false;
  }
  return true;
}

void nms(int64_t overlap, int64_t keep, size_t labels,
         std::vector<Box> *boxes) {
  std::stable_sort(boxes->begin(), boxes->end(),
                   [](const Box &a, const Box &b) { return a.rank > b.rank; });
  // Linked lists of the kept boxes of each label, from the newest one back.
  std::vector<int64_t> last(labels, -1), earlier;
  std::vector<Box> kept;
  for (const Box &box : *boxes) {
    if (kept.size() == static_cast<size_t>(keep)) break;
    int64_t &newest = last[static_cast<size_t>(box.label)];
    const int64_t own = area(box.edges);
    int64_t other = newest;
    for (; other >= 0; other = earlier[static_cast<size_t>(other)]) {
      const Edges &edges = kept[static_cast<size_t>(other)].edges;
      const int64_t shared = intersection(box.edges, edges);
      if (shared << kOverlapBits > overlap * (own + area(edges) - shared)) {
        break;
      }
    }
    if (other >= 0) continue;
    earlier.push_back(newest);
    newest = static_cast<int64_t>(kept.size());
    kept.push_back(box);
  }
  *boxes = std::move(kept);
}

std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps, Size size,
                            ThreadPool *pool) {
  const PostProcess &post = detector.post;
  const size_t levels = post.decoder.levels.size();
  std::vector<RankedBox> found;
  for (size_t level = 0; level < levels; ++level) {
    const size_t before = found.size();
    decode_level(post, level, maps.data(), size, pool, &found);
    if (!detector.has_regions()) continue;
    // Proposals of one level suppress each other.
    for (size_t i = before; i < found.size(); ++i) {
      found[i].box.label = static_cast<int32_t>(level);
    }
  }
  if (!detector.has_regions()) keep_top(post.total, &found);
  std::vector<Box> boxes;
  for (const RankedBox &each : found) {
    if (each.box.has_area()) boxes.push_back(each.box);
  }
  const size_t labels =
      detector.has_regions() ? levels : static_cast<size_t>(post.classes);
  nms(post.overlap, post.keep, labels, &boxes);
  return boxes;
}

}  // namespace aqd
