#include "format/read_detector.h"

#include <algorithm>

#include "format/part_reader.h"
#include "format/read_regions.h"

namespace aqd {
namespace {

// A square of such a side in pixels has an area that, in 256ths and times
// 2^16, fits 63 bits.
constexpr int64_t kMaxReach = 46340;

constexpr KindName<ScoreKind> kScoreKinds[] = {
    {"Sigmoid", ScoreKind::kSigmoid},
    {"Product", ScoreKind::kProduct},
    {"BestClass", ScoreKind::kBestClass},
    {"GeometricMean", ScoreKind::kGeometricMean},
    {"Softmax", ScoreKind::kSoftmax},
};

constexpr KindName<DecoderKind> kDecoderKinds[] = {
    {"Anchors", DecoderKind::kAnchors},
    {"Cells", DecoderKind::kCells},
    {"Points", DecoderKind::kPoints},
    {"Exponents", DecoderKind::kExponents},
    {"Bins", DecoderKind::kBins},
};

class PostProcessReader : public PartReader {
 public:
  PostProcessReader(const Program &network, Reader *reader, PostProcess *post)
      : PartReader(reader), network_(network), post_(*post) {}

  void read(const JsonNode &node, size_t labels, bool has_regions) {
    reader_.at("postprocess");
    post_.threshold = reader_.integer(node, "threshold", kPostProcessThreshold);
    post_.candidates =
        reader_.integer(node, "candidates", kPostProcessCandidates);
    post_.total = reader_.integer(node, "total", kPostProcessTotal);
    post_.keep = reader_.integer(node, "keep", kPostProcessKeep);
    post_.margin = reader_.integer(node, "margin", kPostProcessMargin);
    post_.overlap = reader_.integer(node, "overlap", kPostProcessOverlap);
    post_.classes = has_regions ? 1 : static_cast<int32_t>(labels);
    scores(reader_.child(node, "scores"));
    decoder(reader_.child(node, "decoder"));
    reader_.at("postprocess");
    reader_.done(node);
    if (!reader_.ok()) return;
    if (has_regions) {
      reader_.expect(!post_.scores.has_factors(),
                     "scores of Sigmoid or Softmax before a second stage",
                     "another kind");
      reader_.expect(post_.margin <= 0,
                     "a margin of at most 0 before a second stage",
                     text(post_.margin));
    }
    maps(has_regions);
  }

 private:
  void scores(const JsonNode &node) {
    reader_.at("scores");
    Scores &scores = post_.scores;
    scores.kind = kind(node, kScoreKinds);
    scores.logits = multipliers(node, "logits", 1);
    if (scores.kind == ScoreKind::kSoftmax) {
      scores.curve = powers(node, "exp");
    } else {
      scores.curve =
          curve(node, "curve", {kLowestLogit, -kLowestLogit}, kOneScore);
    }
    if (scores.has_factors()) scores.factors = multipliers(node, "factors", 1);
    if (scores.kind == ScoreKind::kProduct) {
      scores.least = reader_.integer(node, "least", kProductLeast);
    }
    reader_.done(node);
  }

  void decoder(const JsonNode &node) {
    reader_.at("decoder");
    Decoder &decoder = post_.decoder;
    decoder.kind = kind(node, kDecoderKinds);
    const auto levels = reader_.items(node, "levels");
    reader_.expect(!levels.empty(), "one level or more", "none");
    for (size_t i = 0; i < levels.size() && reader_.ok(); ++i) {
      reader_.at("level " + number(i));
      decoder.levels.push_back(level(*levels[i]));
    }
    reader_.at("decoder");
    switch (decoder.kind) {
      case DecoderKind::kAnchors:
        decoder.tables = {multipliers(node, "deltas", 4)};
        exponents(node, kAnchorsLimit, &decoder.limit, &decoder.exp);
        break;
      case DecoderKind::kCells:
        decoder.tables = {multipliers(node, "codes", 4)};
        decoder.sigmoid = curve(node, "sigmoid", {kLowestLogit, -kLowestLogit},
                                int64_t{1} << kDeltaBits);
        exponents(node, kCellsLimit, &decoder.limit, &decoder.exp);
        break;
      case DecoderKind::kPoints:
        for (const JsonNode *each : per_level(node, "distances")) {
          decoder.tables.push_back(multipliers(*each, 4));
        }
        break;
      case DecoderKind::kExponents:
        edges(node);
        decoder.tables = {multipliers(node, "codes", 4)};
        exponents(node, kExponentsLimit, &decoder.limit, &decoder.exp);
        break;
      case DecoderKind::kBins:
        decoder.bins = reader_.int32(node, "bins", kBinsBins);
        decoder.tables = {multipliers(node, "codes", 1)};
        decoder.exp = powers(node, "exp");
        break;
    }
    reader_.done(node);
  }

  BoxLevel level(const JsonNode &node) {
    BoxLevel made;
    if (!post_.decoder.has_anchors()) {
      made.stride = reader_.pair(node, "stride", kPointLevelStride);
      made.offset = reader_.pair(node, "offset", kPointLevelOffset);
      reader_.done(node);
      return made;
    }
    made.stride = reader_.pair(node, "stride", kAnchorLevelStride);
    std::vector<int64_t> shape;
    const std::vector<int32_t> base = reader_.int32s(node, "base", 2, &shape);
    reader_.done(node);
    if (!reader_.ok() ||
        !reader_.expect(shape[0] > 0 && shape[1] == 4,
                        "base: anchors of four numbers",
                        text(shape[0]) + " x " + text(shape[1]))) {
      return made;
    }
    for (size_t i = 0; i < base.size(); i += 4) {
      made.anchors.push_back({base[i], base[i + 1], base[i + 2], base[i + 3]});
    }
    return made;
  }

  // A list with an item for each level.
  std::vector<const JsonNode *> per_level(const JsonNode &node,
                                          const char *key) {
    auto found = reader_.items(node, key);
    const size_t count = post_.decoder.levels.size();
    reader_.expect(reader_.child(node, key), found.size() == count,
                   number(count) + ", as there are levels",
                   number(found.size()));
    return reader_.ok() ? found : std::vector<const JsonNode *>();
  }

  void edges(const JsonNode &node) {
    const auto found = per_level(node, "edges");
    for (size_t i = 0; i < found.size(); ++i) {
      post_.decoder.levels[i].edge =
          static_cast<int32_t>(reader_.integer(*found[i], kExponentsEdges));
    }
  }

  // Expects the network's first outputs to be what post-processing reads.
  void maps(bool has_regions) {
    const size_t kinds = post_.scores.has_factors() ? 3 : 2;
    const size_t count = post_.decoder.levels.size();
    const std::vector<int> &levels = network_.levels;
    bool fits = has_regions ? levels.size() >= kinds : levels.size() == kinds;
    for (size_t i = 0; i < kinds && fits; ++i) {
      fits = static_cast<size_t>(levels[i]) == count;
    }
    if (!reader_.expect(fits,
                        number(kinds) + " outputs of the network with " +
                        number(count) + " tensors each",
                        "others")) {
      return;
    }
    const int64_t classes =
        post_.classes + (post_.scores.kind == ScoreKind::kSoftmax ? 1 : 0);
    const int64_t channels[] = {classes, int64_t{4} * post_.decoder.bins, 1};
    for (size_t i = 0; i < kinds * count; ++i) {
      const Op &op = output_of(network_, i);
      const int64_t priors = post_.decoder.levels[i % count].priors();
      reader_.at("level " + number(i % count));
      reader_.expect(op.grid.type() == Type::kI32, "maps of int32",
                     "codes " + text(op.grid));
      reader_.expect(op.channels == channels[i / count] * priors,
                     "a map of " + text(channels[i / count] * priors) +
                     " channels as output " + number(i / count),
                     text(op.channels));
    }
  }

  const Program &network_;
  PostProcess &post_;
};

void read_labels(const JsonNode &root, Reader *reader,
                 std::vector<std::string> *labels) {
  reader->at("JSON");
  for (const JsonNode *label : reader->items(root, "labels")) {
    labels->emplace_back(reader->string(*label));
  }
  const int64_t count = static_cast<int64_t>(labels->size());
  reader->expect(kLabels.least <= count && count <= kLabels.most,
                 text(kLabels.least) + " to " + text(kLabels.most) + " labels",
                 text(count));
}

void read_preprocess(const JsonNode &node, int64_t margin, int64_t channels,
                     Reader *reader, PreProcess *pre) {
  reader->at("preprocess");
  pre->short_side = reader->int32(node, "short", kPreProcessShort);
  pre->long_side = reader->int32(node, "long", kPreProcessLong);
  reader->expect(pre->short_side <= pre->long_side, "short <= long",
                 text(pre->short_side) + " and " + text(pre->long_side));
  pre->is_bgr = reader->truth(node, "bgr");
  pre->is_whole = reader->truth(node, "whole");
  pre->is_stretched = reader->truth(node, "stretch");
  reader->truth(node, "oriented");  // for whoever reads files of images
  const auto fill = reader->items(node, "fill");
  reader->done(node);
  if (!reader->expect(fill.size() == kColours, "fill: three colours",
                      number(fill.size())) ||
      !reader->expect(channels == kColours, "a network of three colours",
                      text(channels))) {
    return;
  }
  for (size_t c = 0; c < kColours; ++c) {
    pre->fill[c] =
        static_cast<uint8_t>(reader->integer(*fill[c], kPreProcessFill));
  }
  const int64_t reach = pre->long_side + 2 * std::max<int64_t>(margin, 0);
  reader->expect(reach <= kMaxReach,
                 "a long side and two margins of at most " + text(kMaxReach),
                 text(reach));
}

}  // namespace

void read_detector(const JsonNode &root, const std::vector<Program> &programs,
                   Reader *reader, Detector *made) {
  *made = {};
  read_labels(root, reader, &made->labels);
  const size_t labels = made->labels.size();
  const JsonNode &regions = reader->child(root, "regions");
  const bool has_regions = regions.type != JsonType::kNull;
  PostProcessReader(programs[0], reader, &made->post)
      .read(reader->child(root, "postprocess"), labels, has_regions);
  if (reader->ok() && has_regions) {
    read_regions(regions, programs, labels, reader, &made->regions);
  }
  if (!reader->ok()) return;
  read_preprocess(reader->child(root, "preprocess"), made->post.margin,
                  programs[0].nodes[0].op.channels, reader, &made->pre);
  reader->at("JSON");
  reader->child(root, "program");  // which was read before
  reader->done(root);
}

}  // namespace aqd
