#include <algorithm>

#include "format/parts.h"

namespace aqd {
namespace {

// A square of such a side in pixels has an area that, in 256ths and times
// 2^16, fits 63 bits.
constexpr int64_t kMaxReach = 46340;

// A kind, by its name in the file.
template <typename Kind>
struct KindName {
  const char *name;
  Kind kind;
};

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

template <typename Kind, size_t N>
Kind read_kind(const Value &part, const KindName<Kind> (&kinds)[N]) {
  const std::string_view word = part["kind"].string();
  std::string names;
  for (const KindName<Kind> &each : kinds) {
    if (word == each.name) return each.kind;
    names += (names.empty() ? "" : ", ") + std::string(each.name);
  }
  part.reader().expect(false, "kind: one of " + names, quoted(word));
  return kinds[0].kind;
}

void read_scores(const Value &value, Scores *scores) {
  value.reader().at("scores");
  scores->kind = read_kind(value, kScoreKinds);
  scores->logits = read_multipliers(value["logits"], 1);
  if (scores->kind == ScoreKind::kSoftmax) {
    scores->curve = read_powers(value["exp"]);
  } else {
    scores->curve =
        read_curve(value["curve"], {kLowestLogit, -kLowestLogit}, kOneScore);
  }
  if (scores->has_factors()) {
    scores->factors = read_multipliers(value["factors"], 1);
  }
  if (scores->kind == ScoreKind::kProduct) {
    scores->least = value["least"].integer(kProductLeast);
  }
  value.done();
}

BoxLevel read_level(const Value &value, bool has_anchors) {
  Reader &reader = value.reader();
  BoxLevel made;
  if (!has_anchors) {
    made.stride = value["stride"].pair(kPointLevelStride);
    made.offset = value["offset"].pair(kPointLevelOffset);
    value.done();
    return made;
  }
  made.stride = value["stride"].pair(kAnchorLevelStride);
  const Array base = value["base"].array("int32", 2);
  value.done();
  if (!reader.ok() ||
      !reader.expect(base.shape[0] > 0 && base.shape[1] == 4,
                     "base: anchors of four numbers",
                     text(base.shape[0]) + " x " + text(base.shape[1]))) {
    return made;
  }
  const std::vector<int32_t> sides = base.copy<int32_t>();
  for (size_t i = 0; i < sides.size(); i += 4) {
    made.anchors.push_back({sides[i], sides[i + 1], sides[i + 2], sides[i + 3]});
  }
  return made;
}

// The items of a list with one for each level.
std::vector<Value> per_level(const Value &list, const Decoder &decoder) {
  auto found = list.items();
  const size_t count = decoder.levels.size();
  const bool fits = list.expect(found.size() == count,
                                text(count) + ", as there are levels",
                                text(found.size()));
  return fits ? found : std::vector<Value>();
}

void read_decoder(const Value &value, Decoder *decoder) {
  Reader &reader = value.reader();
  reader.at("decoder");
  decoder->kind = read_kind(value, kDecoderKinds);
  const auto levels = value["levels"].items();
  reader.expect(!levels.empty(), "one level or more", "none");
  for (size_t i = 0; i < levels.size() && reader.ok(); ++i) {
    reader.at("level " + text(i));
    decoder->levels.push_back(read_level(levels[i], decoder->has_anchors()));
  }
  reader.at("decoder");
  switch (decoder->kind) {
    case DecoderKind::kAnchors:
      decoder->tables = {read_multipliers(value["deltas"], 4)};
      read_exponents(value, kAnchorsLimit, &decoder->limit, &decoder->exp);
      break;
    case DecoderKind::kCells:
      decoder->tables = {read_multipliers(value["codes"], 4)};
      decoder->sigmoid =
          read_curve(value["sigmoid"], {kLowestLogit, -kLowestLogit},
                     int64_t{1} << kDeltaBits);
      read_exponents(value, kCellsLimit, &decoder->limit, &decoder->exp);
      break;
    case DecoderKind::kPoints:
      for (const Value &each : per_level(value["distances"], *decoder)) {
        decoder->tables.push_back(read_multipliers(each, 4));
      }
      break;
    case DecoderKind::kExponents: {
      auto level = decoder->levels.begin();
      for (const Value &each : per_level(value["edges"], *decoder)) {
        (level++)->edge = each.int32(kExponentsEdges);
      }
      decoder->tables = {read_multipliers(value["codes"], 4)};
      read_exponents(value, kExponentsLimit, &decoder->limit, &decoder->exp);
      break;
    }
    case DecoderKind::kBins:
      decoder->bins = value["bins"].int32(kBinsBins);
      decoder->tables = {read_multipliers(value["codes"], 1)};
      decoder->exp = read_powers(value["exp"]);
      break;
  }
  value.done();
}

// Expects the network's first outputs to be what post-processing reads.
void check_maps(const Program &network, const PostProcess &post,
                bool has_regions, Reader *reader) {
  const size_t kinds = post.scores.has_factors() ? 3 : 2;
  const size_t count = post.decoder.levels.size();
  const std::vector<size_t> &levels = network.levels;
  bool fits = has_regions ? levels.size() >= kinds : levels.size() == kinds;
  for (size_t i = 0; i < kinds && fits; ++i) fits = levels[i] == count;
  if (!reader->expect(fits,
                      text(kinds) + " outputs of the network with " +
                      text(count) + " tensors each",
                      "others")) {
    return;
  }
  const int64_t classes =
      post.classes + (post.scores.kind == ScoreKind::kSoftmax ? 1 : 0);
  const int64_t channels[] = {classes, int64_t{4} * post.decoder.bins, 1};
  for (size_t i = 0; i < kinds * count; ++i) {
    const Op &op = network.output(i);
    const int64_t expected =
        channels[i / count] * post.decoder.levels[i % count].priors();
    reader->at("level " + text(i % count));
    reader->expect(op.grid.type() == Type::kI32, "maps of int32",
                   "codes " + text(op.grid));
    reader->expect(op.channels == expected,
                   "a map of " + text(expected) + " channels as output " +
                   text(i / count),
                   op.channels);
  }
}

void read_postprocess(const Value &value, const Program &network,
                      size_t labels, bool has_regions, PostProcess *post) {
  Reader &reader = value.reader();
  reader.at("postprocess");
  post->threshold = value["threshold"].integer(kPostProcessThreshold);
  post->candidates = value["candidates"].integer(kPostProcessCandidates);
  post->total = value["total"].integer(kPostProcessTotal);
  post->keep = value["keep"].integer(kPostProcessKeep);
  post->margin = value["margin"].integer(kPostProcessMargin);
  post->overlap = value["overlap"].integer(kPostProcessOverlap);
  post->classes = has_regions ? 1 : static_cast<int32_t>(labels);
  read_scores(value["scores"], &post->scores);
  read_decoder(value["decoder"], &post->decoder);
  reader.at("postprocess");
  value.done();
  if (!reader.ok()) return;
  if (has_regions) {
    reader.expect(!post->scores.has_factors(),
                  "scores of Sigmoid or Softmax before a second stage",
                  "another kind");
    reader.expect(post->margin <= 0,
                  "a margin of at most 0 before a second stage", post->margin);
  }
  check_maps(network, *post, has_regions, &reader);
}

void read_preprocess(const Value &value, int64_t margin, int32_t channels,
                     PreProcess *pre) {
  Reader &reader = value.reader();
  reader.at("preprocess");
  pre->short_side = value["short"].int32(kPreProcessShort);
  pre->long_side = value["long"].int32(kPreProcessLong);
  reader.expect(pre->short_side <= pre->long_side, "short <= long",
                text(pre->short_side) + " and " + text(pre->long_side));
  pre->is_bgr = value["bgr"].truth();
  pre->is_whole = value["whole"].truth();
  pre->is_stretched = value["stretch"].truth();
  value["oriented"].truth();  // for whoever reads files of images
  const auto fill = value["fill"].items();
  value.done();
  if (!reader.expect(fill.size() == kColours, "fill: three colours",
                     fill.size()) ||
      !reader.expect(channels == kColours, "a network of three colours",
                     channels)) {
    return;
  }
  for (size_t c = 0; c < kColours; ++c) {
    pre->fill[c] = static_cast<uint8_t>(fill[c].integer(kPreProcessFill));
  }
  const int64_t reach = pre->long_side + 2 * std::max<int64_t>(margin, 0);
  reader.expect(reach <= kMaxReach,
                "a long side and two margins of at most " + text(kMaxReach),
                reach);
}

}  // namespace

void read_detector(const Value &root, const std::vector<Program> &programs,
                   Detector *made) {
  *made = {};
  Reader &reader = root.reader();
  reader.at("JSON");
  for (const Value &label : root["labels"].items()) {
    made->labels.emplace_back(label.string());
  }
  const size_t labels = made->labels.size();
  reader.expect(kLabels.hold(static_cast<int64_t>(labels)),
                text(kLabels.least) + " to " + text(kLabels.most) + " labels",
                labels);
  const Value regions = root["regions"];
  read_postprocess(root["postprocess"], programs[0], labels,
                   !regions.is_null(), &made->post);
  if (reader.ok() && !regions.is_null()) {
    read_regions(regions, programs, labels, &made->regions);
  }
  if (!reader.ok()) return;
  read_preprocess(root["preprocess"], made->post.margin,
                  programs[0].nodes[0].op.channels, &made->pre);
  reader.at("JSON");
  static_cast<void>(root["program"]);  // which was read before
  root.done();
}

}  // namespace aqd
