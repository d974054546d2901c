#include <algorithm>

#include "detect/detect.h"

namespace aqd {
namespace {

// Logits that are compared with a threshold at once.
constexpr int64_t kBlock = 64;
// With fewer logits a thread costs more than it saves.
constexpr int64_t kPart = 1 << 16;

bool is_better(const Candidate &a, const Candidate &b) {
  if (a.rank != b.rank) return a.rank > b.rank;
  return a.level != b.level ? a.level < b.level : a.index < b.index;
}

// Keeps the best candidates. The worst of them is then the last, if any were
// dropped.
void keep_best(int64_t count, std::vector<Candidate> *found) {
  if (static_cast<size_t>(count) >= found->size()) return;
  const auto last = found->begin() + static_cast<ptrdiff_t>(count) - 1;
  std::nth_element(found->begin(), last, found->end(), is_better);
  found->resize(static_cast<size_t>(count));
}

// Candidates of a level, among which are the best. They are offered by growing
// index; of equal ones the first is better.
struct TopK {
  int64_t count;
  int64_t least;  // no candidate of a lower rank can be among the best
  size_t level;
  std::vector<Candidate> found;

  void offer(int64_t rank, int64_t index) {
    if (rank < least) return;
    found.push_back({rank, level, index});
    if (found.size() < 2 * static_cast<size_t>(count)) return;
    keep_best(count, &found);
    // Later candidates have larger indices, so that one of equal rank loses.
    least = std::max(least, found.back().rank + 1);
  }
};

int64_t sigmoid(const Scores &scores, const Multipliers &table, int64_t x) {
  return read_curve(scores.curve, requantize(x, table, 0, -kLowestLogit));
}

// The product of two sigmoids in 2^-48.
int64_t product(const Scores &scores, int64_t logit, int64_t factor) {
  return sigmoid(scores, scores.logits, logit) *
         sigmoid(scores, scores.factors, factor);
}

// No sigmoid is larger.
int64_t largest_sigmoid(const Scores &scores) {
  const std::vector<int32_t> &table = scores.curve.table;
  return *std::max_element(table.begin(), table.end());
}

// Whether all of a block's codes are below one, without a branch.
bool are_below(const int32_t *codes, int32_t least) {
  int32_t all = -1;
  for (int64_t i = 0; i < kBlock; ++i) all &= codes[i] < least ? -1 : 0;
  return all != 0;
}

// The factors of a level, one for each prior; null if scores have none.
const int32_t *factors_of(const PostProcess &post, const std::vector<Map> &maps,
                          size_t level) {
  if (!post.scores.has_factors()) return nullptr;
  return maps[2 * post.decoder.levels.size() + level].codes;
}

// Offers logits from the first to before the end, if their factor counts.
void offer_logits(const PostProcess &post, const int32_t *logits,
                  const int32_t *factors, int64_t first, int64_t end,
                  TopK *best) {
  for (int64_t start = first; start < end; start += kBlock) {
    const int64_t next = std::min(start + kBlock, end);
    const int64_t least = std::max<int64_t>(best->least, INT32_MIN);
    if (least > INT32_MAX) return;
    if (next - start == kBlock &&
        are_below(logits + start, static_cast<int32_t>(least))) {
      continue;
    }
    for (int64_t i = start; i < next; ++i) {
      if (logits[i] >= best->least &&
          (factors == nullptr ||
           factors[i / post.classes] >= post.scores.least)) {
        best->offer(logits[i], i);
      }
    }
  }
}

// Offers the candidates of priors from the first to before the end, with the
// ranks that choose them.
void offer_candidates(const PostProcess &post, const int32_t *logits,
                      const int32_t *factors, int64_t first, int64_t end,
                      TopK *best) {
  const Scores &scores = post.scores;
  const ScoreKind kind = scores.kind;
  const int64_t classes = post.classes;
  if (kind == ScoreKind::kSigmoid || kind == ScoreKind::kProduct) {
    offer_logits(post, logits, factors, first * classes, end * classes, best);
    return;
  }
  const int64_t largest = scores.has_factors() ? largest_sigmoid(scores) : 0;
  std::vector<int64_t> shares(static_cast<size_t>(classes + 1));
  for (int64_t prior = first; prior < end; ++prior) {
    const int64_t start = prior * classes;
    const int32_t *own = logits + start;
    int64_t factor = 0;
    if (scores.has_factors()) {
      // Logits are only there where a factor lets a score pass.
      factor = sigmoid(scores, scores.factors, factors[prior]);
      if (factor * largest < best->least) continue;
    }
    if (kind == ScoreKind::kBestClass) {
      const int64_t label = std::max_element(own, own + classes) - own;
      best->offer(sigmoid(scores, scores.logits, own[label]) * factor,
                  start + label);
    } else if (kind != ScoreKind::kSoftmax) {
      for (int64_t c = 0; c < classes; ++c) {
        best->offer(sigmoid(scores, scores.logits, own[c]) * factor, start + c);
      }
    } else {
      own += prior;  // each prior has one more logit, of the background
      for (size_t c = 0; c < shares.size(); ++c) {
        shares[c] = requantize(own[c], scores.logits, 0, kLargestLogit);
      }
      softmax(scores.curve, shares.size(), shares.data());
      for (int64_t c = 0; c < classes; ++c) {
        best->offer(shares[static_cast<size_t>(c)], start + c);
      }
    }
  }
}

// The best candidates of a level. Priors are divided among threads into few
// parts, since each part begins with the lowest threshold again.
std::vector<Candidate> top_candidates(const PostProcess &post,
                                      const std::vector<Map> &maps,
                                      size_t level, ThreadPool *pool) {
  const Map &logits = maps[level];
  const int64_t priors = int64_t{logits.size.height} * logits.size.width *
                         post.decoder.levels[level].priors();
  const int64_t threads = pool->threads();
  const int64_t together =
      std::max((priors + threads - 1) / threads, 1 + kPart / post.classes);
  const int64_t parts = (priors + together - 1) / together;
  std::vector<TopK> best(static_cast<size_t>(parts),
                         {post.candidates, post.threshold, level, {}});
  pool->run(parts, [&](int64_t part, int) {
    const int64_t first = part * together;
    offer_candidates(post, logits.codes, factors_of(post, maps, level), first,
                     std::min(first + together, priors),
                     &best[static_cast<size_t>(part)]);
  });
  std::vector<Candidate> all;
  for (const TopK &each : best) {
    all.insert(all.end(), each.found.begin(), each.found.end());
  }
  keep_best(post.candidates, &all);
  return all;
}

}  // namespace

Choice choice_of(const PostProcess &post) {
  const bool has_factors = post.scores.has_factors();
  // Products are chosen by their logits alone.
  const bool by_factors =
      has_factors && post.scores.kind != ScoreKind::kProduct;
  return {by_factors ? size_t{2} : size_t{0}, has_factors};
}

std::vector<PixelSet> chosen_pixels(const Detector &detector,
                                    const std::vector<Map> &maps,
                                    const std::vector<Candidate> &candidates,
                                    ThreadPool *pool) {
  const PostProcess &post = detector.post;
  const size_t levels = post.decoder.levels.size();
  std::vector<PixelSet> chosen;
  for (size_t i = 0; i < levels; ++i) chosen.emplace_back(maps[i].size);
  if (!choice_of(post).is_read_later) {
    for (const Candidate &each : candidates) {
      const int64_t pixel = each.index / post.classes /
                            post.decoder.levels[each.level].priors();
      const int64_t width = maps[each.level].size.width;
      chosen[each.level].add(pixel / width, pixel % width);
    }
    return chosen;
  }
  const size_t kind = choice_of(post).kind;
  const int64_t largest = largest_sigmoid(post.scores);
  // Whether a score may reach the threshold.
  const auto may_pass = [&](int64_t code) {
    const Scores &scores = post.scores;
    return (kind == 0 ? code
                      : sigmoid(scores, scores.factors, code) * largest) >=
           post.threshold;
  };
  for (size_t level = 0; level < levels; ++level) {
    const Map &map = maps[kind * levels + level];
    pool->run(map.size.height, [&](int64_t row, int) {
      const int32_t *codes = map.codes + row * map.size.width * map.channels;
      for (int64_t column = 0; column < map.size.width; ++column) {
        const int32_t *end = codes + map.channels;
        if (std::any_of(codes, end, may_pass)) chosen[level].add(row, column);
        codes = end;
      }
    });
  }
  return chosen;
}

std::vector<Candidate> find_candidates(const Detector &detector,
                                       const std::vector<Map> &maps,
                                       ThreadPool *pool) {
  const PostProcess &post = detector.post;
  std::vector<Candidate> found;
  for (size_t level = 0; level < post.decoder.levels.size(); ++level) {
    const std::vector<Candidate> best = top_candidates(post, maps, level, pool);
    found.insert(found.end(), best.begin(), best.end());
  }
  if (!detector.has_regions()) keep_best(post.total, &found);
  std::sort(found.begin(), found.end(),
            [](const Candidate &a, const Candidate &b) {
              return a.level != b.level ? a.level < b.level : is_better(a, b);
            });
  if (post.scores.kind != ScoreKind::kProduct) return found;
  for (Candidate &each : found) {
    const int32_t *factors = factors_of(post, maps, each.level);
    each.rank =
        product(post.scores, each.rank, factors[each.index / post.classes]);
  }
  return found;
}

int64_t score_of(const Scores &scores, int64_t rank) {
  if (scores.kind == ScoreKind::kSoftmax) return rank;
  if (scores.kind == ScoreKind::kSigmoid) {
    return sigmoid(scores, scores.logits, rank);
  }
  return scores.kind == ScoreKind::kGeometricMean ? square_root(rank)
                                                  : rounded(rank, kScoreBits);
}

int64_t exponentiate(const Curve &exp, size_t count, int64_t *logits) {
  const int64_t largest = *std::max_element(logits, logits + count);
  int64_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    logits[i] = read_curve(exp, std::max(logits[i] - largest, kLowestLogit));
    total += logits[i];
  }
  return total;
}

void softmax(const Curve &exp, size_t count, int64_t *logits) {
  const int64_t total = exponentiate(exp, count, logits);
  for (size_t i = 0; i < count; ++i) {
    logits[i] = (logits[i] << kScoreBits) / total;
  }
}

}  // namespace aqd
