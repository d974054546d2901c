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

// A class at a place. Its index counts them by row, column, prior and class,
// which is the order in which a map has its logits.
struct Candidate {
  int64_t rank = 0;
  int64_t index = 0;
};

// The best of the candidates that are offered by growing index; of equal ones
// the first.
class Best {
 public:
  Best(int64_t count, int64_t least)
      : count_(static_cast<size_t>(count)), least_(least) {}

  // Candidates of a lower rank are not among them.
  int64_t least() const { return least_; }

  void offer(int64_t rank, int64_t index) {
    if (rank < least_) return;
    found_.push_back({rank, index});
    if (found_.size() == 2 * count_) shrink();
  }

  // Adds what another one has found, of other indices.
  void add(const Best &other);

  // The best ones, in order; nothing is offered afterwards.
  const std::vector<Candidate> &finish();

 private:
  void shrink();

  const size_t count_;
  int64_t least_;
  std::vector<Candidate> found_;
};

// Offers the candidates of a pyramid level with the ranks that they are chosen
// by, of its places from one to before another.
void rank_places(const PostProcess &post, const Map &logits, const Map *factors,
                 int64_t first, int64_t end, Best *best);

// The rank that a candidate is ordered by; factors are its level's.
int64_t last_rank(const PostProcess &post, const Candidate &candidate,
                  const Map *factors);

// What people are shown of a rank, in 2^-24.
int64_t shown(const Scores &scores, int64_t rank);

// Replaces logits in Q16 by the classes' shares, in 2^-24.
void shares(const Curve &exp, int64_t count, int64_t *logits);

}  // namespace aqd
