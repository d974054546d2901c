// How good a candidate is: docs/integer_contract.md, section 7.

#pragma once

#include "detect/detector.h"

namespace aqd {

// What leaves a network: height x width x channels codes.
struct Map {
  const int32_t *codes = nullptr;
  int32_t channels = 0;
  Size size;

  int64_t pixels() const { return int64_t{size.height} * size.width; }
};

// A class of a prior. Its index counts rows, columns, priors and classes, which
// is the order of a map's logits.
struct Candidate {
  int64_t rank = 0;
  int64_t index = 0;
};

// The k best candidates. They are offered by growing index; of equal ones the
// first is better.
class TopK {
 public:
  TopK(int64_t count, int64_t least)
      : count_(static_cast<size_t>(count)), least_(least) {}

  // No candidate of a lower rank can be among them.
  int64_t least() const { return least_; }

  void offer(int64_t rank, int64_t index) {
    if (rank < least_) return;
    found_.push_back({rank, index});
    if (found_.size() == 2 * count_) shrink();
  }

  // Adds the candidates of other indices that another one holds.
  void add(const TopK &other);

  // The best ones, in order; nothing is offered afterwards.
  const std::vector<Candidate> &finish();

 private:
  void shrink();

  const size_t count_;
  int64_t least_;
  std::vector<Candidate> found_;
};

// Offers the candidates of some priors of a level, from the first to before the
// end, with the ranks that choose them.
void collect_candidates(const PostProcess &post, const Map &logits,
                        const Map *factors, int64_t first, int64_t end,
                        TopK *best);

// The rank by which a candidate is sorted for non-maximum suppression; factors
// are those of its level.
int64_t final_rank(const PostProcess &post, const Candidate &candidate,
                   const Map *factors);

// The score of a rank, in 2^-24.
int64_t score_of(const Scores &scores, int64_t rank);

// Replaces logits in Q16 by their softmax, in 2^-24.
void softmax(const Curve &exp, int64_t count, int64_t *logits);

}  // namespace aqd
