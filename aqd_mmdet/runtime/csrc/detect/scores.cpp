#include "detect/scores.h"

#include <algorithm>

#include "detect/curves.h"

namespace aqd {
namespace {

// Logits that are compared with a threshold at once.
constexpr int64_t kBlock = 64;

bool is_better(const Candidate &a, const Candidate &b) {
  return a.rank != b.rank ? a.rank > b.rank : a.index < b.index;
}

int64_t sigmoid(const Scores &scores, const Multipliers &table, int64_t x) {
  return read_curve(scores.curve,
                    requantize(x, table, 0, kLowestLogit, -kLowestLogit));
}

// The product of two sigmoids in 2^-48.
int64_t product(const Scores &scores, int64_t logit, int64_t factor) {
  return sigmoid(scores, scores.logits, logit) *
         sigmoid(scores, scores.factors, factor);
}

// Whether all of a block's codes are below one, without a branch.
bool are_below(const int32_t *codes, int32_t least) {
  int32_t all = -1;
  for (int64_t i = 0; i < kBlock; ++i) all &= codes[i] < least ? -1 : 0;
  return all != 0;
}

// Offers the logits themselves, of places whose factor counts.
void collect_logits(const PostProcess &post, const Map &logits,
                    const Map *factors, int64_t place, int64_t places,
                    TopK *best) {
  const int64_t count = places * post.classes;
  for (int64_t start = place * post.classes; start < count; start += kBlock) {
    const int64_t end = std::min(start + kBlock, count);
    const int64_t least = std::max<int64_t>(best->least(), INT32_MIN);
    if (least > INT32_MAX) return;
    if (end - start == kBlock &&
        are_below(logits.codes + start, static_cast<int32_t>(least))) {
      continue;
    }
    for (int64_t i = start; i < end; ++i) {
      if (logits.codes[i] < best->least()) continue;
      if (factors != nullptr &&
          factors->codes[i / post.classes] < post.scores.least) {
        continue;
      }
      best->offer(logits.codes[i], i);
    }
  }
}

// Offers the best class of each place.
void collect_best_class(const PostProcess &post, const Map &logits,
                        const Map &factors, int64_t place, int64_t places,
                        TopK *best) {
  for (; place < places; ++place) {
    const int32_t *first = logits.codes + place * post.classes;
    const int64_t label =
        std::max_element(first, first + post.classes) - first;
    best->offer(product(post.scores, first[label], factors.codes[place]),
                place * post.classes + label);
  }
}

void collect_products(const PostProcess &post, const Map &logits,
                      const Map &factors, int64_t place, int64_t places,
                      TopK *best) {
  const Scores &scores = post.scores;
  for (; place < places; ++place) {
    const int64_t factor =
        sigmoid(scores, scores.factors, factors.codes[place]);
    for (int64_t i = place * post.classes; i < (place + 1) * post.classes;
         ++i) {
      best->offer(sigmoid(scores, scores.logits, logits.codes[i]) * factor, i);
    }
  }
}

void collect_softmax(const PostProcess &post, const Map &logits, int64_t place,
                     int64_t places, TopK *best) {
  const int64_t all = post.classes + 1;
  std::vector<int64_t> ranks(static_cast<size_t>(all));
  for (; place < places; ++place) {
    for (int64_t c = 0; c < all; ++c) {
      ranks[static_cast<size_t>(c)] =
          requantize(logits.codes[place * all + c], post.scores.logits, 0,
                     -kLargestLogit, kLargestLogit);
    }
    softmax(post.scores.curve, all, ranks.data());
    for (int64_t c = 0; c < post.classes; ++c) {
      best->offer(ranks[static_cast<size_t>(c)], place * post.classes + c);
    }
  }
}

}  // namespace

void TopK::shrink() {
  const auto last = found_.begin() + static_cast<ptrdiff_t>(count_) - 1;
  std::nth_element(found_.begin(), last, found_.end(), is_better);
  found_.resize(count_);
  // Later candidates have larger indices, so that one of equal rank loses.
  least_ = std::max(least_, found_.back().rank + 1);
}

void TopK::add(const TopK &other) {
  found_.insert(found_.end(), other.found_.begin(), other.found_.end());
}

const std::vector<Candidate> &TopK::finish() {
  if (found_.size() > count_) shrink();
  std::sort(found_.begin(), found_.end(), is_better);
  return found_;
}

void collect_candidates(const PostProcess &post, const Map &logits,
                        const Map *factors, int64_t first, int64_t end,
                        TopK *best) {
  switch (post.scores.kind) {
    case ScoreKind::kSigmoid:
    case ScoreKind::kProduct:
      return collect_logits(post, logits, factors, first, end, best);
    case ScoreKind::kBestClass:
      return collect_best_class(post, logits, *factors, first, end, best);
    case ScoreKind::kGeometricMean:
      return collect_products(post, logits, *factors, first, end, best);
    case ScoreKind::kSoftmax:
      return collect_softmax(post, logits, first, end, best);
  }
}

int64_t final_rank(const PostProcess &post, const Candidate &candidate,
                   const Map *factors) {
  if (post.scores.kind != ScoreKind::kProduct) return candidate.rank;
  return product(post.scores, candidate.rank,
                 factors->codes[candidate.index / post.classes]);
}

int64_t score_of(const Scores &scores, int64_t rank) {
  switch (scores.kind) {
    case ScoreKind::kSigmoid:
      return sigmoid(scores, scores.logits, rank);
    case ScoreKind::kProduct:
    case ScoreKind::kBestClass:
      return rounded(rank, kScoreBits);
    case ScoreKind::kGeometricMean:
      return square_root(rank);
    case ScoreKind::kSoftmax:
      break;
  }
  return rank;
}

void softmax(const Curve &exp, int64_t count, int64_t *logits) {
  const int64_t largest = *std::max_element(logits, logits + count);
  int64_t total = 0;
  for (int64_t c = 0; c < count; ++c) {
    logits[c] = read_curve(exp, std::max(logits[c] - largest, kLowestLogit));
    total += logits[c];
  }
  for (int64_t c = 0; c < count; ++c) {
    logits[c] = (logits[c] << kScoreBits) / total;
  }
}

}  // namespace aqd
