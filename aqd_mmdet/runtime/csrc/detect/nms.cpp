#include "detect/nms.h"

#include <algorithm>

namespace aqd {
namespace {

// A candidate of any level.
struct Found {
  Box box;
  int64_t first_rank;  // what it was chosen by
};

// Logits that are worth a thread.
constexpr int64_t kPart = 1 << 16;

// The candidates of a level, whose places are shared among threads: as few
// parts as possible, since each part begins anew with the lowest threshold.
Best best_of_level(const PostProcess &post, const Map &logits,
                   const Map *factors, int64_t places, ThreadPool *pool) {
  const int64_t threads = pool->threads();
  const int64_t together = std::max((places + threads - 1) / threads,
                                    1 + kPart / post.classes);
  const int64_t parts = (places + together - 1) / together;
  Best all(post.candidates, post.threshold);
  std::vector<Best> best(static_cast<size_t>(parts), all);
  pool->run(parts, [&](int64_t part, int) {
    const int64_t first = part * together;
    rank_places(post, logits, factors, first,
                std::min(first + together, places),
                &best[static_cast<size_t>(part)]);
  });
  for (const Best &each : best) all.add(each);
  return all;
}

void find_in_level(const PostProcess &post, size_t level, const Map *maps,
                   Size size, ThreadPool *pool, std::vector<Found> *found) {
  const size_t levels = post.decoder.levels.size();
  const Map &logits = maps[level], &codes = maps[levels + level];
  const Map *factors =
      post.scores.has_factors() ? &maps[2 * levels + level] : nullptr;
  const int64_t priors = post.decoder.levels[level].priors();
  Best best = best_of_level(post, logits, factors, logits.pixels() * priors,
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
    Found made;
    made.box.edges = limited(wide, -std::max<int64_t>(post.margin, 0), far);
    made.box.label = static_cast<int32_t>(each.index % post.classes);
    made.box.rank = last_rank(post, each, factors);
    made.first_rank = each.rank;
    found->push_back(made);
  }
}

// Keeps the best by their first ranks, of equal ones the first, in the order
// in which they are.
void keep_best(int64_t count, std::vector<Found> *found) {
  if (static_cast<size_t>(count) >= found->size()) return;
  Best best(count, INT64_MIN);
  for (size_t i = 0; i < found->size(); ++i) {
    best.offer((*found)[i].first_rank, static_cast<int64_t>(i));
  }
  std::vector<Candidate> kept = best.finish();
  std::sort(kept.begin(), kept.end(),
            [](const Candidate &a, const Candidate &b) {
              return a.index < b.index;
            });
  std::vector<Found> left;
  for (const Candidate &each : kept) {
    left.push_back((*found)[static_cast<size_t>(each.index)]);
  }
  *found = std::move(left);
}

int64_t area(const Edges &box) {
  return (box.x1 - box.x0) * (box.y1 - box.y0);
}

int64_t shared_area(const Edges &a, const Edges &b) {
  const int64_t width = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
  const int64_t height = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  return width > 0 && height > 0 ? width * height : 0;
}

}  // namespace

bool are_maps(const PostProcess &post, const std::vector<Map> &maps) {
  const size_t levels = post.decoder.levels.size();
  const size_t kinds = post.scores.has_factors() ? 3 : 2;
  for (size_t i = levels; i < kinds * levels; ++i) {
    const Size &first = maps[i % levels].size, &size = maps[i].size;
    if (first.height != size.height || first.width != size.width) return false;
  }
  return true;
}

void suppress(int64_t overlap, int64_t keep, size_t labels,
              std::vector<Box> *boxes) {
  std::stable_sort(boxes->begin(), boxes->end(),
                   [](const Box &a, const Box &b) { return a.rank > b.rank; });
  // The kept boxes of a label, from the last one backwards.
  std::vector<int64_t> last(labels, -1), earlier;
  std::vector<Box> kept;
  for (const Box &box : *boxes) {
    if (kept.size() == static_cast<size_t>(keep)) break;
    int64_t &newest = last[static_cast<size_t>(box.label)];
    const int64_t own = area(box.edges);
    int64_t other = newest;
    for (; other >= 0; other = earlier[static_cast<size_t>(other)]) {
      const Edges &edges = kept[static_cast<size_t>(other)].edges;
      const int64_t shared = shared_area(box.edges, edges);
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
  std::vector<Found> found;
  for (size_t level = 0; level < levels; ++level) {
    const size_t before = found.size();
    find_in_level(post, level, maps.data(), size, pool, &found);
    if (!detector.has_regions()) continue;
    // Proposals of one level suppress each other.
    for (size_t i = before; i < found.size(); ++i) {
      found[i].box.label = static_cast<int32_t>(level);
    }
  }
  if (!detector.has_regions()) keep_best(post.total, &found);
  std::vector<Box> boxes;
  for (const Found &each : found) {
    if (each.box.is_real()) boxes.push_back(each.box);
  }
  const size_t labels =
      detector.has_regions() ? levels : static_cast<size_t>(post.classes);
  suppress(post.overlap, post.keep, labels, &boxes);
  return boxes;
}

}  // namespace aqd
