#include <algorithm>

#include "detect/curves.h"
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

// The k best candidates of a level. They are offered by growing index; of equal
// ones the first is better.
class TopK {
 public:
  TopK(int64_t count, int64_t least, size_t level)
      : count_(static_cast<size_t>(count)), least_(least), level_(level) {}

  // No candidate of a lower rank can be among them.
  int64_t least() const { return least_; }

  void offer(int64_t rank, int64_t index) {
    if (rank < least_) return;
    found_.push_back({rank, level_, index});
    if (found_.size() == 2 * count_) shrink();
  }

  // Adds the candidates of other indices that another one holds.
  void add(const TopK &other) {
    found_.insert(found_.end(), other.found_.begin(), other.found_.end());
  }

  // The best ones, in order; nothing is offered afterwards.
  const std::vector<Candidate> &finish() {
    if (found_.size() > count_) shrink();
    std::sort(found_.begin(), found_.end(), is_better);
    return found_;
  }

 private:
  void shrink() {
    const auto last = found_.begin() + static_cast<ptrdiff_t>(count_) - 1;
    std::nth_element(found_.begin(), last, found_.end(), is_better);
    found_.resize(count_);
    // Later candidates have larger indices, so that one of equal rank loses.
    least_ = std::max(least_, found_.back().rank + 1);
  }

  const size_t count_;
  int64_t least_;
  const size_t level_;
  std::vector<Candidate> found_;
};

int64_t sigmoid(const Scores &scores, const Multipliers &table, int64_t x) {
  return read_curve(scores.curve, requantize(x, table, 0, -kLowestLogit));
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

// The factors of a level, one for each prior; null if scores have none.
const int32_t *factors_of(const PostProcess &post, const std::vector<Map> &maps,
                          size_t level) {
  return post.scores.has_factors()
             ? maps[2 * post.decoder.levels.size() + level].codes
             : nullptr;
}

// Offers logits from the first to before the end; of priors whose factor counts,
// if there are factors.
void offer_logits(const PostProcess &post, const int32_t *logits,
                  const int32_t *factors, int64_t first, int64_t end,
                  TopK *best) {
  for (int64_t i = first; i < end;) {
    const int64_t least = std::max<int64_t>(best->least(), INT32_MIN);
    if (least > INT32_MAX) return;
    const int64_t next = std::min(i + kBlock, end);
    if (next - i == kBlock &&
        are_below(logits + i, static_cast<int32_t>(least))) {
      i = next;
      continue;
    }
    for (; i < next; ++i) {
      if (logits[i] < best->least()) continue;
      if (factors == nullptr || factors[i / post.classes] >= post.scores.least) {
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
  const int64_t classes = post.classes;
  std::vector<int64_t> shares(static_cast<size_t>(classes + 1));
  if (scores.kind == ScoreKind::kSigmoid || scores.kind == ScoreKind::kProduct) {
    offer_logits(post, logits, factors, first * classes, end * classes, best);
    return;
  }
  for (int64_t prior = first; prior < end; ++prior) {
    const int64_t start = prior * classes;
    const int32_t *own = logits + start;
    if (scores.kind == ScoreKind::kBestClass) {
      const int64_t label = std::max_element(own, own + classes) - own;
      best->offer(product(scores, own[label], factors[prior]), start + label);
    } else if (scores.kind == ScoreKind::kGeometricMean) {
      const int64_t factor = sigmoid(scores, scores.factors, factors[prior]);
      for (int64_t c = 0; c < classes; ++c) {
        best->offer(sigmoid(scores, scores.logits, own[c]) * factor, start + c);
      }
    } else {
      own += prior;  // each prior has a logit more, of the background
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

}  // namespace

// Priors are divided among threads into few parts, since each part begins with
// the lowest threshold again.
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
  TopK all(post.candidates, post.threshold, level);
  std::vector<TopK> best(static_cast<size_t>(parts), all);
  pool->run(parts, [&](int64_t part, int) {
    const int64_t first = part * together;
    offer_candidates(post, logits.codes, factors_of(post, maps, level), first,
                     std::min(first + together, priors),
                     &best[static_cast<size_t>(part)]);
  });
  for (const TopK &each : best) all.add(each);
  return all.finish();
}

void keep_top(int64_t count, std::vector<Candidate> *candidates) {
  if (static_cast<size_t>(count) >= candidates->size()) return;
  std::vector<Candidate> ranked = *candidates;
  const auto last = ranked.begin() + static_cast<ptrdiff_t>(count) - 1;
  std::nth_element(ranked.begin(), last, ranked.end(), is_better);
  const auto is_worse = [&](const Candidate &each) {
    return is_better(*last, each);
  };
  candidates->erase(
      std::remove_if(candidates->begin(), candidates->end(), is_worse),
      candidates->end());
}

int64_t final_rank(const PostProcess &post, const std::vector<Map> &maps,
                   const Candidate &candidate) {
  if (post.scores.kind != ScoreKind::kProduct) return candidate.rank;
  const int32_t *factors = factors_of(post, maps, candidate.level);
  return product(post.scores, candidate.rank,
                 factors[candidate.index / post.classes]);
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
