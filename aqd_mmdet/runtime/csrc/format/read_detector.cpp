#include "format/read_detector.h"

#include <algorithm>

namespace aqd {
namespace {

constexpr int64_t kMaxFrame = 1 << 14;
constexpr int64_t kMaxCount = 1 << 20;
constexpr int64_t kMaxExponent = 1 << 20;
constexpr int64_t kMaxBins = 64;
constexpr int64_t kMaxExp = 1 << 30;
constexpr int64_t kMaxRank = int64_t{1} << 48;
constexpr int64_t kMaxBias = int64_t{1} << 62;
// A square of such a side in pixels has an area that, in 256ths and times
// 2^16, fits 63 bits.
constexpr int64_t kMaxReach = 46340;

class DetectorReader {
 public:
  DetectorReader(const std::vector<Program> &programs, Reader *reader,
                 Detector *made)
      : programs_(programs), network_(programs[0]), reader_(*reader),
        made_(*made) {}

  void read(const JsonNode &root) {
    labels(root);
    const JsonNode &regions = reader_.child(root, "regions");
    const bool has_regions = regions.type != JsonType::kNull;
    reader_.at("post-processing");
    post_process(reader_.child(root, "postprocess"), has_regions);
    if (reader_.ok() && has_regions) second_stage(regions);
    if (reader_.ok()) pre_process(reader_.child(root, "preprocess"));
  }

 private:
  // The operator that makes an output.
  const Op &output(const Program &program, size_t index) const {
    return program.ops[static_cast<size_t>(program.outputs[index])];
  }

  int32_t small(const JsonNode &node, const char *key, int64_t low,
                int64_t high) {
    return static_cast<int32_t>(reader_.integer(node, key, low, high));
  }

  void labels(const JsonNode &root) {
    reader_.at("a label");
    for (const JsonNode *label :
         reader_.items(reader_.child(root, "labels"), JsonType::kArray)) {
      made_.labels.push_back(unescaped(reader_.string(*label)));
    }
    reader_.need(!made_.labels.empty(), "there");
    reader_.need(made_.labels.size() <= kMaxChannels, "one of few");
  }

  void pre_process(const JsonNode &node) {
    PreProcess &pre = made_.pre;
    reader_.at("pre-processing");
    pre.short_side = small(node, "short", 1, kMaxFrame);
    pre.long_side = small(node, "long", 1, kMaxFrame);
    reader_.need(pre.short_side <= pre.long_side, "short before long");
    pre.is_bgr = reader_.truth(reader_.child(node, "bgr"));
    pre.is_whole = reader_.truth(reader_.child(node, "whole"));
    pre.is_stretched = reader_.truth(reader_.child(node, "stretch"));
    // For whoever reads files of images.
    static_cast<void>(reader_.truth(reader_.child(node, "oriented")));
    const auto fill =
        reader_.items(reader_.child(node, "fill"), JsonType::kArray);
    const bool right =
        fill.size() == kColours && network_.ops[0].channels == kColours;
    if (!reader_.need(right, "of three colours")) return;
    for (size_t c = 0; c < kColours; ++c) {
      pre.fill[c] = static_cast<uint8_t>(reader_.integer(*fill[c], 0, 255));
    }
    const int64_t reach =
        pre.long_side + 2 * std::max<int64_t>(made_.post.margin, 0);
    reader_.need(reach <= kMaxReach, "one whose areas fit");
  }

  // Multipliers of numbers of 31 bits, with sums of 63.
  Multipliers multipliers(const JsonNode &node, const char *key,
                          int32_t channels) {
    return multipliers(reader_.child(node, key), channels);
  }

  Multipliers multipliers(const JsonNode &node, int32_t channels) {
    Multipliers found = reader_.multipliers(node, channels);
    for (const int64_t b : found.b) {
      reader_.need(-kMaxBias <= b && b <= kMaxBias, "proven to fit 63 bits");
    }
    return found;
  }

  // A curve that is read from low to high.
  Curve curve(const JsonNode &node, const char *key, int64_t low, int64_t high,
              int64_t largest) {
    const JsonNode &found = reader_.child(node, key);
    Curve made;
    std::vector<int64_t> shape;
    made.table = reader_.numbers(reader_.child(found, "table"), 1, &shape);
    made.bits = small(found, "bits", 0, 24);
    made.first = reader_.integer(found, "first", -INT64_MAX, low);
    if (!reader_.ok()) return made;
    const int64_t last =
        made.first + (shape[0] - 1) * (int64_t{1} << made.bits);
    if (!reader_.need(high < last, "one of curves of their whole range")) {
      return made;
    }
    for (const int32_t value : made.table) {
      const bool right = 0 <= value && value <= largest;
      if (!reader_.need(right, "one of curves in their range")) break;
    }
    return made;
  }

  // The exponential of Q16 numbers from -16 to 0, in 2^-24.
  Curve powers(const JsonNode &node, const char *key) {
    Curve made = curve(node, key, kLowestLogit, 0, int64_t{1} << kScoreBits);
    if (!reader_.ok()) return made;
    // Shares are divided by their sum, in which one argument is 0.
    const int64_t one = int64_t{1} << made.bits;
    const size_t i = static_cast<size_t>(-made.first >> made.bits);
    const int64_t r = -made.first & (one - 1);
    const int64_t sum = made.table[i] * (one - r) + made.table[i + 1] * r;
    reader_.need(sum + (one >> 1) >= one, "one of a curve above 0 at 0");
    return made;
  }

  void exponents(const JsonNode &node, int64_t *limit, Curve *exp) {
    *limit = reader_.integer(node, "limit", 1, kMaxExponent);
    *exp = curve(node, "exp", -*limit, *limit, kMaxExp);
  }

  void post_process(const JsonNode &node, bool has_regions) {
    PostProcess &post = made_.post;
    post.threshold = reader_.integer(node, "threshold", -kMaxRank, kMaxRank);
    post.candidates = reader_.integer(node, "candidates", 1, kMaxCount);
    post.total = reader_.integer(node, "total", 1, kMaxCount);
    post.keep = reader_.integer(node, "keep", 1, kMaxCount);
    post.margin = reader_.integer(node, "margin", -1, kMaxFrame);
    post.overlap = reader_.integer(node, "overlap", 0, 1 << kOverlapBits);
    post.classes =
        has_regions ? 1 : static_cast<int32_t>(made_.labels.size());
    scores(reader_.child(node, "scores"));
    decoder(reader_.child(node, "decoder"));
    if (!reader_.ok()) return;
    if (has_regions) {
      reader_.need(!post.scores.has_factors(), "of two kinds of maps");
      reader_.need(post.margin <= 0, "one of proposals inside the image");
    }
    maps(has_regions);
  }

  void scores(const JsonNode &node) {
    constexpr const char *kNames[] = {"Sigmoid", "Product", "BestClass",
                                      "GeometricMean", "Softmax"};
    Scores &scores = made_.post.scores;
    scores.kind = static_cast<ScoreKind>(kind(node, kNames));
    scores.logits = multipliers(node, "logits", 1);
    if (scores.kind == ScoreKind::kSoftmax) {
      scores.curve = powers(node, "exp");
    } else {
      scores.curve = curve(node, "curve", kLowestLogit, -kLowestLogit,
                           int64_t{1} << kScoreBits);
    }
    if (scores.has_factors()) scores.factors = multipliers(node, "factors", 1);
    if (scores.kind == ScoreKind::kProduct) {
      scores.least = reader_.integer(node, "least", -(int64_t{1} << 31),
                                     int64_t{1} << 31);
    }
  }

  void decoder(const JsonNode &node) {
    constexpr const char *kNames[] = {"Anchors", "Cells", "Points",
                                      "Exponents", "Bins"};
    Decoder &decoder = made_.post.decoder;
    decoder.kind = static_cast<DecoderKind>(kind(node, kNames));
    for (const JsonNode *entry :
         reader_.items(reader_.child(node, "levels"), JsonType::kArray)) {
      decoder.levels.push_back(level(*entry));
    }
    switch (decoder.kind) {
      case DecoderKind::kAnchors:
        decoder.tables = {multipliers(node, "deltas", 4)};
        break;
      case DecoderKind::kPoints:
        distances(node);
        break;
      case DecoderKind::kBins:
        decoder.bins = small(node, "bins", 1, kMaxBins);
        decoder.tables = {multipliers(node, "codes", 1)};
        decoder.exp = powers(node, "exp");
        break;
      case DecoderKind::kExponents:
        edges(node);
        decoder.tables = {multipliers(node, "codes", 4)};
        break;
      case DecoderKind::kCells:
        decoder.tables = {multipliers(node, "codes", 4)};
        decoder.sigmoid = curve(node, "sigmoid", kLowestLogit, -kLowestLogit,
                                int64_t{1} << kDeltaBits);
        break;
    }
    if (decoder.has_anchors() || decoder.kind == DecoderKind::kExponents) {
      exponents(node, &decoder.limit, &decoder.exp);
    }
  }

  BoxLevel level(const JsonNode &node) {
    BoxLevel made;
    made.stride = reader_.pair(node, "stride", 1, kMaxStride);
    if (!made_.post.decoder.has_anchors()) {
      made.offset = reader_.pair(node, "offset", -(1 << 24), 1 << 24);
      return made;
    }
    std::vector<int64_t> shape;
    const std::vector<int32_t> base =
        reader_.numbers(reader_.child(node, "base"), 2, &shape);
    const bool right = reader_.ok() && shape[0] > 0 && shape[1] == 4;
    if (!reader_.need(right, "one of anchors")) return made;
    for (size_t i = 0; i < base.size(); i += 4) {
      made.anchors.push_back({base[i], base[i + 1], base[i + 2], base[i + 3]});
    }
    return made;
  }

  void distances(const JsonNode &node) {
    Decoder &decoder = made_.post.decoder;
    for (const JsonNode *entry :
         reader_.items(reader_.child(node, "distances"), JsonType::kArray)) {
      decoder.tables.push_back(multipliers(*entry, 4));
    }
    reader_.need(decoder.tables.size() == decoder.levels.size(),
                 "one of distances of each level");
  }

  void edges(const JsonNode &node) {
    std::vector<BoxLevel> &levels = made_.post.decoder.levels;
    const auto found =
        reader_.items(reader_.child(node, "edges"), JsonType::kArray);
    if (!reader_.need(found.size() == levels.size(),
                      "one of edges of each level")) {
      return;
    }
    for (size_t i = 0; i < levels.size(); ++i) {
      levels[i].edge =
          static_cast<int32_t>(reader_.integer(*found[i], 1, 1 << 24));
    }
  }

  // Whether the network's first outputs are what post-processing reads.
  void maps(bool has_regions) {
    const PostProcess &post = made_.post;
    const size_t kinds = post.scores.has_factors() ? 3 : 2;
    const size_t count = post.decoder.levels.size();
    const std::vector<int> &levels = network_.levels;
    bool right = has_regions ? levels.size() >= kinds : levels.size() == kinds;
    for (size_t i = 0; i < kinds && right; ++i) {
      right = static_cast<size_t>(levels[i]) == count;
    }
    if (!reader_.need(right, "one of maps of all levels")) return;
    const int64_t classes =
        post.classes + (post.scores.kind == ScoreKind::kSoftmax ? 1 : 0);
    const int64_t channels[] = {classes, 4 * post.decoder.bins, 1};
    for (size_t i = 0; i < kinds * count; ++i) {
      const Op &op = output(network_, i);
      const int64_t priors = post.decoder.levels[i % count].priors();
      reader_.need(op.grid.type() == Type::kI32, "one of maps of int32");
      reader_.need(op.channels == channels[i / count] * priors,
                   "one of maps of its anchors and of the labels");
    }
  }

  void second_stage(const JsonNode &node) {
    Regions &regions = made_.regions;
    reader_.at("the second stage");
    const auto stages =
        reader_.items(reader_.child(node, "stages"), JsonType::kArray);
    reader_.need(!stages.empty(), "one of stages");
    for (size_t i = 0; i < stages.size(); ++i) {
      reader_.at("stage " + std::to_string(static_cast<int>(i)));
      regions.stages.push_back(stage(*stages[i], programs_[i + 1]));
      if (!reader_.ok()) return;
    }
    reader_.at("the second stage");
    exponents(node, &regions.limit, &regions.exp);
    regions.powers = powers(node, "powers");
    regions.threshold = reader_.integer(node, "threshold", 0, 1 << 25);
    regions.overlap = reader_.integer(node, "overlap", 0, 1 << kOverlapBits);
    regions.keep = reader_.integer(node, "keep", 1, kMaxCount);
  }

  RegionStage stage(const JsonNode &node, const Program &program) {
    RegionStage made;
    const std::vector<int> &levels = network_.levels;
    const size_t features = static_cast<size_t>(reader_.integer(
        node, "features", 0, static_cast<int64_t>(levels.size()) - 1));
    for (const JsonNode *stride :
         reader_.items(reader_.child(node, "strides"), JsonType::kArray)) {
      made.strides.push_back(
          static_cast<int32_t>(reader_.integer(*stride, 1, kMaxStride)));
    }
    const size_t count = made.strides.size();
    made.finest = reader_.integer(node, "finest", 1, 1 << 14);
    made.bins = small(node, "bins", 1, kMaxBins);
    made.samples = reader_.integer(node, "samples", 0, kMaxBins);
    made.logits = multipliers(node, "logits", 1);
    made.deltas = multipliers(node, "deltas", 4);
    const bool reads = reader_.ok() && count > 0 &&
                       static_cast<size_t>(levels[features]) == count;
    if (!reader_.need(reads, "one that reads a map of each stride")) {
      return made;
    }
    // So that the area where the last map begins fits 63 bits.
    reader_.need(count <= 31 && made.finest << (kBoxBits + count - 1) < 1 << 30,
                 "one of few maps");
    for (size_t i = 0; i < features; ++i) {
      made.first_map += static_cast<size_t>(levels[i]);
    }
    const Op &region = program.ops[0];
    made.channels = region.channels;
    for (size_t i = 0; i < count; ++i) {
      const Op &map = output(network_, made.first_map + i);
      const int64_t limit = magnitude(map.grid);
      made.largest = std::max(made.largest, limit);
      // So that the sum of a bin fits 63 bits.
      reader_.need(limit <= 1 << 15, "one of codes of 16 bits");
      // What lies outside of a map counts as 0.
      const int64_t unit = int64_t{1} << kMeanBits;
      reader_.need(holds(region.grid, std::min(map.grid.low, 0) * unit,
                         std::max(map.grid.high, 0) * unit),
                   "one of its codes");
      reader_.need(map.channels == made.channels, "one of its channels");
    }
    const bool right = program.levels == std::vector<int>{1, 1};
    if (!reader_.need(right, "a program of logits and box codes")) return made;
    reader_.need(made.bins % program.stride == 0, "of a program of its bins");
    const Op &logits = output(program, 0), &codes = output(program, 1);
    const int64_t classes = static_cast<int64_t>(made_.labels.size());
    reader_.need(logits.grid.type() == Type::kI32 &&
                     codes.grid.type() == Type::kI32,
                 "a program of int32");
    reader_.need(logits.channels == classes + 1,
                 "a program of all labels and the background");
    reader_.need(codes.channels == 4 || codes.channels == 4 * classes,
                 "a program of four box codes, of each label or one");
    made.is_agnostic = codes.channels == 4;
    return made;
  }

  // The index of a node's kind among names.
  template <size_t N>
  size_t kind(const JsonNode &node, const char *const (&names)[N]) {
    const std::string_view word = reader_.string(reader_.child(node, "kind"));
    for (size_t i = 0; i < N; ++i) {
      if (word == names[i]) return i;
    }
    reader_.need(false, "of a kind that there is");
    return 0;
  }

  const std::vector<Program> &programs_;
  const Program &network_;
  Reader &reader_;
  Detector &made_;
};

}  // namespace

void read_detector(const JsonNode &root, const std::vector<Program> &programs,
                   Reader *reader, Detector *made) {
  *made = {};
  DetectorReader(programs, reader, made).read(root);
}

}  // namespace aqd
