#include <algorithm>

#include "detect/detect.h"

namespace aqd {
namespace {

// Fractional bits of a position between two pixels of a map.
constexpr int kWeightBits = 8;
constexpr int64_t kOne = 1 << kWeightBits;
// Regions that a program runs for at once: a few MiB of averages.
constexpr size_t kBatch = 32;

// What the bins of a region read along an axis.
struct AxisSamples {
  // Neighbouring pixels and their weights for linear interpolation, in 256ths.
  struct Bin {
    int64_t first = 0;
    std::vector<int64_t> weights;
  };

  std::vector<Bin> bins;
  int64_t samples = 1;         // of a bin
  int64_t begin = 0, end = 0;  // pixels that any bin reads
};

// Samples of a region from low to high, in 256ths of a pixel of the image, in a
// map of some length.
AxisSamples samples_of(int64_t low, int64_t high, int64_t stride,
                       const RegionStage &stage, int64_t length) {
  const int64_t bins = stage.bins, per_bin = bins * stride * kOne;
  const int64_t pixels = (high - low + per_bin - 1) / per_bin;
  AxisSamples axis;
  axis.samples =
      stage.samples > 0 ? stage.samples : std::max<int64_t>(1, pixels);
  const int64_t halves = 2 * bins * axis.samples, below = halves * stride;
  for (int64_t number = 0; number < bins * axis.samples; ++number) {
    if (number % axis.samples == 0) axis.bins.emplace_back();
    AxisSamples::Bin &bin = axis.bins.back();
    const int64_t above = low * halves + (high - low) * (2 * number + 1);
    // The centre of a pixel is half a pixel behind its edge.
    const int64_t at = floored(2 * above + below, 2 * below) - kOne / 2;
    if (at < -kOne || at > length * kOne) continue;
    const int64_t inside = std::clamp<int64_t>(at, 0, (length - 1) * kOne);
    const int64_t pixel = inside >> kWeightBits, part = inside & (kOne - 1);
    if (bin.weights.empty()) bin.first = pixel;
    if (axis.end == 0) axis.begin = pixel;
    axis.end = pixel + (part > 0 ? 2 : 1);
    // Samples come by growing pixels.
    bin.weights.resize(static_cast<size_t>(axis.end - bin.first));
    const size_t k = static_cast<size_t>(pixel - bin.first);
    bin.weights[k] += kOne - part;
    if (part > 0) bin.weights[k + 1] += part;
  }
  return axis;
}

// Adds weighted codes of some channels.
template <typename Sum, typename Code>
void accumulate(const Code *codes, int64_t weight, int64_t count, Sum *sums) {
  const Sum factor = static_cast<Sum>(weight);
  for (int64_t c = 0; c < count; ++c) sums[c] += codes[c] * factor;
}

// Averages of sums over samples, with kMeanBits fractional bits.
template <typename Sum>
void divide(const std::vector<Sum> &sums, Sum samples, int32_t *out) {
  constexpr int kDropped = 2 * kWeightBits - kMeanBits;
  const Sum half = samples * (1 << (kDropped - 1));
  int bits = 0;
  while (Sum{1} << bits < samples) ++bits;
  const bool is_power = Sum{1} << bits == samples;
  for (const Sum sum : sums) {
    const Sum rounded = (sum + half) >> kDropped;
    *out++ = static_cast<int32_t>(is_power ? rounded >> bits
                                           : floored<Sum>(rounded, samples));
  }
}

// Writes averages of a region. Sum is a type that holds sums of all samples.
template <typename Sum>
void average_samples(const Map &map, const AxisSamples &rows,
                     const AxisSamples &columns, int32_t *out) {
  const int64_t channels = map.channels, width = columns.end - columns.begin;
  const Sum samples = static_cast<Sum>(rows.samples * columns.samples);
  std::vector<Sum> line(static_cast<size_t>(width * channels));
  std::vector<Sum> sums(static_cast<size_t>(channels));
  for (const AxisSamples::Bin &row : rows.bins) {
    // Rows first, for all columns at once; then columns, for each bin.
    std::fill(line.begin(), line.end(), 0);
    int64_t pixel = row.first * map.size.width + columns.begin;
    for (const int64_t weight : row.weights) {
      accumulate(map.codes + pixel * channels, weight, width * channels,
                 line.data());
      pixel += map.size.width;
    }
    for (const AxisSamples::Bin &column : columns.bins) {
      std::fill(sums.begin(), sums.end(), 0);
      int64_t from = (column.first - columns.begin) * channels;
      for (const int64_t weight : column.weights) {
        accumulate(line.data() + from, weight, channels, sums.data());
        from += channels;
      }
      divide(sums, samples, out);
      out += channels;
    }
  }
}

// Index of the map that a region reads, by its area.
size_t level_of_roi(const RegionStage &stage, const Edges &roi) {
  size_t level = 0;
  for (size_t k = 1; k < stage.strides.size(); ++k) {
    const int64_t side = stage.finest << (kBoxBits + k);
    if (roi.area() >= side * side) level = k;
  }
  return level;
}

// Averages of a region of interest, bins x bins x channels.
void roi_align(const RegionStage &stage, const Map *maps, const Edges &roi,
               int32_t *out) {
  const size_t level = level_of_roi(stage, roi);
  const Map &map = maps[level];
  const int64_t stride = stage.strides[level];
  const AxisSamples rows =
      samples_of(roi.y0, roi.y1, stride, stage, map.size.height);
  const AxisSamples columns =
      samples_of(roi.x0, roi.x1, stride, stage, map.size.width);
  const int64_t samples = rows.samples * columns.samples;
  // With half a divisor, which is far below one code of each sample.
  if (samples * (stage.largest + 1) <= INT32_MAX >> (2 * kWeightBits)) {
    average_samples<int32_t>(map, rows, columns, out);
  } else {
    average_samples<int64_t>(map, rows, columns, out);
  }
}

// A region as the anchor that box codes move.
Anchor anchor_of(const Edges &roi) {
  constexpr int kUp = kGeometryBits - kBoxBits;
  return {static_cast<int32_t>((roi.x0 + roi.x1) << (kUp - 1)),
          static_cast<int32_t>((roi.y0 + roi.y1) << (kUp - 1)),
          static_cast<int32_t>(roi.width() << kUp),
          static_cast<int32_t>(roi.height() << kUp)};
}

// Runs the stages on the regions of one image.
class RoiHeads {
 public:
  RoiHeads(Interpreter *interpreter, const std::vector<Map> &maps, Size size,
           std::vector<Box> *rois)
      : interpreter_(*interpreter), detector_(interpreter->model().detector),
        maps_(maps), size_(size), rois_(*rois),
        classes_(detector_.labels.size()), logits_per_roi_(classes_ + 1),
        totals_(rois->size() * logits_per_roi_) {}

  Status run() {
    const std::vector<RegionStage> &stages = detector_.regions.stages;
    for (size_t i = 0; i < stages.size(); ++i) {
      if (i > 0) refine_all(stages[i - 1]);
      const Status status = run_stage(i);
      if (status != kOk) return status;
    }
    collect(stages.back());
    return kOk;
  }

 private:
  // Fills logits_ and codes_, and adds to totals_.
  Status run_stage(size_t index) {
    const RegionStage &stage = detector_.regions.stages[index];
    const size_t bins = static_cast<size_t>(stage.bins);
    const size_t each = bins * bins * static_cast<size_t>(stage.channels);
    std::vector<int32_t> averages(std::min(kBatch, rois_.size()) * each);
    logits_.resize(totals_.size());
    codes_.resize(rois_.size() * stage.codes);
    for (size_t first = 0; first < rois_.size(); first += kBatch) {
      const size_t count = std::min(kBatch, rois_.size() - first);
      const auto align = [&](int64_t part, int) {
        const size_t i = static_cast<size_t>(part);
        roi_align(stage, &maps_[stage.first_map], rois_[first + i].edges,
                  &averages[i * each]);
      };
      interpreter_.pool()->run(static_cast<int64_t>(count), align);
      int32_t *const outputs[] = {&logits_[first * logits_per_roi_],
                                  &codes_[first * stage.codes]};
      // The network's program is the first.
      const Status status = interpreter_.run(
          index + 1, averages.data(), static_cast<int32_t>(count),
          {stage.bins, stage.bins}, outputs);
      if (status != kOk) return status;
    }
    for (size_t i = 0; i < logits_.size(); ++i) {
      totals_[i] += requantize(logits_[i], stage.logits, 0, kLargestLogit);
    }
    return kOk;
  }

  // A region, moved by the codes of a class that the stage has just made.
  Edges refined(const RegionStage &stage, size_t roi, size_t label) const {
    // All classes have the same codes, or each has its own.
    const size_t from = 4 * label % stage.codes;
    const int32_t *codes = &codes_[roi * stage.codes + from];
    const Edges wide =
        decode_deltas(anchor_of(rois_[roi].edges), codes, stage.deltas,
                      detector_.regions.limit, detector_.regions.exp);
    return clip(wide, 0, size_);
  }

  // Moves each region by the codes of its best class.
  void refine_all(const RegionStage &stage) {
    for (size_t i = 0; i < rois_.size(); ++i) {
      const int32_t *first = &logits_[i * logits_per_roi_];
      const int32_t *best = std::max_element(first, first + classes_);
      rois_[i].edges = refined(stage, i, static_cast<size_t>(best - first));
    }
  }

  // Replaces the regions by the boxes of all classes whose scores reach the
  // threshold.
  void collect(const RegionStage &stage) {
    const Regions &regions = detector_.regions;
    const int64_t count = static_cast<int64_t>(regions.stages.size());
    std::vector<Box> found;
    for (size_t i = 0; i < rois_.size(); ++i) {
      int64_t *scores = &totals_[i * logits_per_roi_];
      for (size_t c = 0; c < logits_per_roi_; ++c) {
        scores[c] = floored(2 * scores[c] + count, 2 * count);
      }
      softmax(regions.powers, logits_per_roi_, scores);
      for (size_t c = 0; c < classes_; ++c) {
        if (scores[c] < regions.threshold) continue;
        const Edges edges = refined(stage, i, c);
        if (!edges.has_area()) continue;
        found.push_back({edges, static_cast<int32_t>(c), scores[c]});
      }
    }
    nms(regions.overlap, regions.keep, &found);
    rois_ = std::move(found);
  }

  Interpreter &interpreter_;
  const Detector &detector_;
  const std::vector<Map> &maps_;
  const Size size_;
  std::vector<Box> &rois_;
  const size_t classes_, logits_per_roi_;
  std::vector<int64_t> totals_;          // of the logits of all stages, Q16
  std::vector<int32_t> logits_, codes_;  // of the last stage that ran
};

}  // namespace

Status refine_proposals(Interpreter *interpreter,
                            const std::vector<Map> &maps, Size size,
                            std::vector<Box> *boxes) {
  if (boxes->empty()) return kOk;
  return RoiHeads(interpreter, maps, size, boxes).run();
}

}  // namespace aqd
