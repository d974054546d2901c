#include <algorithm>

#include "format/model.h"
#include "format/reader.h"

namespace aqd {
namespace {

// A square of such a side in pixels has an area that, in 256ths and times
// 2^16, fits 63 bits.
constexpr int64_t kMaxReach = 46340;
constexpr int64_t kOneScore = int64_t{1} << kScoreBits;
constexpr int64_t kMaxExp = 1 << 30;

// Names of kinds in the file, in the order of ScoreKind and DecoderKind.
constexpr const char *kScoreKinds[] = {"Sigmoid", "Product", "BestClass",
                                       "Joint",   "GeometricMean", "Softmax"};
constexpr const char *kDecoderKinds[] = {"Anchors", "Cells", "Points",
                                         "Exponents", "Bins"};

template <typename Kind, size_t N>
Kind read_kind(const Value &part, const char *const (&kinds)[N]) {
  const std::string_view word = part["kind"].string();
  std::string names;
  for (const char *const &kind : kinds) {
    if (word == kind) return static_cast<Kind>(&kind - kinds);
    names += (names.empty() ? "" : ", ") + std::string(kind);
  }
  part.reader().expect(false, quoted(word), "kind: one of %", names);
  return {};
}

void read_scores(const Value &value, Scores *scores) {
  value.reader().at("scores");
  scores->kind = read_kind<ScoreKind>(value, kScoreKinds);
  scores->logits = value["logits"].multipliers(1);
  if (scores->kind == ScoreKind::kSoftmax) {
    scores->curve = read_powers(value["exp"]);
  } else {
    scores->curve =
        read_curve(value["curve"], {kLowestLogit, -kLowestLogit}, kOneScore);
  }
  if (scores->has_factors()) {
    scores->factors = value["factors"].multipliers(1);
  }
  if (scores->kind == ScoreKind::kProduct) {
    scores->least = value["least"].integer(kProductLeast);
  }
  value.done();
}

BoxLevel read_level(const Value &value, bool has_anchors) {
  BoxLevel made;
  made.stride = value["stride"].pair(has_anchors ? kAnchorLevelStride
                                                 : kPointLevelStride);
  std::vector<int32_t> all;
  if (has_anchors) {
    all = value["base"].numbers<int32_t>(kAll<int32_t>, 4);
  } else {
    made.offset = value["offset"].pair(kPointLevelOffset);
  }
  value.done();
  value.reader().expect(has_anchors != all.empty(), "none", "base: an anchor");
  for (size_t i = 0; i < all.size(); i += 4) {
    made.anchors.push_back({all[i], all[i + 1], all[i + 2], all[i + 3]});
  }
  return made;
}

// Expects that a list has an item for each level.
bool is_per_level(const Value &list, size_t count, const Decoder &decoder) {
  const size_t levels = decoder.levels.size();
  return list.expect(count == levels, count, "%, as there are levels", levels);
}

void read_decoder(const Value &value, Decoder *decoder) {
  Reader &reader = value.reader();
  reader.at("decoder");
  decoder->kind = read_kind<DecoderKind>(value, kDecoderKinds);
  const auto levels = value["levels"].items();
  reader.expect(!levels.empty(), "none", "one level or more");
  for (size_t i = 0; i < levels.size() && reader.ok(); ++i) {
    reader.at("level " + text(i));
    decoder->levels.push_back(read_level(levels[i], decoder->has_anchors()));
  }
  reader.at("decoder");
  switch (decoder->kind) {
    case DecoderKind::kAnchors:
      decoder->tables = {value["deltas"].multipliers(4)};
      read_exponents(value, kAnchorsLimit, &decoder->limit, &decoder->exp);
      break;
    case DecoderKind::kCells:
      decoder->tables = {value["codes"].multipliers(4)};
      decoder->sigmoid =
          read_curve(value["sigmoid"], {kLowestLogit, -kLowestLogit},
                     int64_t{1} << kDeltaBits);
      read_exponents(value, kCellsLimit, &decoder->limit, &decoder->exp);
      break;
    case DecoderKind::kPoints: {
      const auto distances = value["distances"].items();
      is_per_level(value["distances"], distances.size(), *decoder);
      for (const Value &each : distances) {
        decoder->tables.push_back(each.multipliers(4));
      }
      break;
    }
    case DecoderKind::kExponents: {
      const auto edges = value["edges"].numbers<int32_t>(kExponentsEdges);
      if (!is_per_level(value["edges"], edges.size(), *decoder)) return;
      for (size_t i = 0; i < edges.size(); ++i) {
        decoder->levels[i].edge = edges[i];
      }
      decoder->tables = {value["codes"].multipliers(4)};
      read_exponents(value, kExponentsLimit, &decoder->limit, &decoder->exp);
      break;
    }
    case DecoderKind::kBins:
      decoder->bins = value["bins"].int32(kBinsBins);
      decoder->tables = {value["codes"].multipliers(1)};
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
  if (!reader->expect(fits, "others",
                      "% outputs of the network with % tensors each", kinds,
                      count)) {
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
    reader->expect(op.grid.type() == Type::kI32, "codes " + text(op.grid),
                   "maps of int32");
    reader->expect(op.channels == expected, op.channels,
                   "a map of % channels as output %", expected, i / count);
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
    reader.expect(!post->scores.has_factors(), "another kind",
                  "scores of Sigmoid or Softmax before a second stage");
    reader.expect(post->margin <= 0, post->margin,
                  "a margin of at most 0 before a second stage");
  }
  check_maps(network, *post, has_regions, &reader);
}

void read_preprocess(const Value &value, int64_t margin, int32_t channels,
                     PreProcess *pre) {
  Reader &reader = value.reader();
  reader.at("preprocess");
  pre->short_side = value["short"].int32(kPreProcessShort);
  pre->long_side = value["long"].int32(kPreProcessLong);
  reader.expect(pre->short_side <= pre->long_side,
                text(pre->short_side) + " and " + text(pre->long_side),
                "short <= long");
  pre->is_bgr = value["bgr"].truth();
  pre->is_whole = value["whole"].truth();
  pre->is_stretched = value["stretch"].truth();
  value["oriented"].truth();  // for whoever reads files of images
  const auto fill = value["fill"].numbers<uint8_t>(kPreProcessFill);
  value.done();
  if (!reader.expect(fill.size() == kColours, fill.size(),
                     "fill: three colours") ||
      !reader.expect(channels == kColours, channels,
                     "a network of three colours")) {
    return;
  }
  std::copy(fill.begin(), fill.end(), pre->fill);
  const int64_t reach = pre->long_side + 2 * std::max<int64_t>(margin, 0);
  reader.expect(reach <= kMaxReach, reach,
                "a long side and two margins of at most %", kMaxReach);
}

}  // namespace

Curve read_curve(const Value &value, const Limits &arguments, int64_t largest) {
  Curve curve;
  const std::vector<int32_t> &table = curve.table =
      value["table"].numbers<int32_t>();
  curve.bits = value["bits"].int32(kCurveBits);
  curve.first = value["first"].integer({-INT64_MAX, INT64_MAX});
  value.done();
  if (!value.reader().ok()) return curve;
  const int64_t steps = static_cast<int64_t>(table.size()) - 1;
  const int64_t length = steps * (int64_t{1} << curve.bits);
  const bool begins = curve.first <= arguments.least;
  if (!value.expect(begins && curve.first + length > arguments.most,
                    begins ? "an end before that" : text(curve.first),
                    "arguments from % to above %", arguments.least,
                    arguments.most)) {
    return curve;
  }
  const auto ends = std::minmax_element(table.begin(), table.end());
  const Limits values = {*ends.first, *ends.second};
  value.expect(0 <= values.least && values.most <= largest, values,
               "values in 0..%", largest);
  return curve;
}

Curve read_powers(const Value &value) {
  Curve made = read_curve(value, {kLowestLogit, 0}, kOneScore);
  if (!value.reader().ok()) return made;
  // Shares are divided by their sum, in which one argument is 0.
  const int64_t one = int64_t{1} << made.bits;
  const size_t i = static_cast<size_t>(-made.first >> made.bits);
  const int64_t r = -made.first & (one - 1);
  const int64_t sum = made.table[i] * (one - r) + made.table[i + 1] * r;
  value.expect(sum + (one >> 1) >= one, 0, "a value above 0 at 0");
  return made;
}

void read_exponents(const Value &part, const Limits &limits, int64_t *limit,
                    Curve *exp) {
  *limit = part["limit"].integer(limits);
  *exp = read_curve(part["exp"], {-*limit, *limit}, kMaxExp);
}

void read_detector(const Value &root, const std::vector<Program> &programs,
                   Detector *made) {
  *made = {};
  Reader &reader = root.reader();
  reader.at("JSON");
  for (const Value &label : root["labels"].items()) {
    made->labels.emplace_back(label.string());
  }
  const size_t labels = made->labels.size();
  reader.expect(kLabels.hold(static_cast<int64_t>(labels)), labels,
                "% to % labels", kLabels.least, kLabels.most);
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
