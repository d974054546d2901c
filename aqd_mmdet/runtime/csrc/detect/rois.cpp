#include "detect/rois.h"

#include <algorithm>

#include "detect/curves.h"
#include "detect/nms.h"

namespace aqd {
namespace {

// Of a position between two pixels of a map.
constexpr int kWeightBits = 8;
constexpr int64_t kOne = 1 << kWeightBits;
// Regions whose averages are in memory at once.
constexpr size_t kChunk = 32;

// What the bins of an axis read.
struct Axis {
  // Neighbouring pixels, and how much each counts, in 256ths.
  struct Bin {
    int64_t first = 0;
    size_t start = 0, count = 0;  // of its weights
  };

  std::vector<Bin> bins;
  std::vector<int64_t> weights;
  int64_t samples = 1;           // of a bin
  int64_t begin = 0, end = 0;    // pixels that any bin reads
};

Axis axis_of(int64_t low, int64_t high, int64_t stride,
             const RegionStage &stage, int64_t length) {
  const int64_t bins = stage.bins, per_bin = bins * stride * kOne;
  Axis axis;
  axis.samples = stage.samples > 0
                     ? stage.samples
                     : std::max<int64_t>(1, (high - low + per_bin - 1) / per_bin);
  const int64_t halves = 2 * bins * axis.samples;
  const int64_t below = halves * stride;
  axis.begin = length;
  for (int64_t i = 0; i < bins; ++i) {
    Axis::Bin bin;
    bin.start = axis.weights.size();
    // Positions grow, so that the first pixel is the lowest.
    const auto add = [&](int64_t pixel, int64_t weight) {
      if (bin.count == 0) bin.first = pixel;
      const size_t at = static_cast<size_t>(pixel - bin.first);
      bin.count = std::max(bin.count, at + 1);
      axis.weights.resize(bin.start + bin.count);
      axis.weights[bin.start + at] += weight;
    };
    for (int64_t j = 0; j < axis.samples; ++j) {
      const int64_t number = i * axis.samples + j;
      const int64_t above = low * halves + (high - low) * (2 * number + 1);
      // Pixels' centres are half a pixel inside.
      const int64_t at = floored(2 * above + below, 2 * below) - kOne / 2;
      if (at < -kOne || at > length * kOne) continue;
      const int64_t inside = std::clamp<int64_t>(at, 0, (length - 1) * kOne);
      const int64_t pixel = inside >> kWeightBits, part = inside & (kOne - 1);
      add(pixel, kOne - part);
      if (part > 0) add(pixel + 1, part);
    }
    if (bin.count > 0) {
      axis.begin = std::min(axis.begin, bin.first);
      axis.end = std::max(axis.end,
                          bin.first + static_cast<int64_t>(bin.count));
    }
    axis.bins.push_back(bin);
  }
  return axis;
}

// Adds weighted codes of some channels.
template <typename Sum, typename Code>
void add_weighted(const Code *codes, int64_t weight, int64_t count, Sum *sums) {
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
  if (Sum{1} << bits == samples) {
    for (const Sum sum : sums) {
      *out++ = static_cast<int32_t>((sum + half) >> (kDropped + bits));
    }
    return;
  }
  for (const Sum sum : sums) {
    *out++ = static_cast<int32_t>(floored<Sum>((sum + half) >> kDropped, samples));
  }
}

// Sums that an integer type is proven to hold; averages are written.
template <typename Sum>
void average(const Map &map, const Axis &rows, const Axis &columns,
             int32_t *out) {
  const int64_t channels = map.channels;
  const int64_t width = std::max<int64_t>(columns.end - columns.begin, 0);
  std::vector<Sum> line(static_cast<size_t>(width * channels));
  std::vector<Sum> sums(static_cast<size_t>(channels));
  for (const Axis::Bin &row : rows.bins) {
    // Of all columns at once, then of each bin.
    std::fill(line.begin(), line.end(), 0);
    for (size_t k = 0; k < row.count; ++k) {
      const int64_t y = row.first + static_cast<int64_t>(k);
      add_weighted(
          map.codes + (y * map.size.width + columns.begin) * channels,
          rows.weights[row.start + k], width * channels, line.data());
    }
    for (const Axis::Bin &column : columns.bins) {
      std::fill(sums.begin(), sums.end(), 0);
      for (size_t k = 0; k < column.count; ++k) {
        const int64_t x = column.first - columns.begin + static_cast<int64_t>(k);
        add_weighted(line.data() + x * channels,
                     columns.weights[column.start + k], channels, sums.data());
      }
      divide(sums, static_cast<Sum>(rows.samples * columns.samples), out);
      out += channels;
    }
  }
}

// Index of the map that a region reads.
size_t level_of(const RegionStage &stage, const Edges &box) {
  const int64_t area = (box.x1 - box.x0) * (box.y1 - box.y0);
  size_t level = 0;
  for (size_t k = 1; k < stage.strides.size(); ++k) {
    const int64_t side = stage.finest << (kBoxBits + k);
    if (area >= side * side) level = k;
  }
  return level;
}

// A region as an anchor.
Anchor anchor_of(const Edges &box) {
  constexpr int kUp = kGeometryBits - kBoxBits;
  return {static_cast<int32_t>((box.x0 + box.x1) << (kUp - 1)),
          static_cast<int32_t>((box.y0 + box.y1) << (kUp - 1)),
          static_cast<int32_t>((box.x1 - box.x0) << kUp),
          static_cast<int32_t>((box.y1 - box.y0) << kUp)};
}

// Runs the stages on the regions of one image.
class Stages {
 public:
  Stages(const Detector &detector, const std::vector<Map> &maps, Size size,
         const RunStage &run, ThreadPool *pool, std::vector<Box> *boxes)
      : detector_(detector), maps_(maps), size_(size), run_(run), pool_(*pool),
        boxes_(*boxes), classes_(detector.labels.size()),
        totals_(boxes->size() * (classes_ + 1)) {}

  int run() {
    const std::vector<RegionStage> &stages = detector_.regions.stages;
    for (size_t i = 0; i < stages.size(); ++i) {
      const int status = run(i);
      if (status != 0) return status;
      if (i + 1 < stages.size()) refine_all(stages[i]);
    }
    collect(stages.back());
    return 0;
  }

 private:
  size_t coded(const RegionStage &stage) const {
    return stage.is_agnostic ? 4 : 4 * classes_;
  }

  int run(size_t index) {
    const RegionStage &stage = detector_.regions.stages[index];
    const size_t averages = static_cast<size_t>(stage.bins) *
                            static_cast<size_t>(stage.bins) *
                            static_cast<size_t>(stage.channels);
    std::vector<int32_t> read(std::min(kChunk, boxes_.size()) * averages);
    logits_.resize(boxes_.size() * (classes_ + 1));
    codes_.resize(boxes_.size() * coded(stage));
    for (size_t first = 0; first < boxes_.size(); first += kChunk) {
      const size_t count = std::min(kChunk, boxes_.size() - first);
      pool_.run(static_cast<int64_t>(count), [&](int64_t n, int) {
        const size_t region = static_cast<size_t>(n);
        align(stage, &maps_[stage.first_map], boxes_[first + region].edges,
              &read[region * averages]);
      });
      int32_t *const outputs[] = {&logits_[first * (classes_ + 1)],
                                  &codes_[first * coded(stage)]};
      const int status =
          run_.call(run_.context, index, read.data(),
                    static_cast<int32_t>(count), outputs);
      if (status != 0) return status;
    }
    for (size_t i = 0; i < logits_.size(); ++i) {
      totals_[i] += fixed(logits_[i], stage.logits, 0, -kLargestLogit,
                          kLargestLogit);
    }
    return 0;
  }

  Edges refined(const RegionStage &stage, size_t region, size_t label) const {
    const size_t from = stage.is_agnostic ? 0 : 4 * label;
    const Edges wide =
        moved(anchor_of(boxes_[region].edges),
              &codes_[region * coded(stage) + from], stage.deltas,
              detector_.regions.limit, detector_.regions.exp);
    return limited(wide, 0, size_);
  }

  // Moves each region by the codes of its best class.
  void refine_all(const RegionStage &stage) {
    for (size_t i = 0; i < boxes_.size(); ++i) {
      const int32_t *first = &logits_[i * (classes_ + 1)];
      const int32_t *best = std::max_element(first, first + classes_);
      boxes_[i].edges = refined(stage, i, static_cast<size_t>(best - first));
    }
  }

  // Replaces the regions by the boxes of all classes that score enough.
  void collect(const RegionStage &stage) {
    const Regions &regions = detector_.regions;
    const int64_t count = static_cast<int64_t>(regions.stages.size());
    std::vector<Box> found;
    for (size_t i = 0; i < boxes_.size(); ++i) {
      int64_t *scores = &totals_[i * (classes_ + 1)];
      for (size_t c = 0; c <= classes_; ++c) {
        scores[c] = floored(2 * scores[c] + count, 2 * count);
      }
      shares(regions.powers, static_cast<int64_t>(classes_ + 1), scores);
      for (size_t c = 0; c < classes_; ++c) {
        if (scores[c] < regions.threshold) continue;
        const Box box = {refined(stage, i, c), static_cast<int32_t>(c),
                         scores[c]};
        if (box.is_real()) found.push_back(box);
      }
    }
    suppress(regions.overlap, regions.keep, classes_, &found);
    boxes_ = std::move(found);
  }

  const Detector &detector_;
  const std::vector<Map> &maps_;
  const Size size_;
  const RunStage &run_;
  ThreadPool &pool_;
  std::vector<Box> &boxes_;
  const size_t classes_;
  std::vector<int64_t> totals_;  // of all stages' logits, Q16
  std::vector<int32_t> logits_, codes_;  // of the last stage that ran
};

}  // namespace

void align(const RegionStage &stage, const Map *maps, const Edges &box,
           int32_t *out) {
  const size_t level = level_of(stage, box);
  const Map &map = maps[level];
  const int64_t stride = stage.strides[level];
  const Axis rows = axis_of(box.y0, box.y1, stride, stage, map.size.height);
  const Axis columns = axis_of(box.x0, box.x1, stride, stage, map.size.width);
  const int64_t samples = rows.samples * columns.samples;
  // With half a divisor, which is far below one code of each sample.
  if (samples * (stage.largest + 1) <= INT32_MAX >> (2 * kWeightBits)) {
    average<int32_t>(map, rows, columns, out);
  } else {
    average<int64_t>(map, rows, columns, out);
  }
}

int find_in_regions(const Detector &detector, const std::vector<Map> &maps,
                    Size size, const RunStage &run, ThreadPool *pool,
                    std::vector<Box> *boxes) {
  if (boxes->empty()) return 0;
  return Stages(detector, maps, size, run, pool, boxes).run();
}

}  // namespace aqd
