// What precedes the network and what follows it: docs/integer_contract.md,
// sections 6 to 8. The twin of program/detector.py.

#pragma once

#include <string>

#include "graph/run_order.h"

namespace aqd {

// Fractional bits: of a pixel in decoding and in a box, of deltas and logits,
// of a score, of an overlap.
constexpr int kGeometryBits = 12;
constexpr int kBoxBits = 8;
constexpr int kDeltaBits = 16;
constexpr int kScoreBits = 24;
constexpr int kOverlapBits = 16;
// The exponential of a softmax is read from here to 0; sigmoids up to the
// opposite as well.
constexpr int64_t kLowestLogit = -(int64_t{16} << kDeltaBits);
// Logits of a softmax are limited to it.
constexpr int64_t kLargestLogit = int64_t{1} << 30;
constexpr int kColours = 3;

struct PreProcess {
  int32_t short_side = 0, long_side = 0;
  bool is_bgr = false;
  bool is_whole = false;    // the border fills a square of the long side
  bool is_stretched = false;
  uint8_t fill[kColours] = {};
};

// A function as a table, read with linear interpolation.
struct Curve {
  std::vector<int32_t> table;
  int64_t first = 0;  // argument of the first value
  int bits = 0;       // values are 2^bits apart
};

// Of an anchor at the first position, Q12.
struct Anchor {
  int32_t x = 0, y = 0, width = 0, height = 0;
};

// Where boxes of a pyramid level start from.
struct BoxLevel {
  Size stride;
  Size offset;                  // of the first point, Q12
  std::vector<Anchor> anchors;  // none if boxes start from points
  int32_t edge = 0;             // distance that stands for exp(0), Q12

  int64_t priors() const {
    return anchors.empty() ? 1 : static_cast<int64_t>(anchors.size());
  }
};

enum class DecoderKind : uint8_t {
  kAnchors, kCells, kPoints, kExponents, kBins
};

struct Decoder {
  DecoderKind kind = DecoderKind::kAnchors;
  std::vector<BoxLevel> levels;     // from the finest
  std::vector<Multipliers> tables;  // of box codes: of each level for points
  int64_t limit = 0;                // of exponents, Q16
  Curve exp;
  Curve sigmoid;  // where in its cell a centre lies, Q16
  int32_t bins = 1;

  bool has_anchors() const {
    return kind == DecoderKind::kAnchors || kind == DecoderKind::kCells;
  }
};

enum class ScoreKind : uint8_t {
  kSigmoid, kProduct, kBestClass, kJoint, kGeometricMean, kSoftmax
};

struct Scores {
  ScoreKind kind = ScoreKind::kSigmoid;
  Multipliers logits, factors;  // to Q16
  Curve curve;                  // the sigmoid; the exponential of a softmax
  int64_t least = 0;            // smallest factor that counts, of a product

  bool has_factors() const {
    return kind != ScoreKind::kSigmoid && kind != ScoreKind::kSoftmax;
  }
};

struct PostProcess {
  Decoder decoder;
  Scores scores;
  int32_t classes = 0;  // without the background
  int64_t threshold = 0;
  int64_t candidates = 0, total = 0;  // at most, of a level and of all
  int64_t margin = 0;
  int64_t overlap = 0, keep = 0;  // of non-maximum suppression
};

// The kind of the network's outputs by which the pixels are chosen where the
// others are needed: logits, or the factors that are part of every score.
Choice choice_of(const PostProcess &post);

struct RegionStage {
  size_t first_map = 0;  // output of the network that is the finest map
  std::vector<int32_t> strides;
  int64_t finest = 0;
  int32_t bins = 0;
  int64_t samples = 0;
  int32_t channels = 0;     // of the maps
  int64_t largest = 0;      // magnitude of their codes
  size_t codes = 4;         // box codes: of all classes, or four of each
  Multipliers logits, deltas;
};

struct Regions {
  std::vector<RegionStage> stages;  // none if proposals are what is found
  int64_t limit = 0;
  Curve exp;
  Curve powers;
  int64_t threshold = 0;
  int64_t overlap = 0, keep = 0;  // of non-maximum suppression
};

struct Detector {
  PreProcess pre;
  PostProcess post;
  Regions regions;
  std::vector<std::string> labels;  // UTF-8

  bool has_regions() const { return !regions.stages.empty(); }
};

}  // namespace aqd
