#include <algorithm>

#include "format/model.h"
#include "format/reader.h"
#include "graph/memory_plan.h"

namespace aqd {
namespace {

// Expects that a stage can read the network's maps from its first one on.
void check_maps(const Program &network, size_t count, const Op &region,
                Reader *reader, RegionStage *stage) {
  const size_t strides = stage->strides.size();
  if (!reader->expect(count > 0 && strides == count, strides,
                      "a stride of each of its % maps", count) ||
      // So that the area where the last map begins fits 63 bits.
      !reader->expect(
          count <= 31 && stage->finest << (kBoxBits + count - 1) < 1 << 30,
          text(count) + " maps", "finest * 2^(8 + maps - 1) below 2^30")) {
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const Op &map = network.output(stage->first_map + i);
    const int64_t largest = map.grid.magnitude();
    stage->largest = std::max(stage->largest, largest);
    // So that the sum of a bin fits 63 bits.
    reader->expect(largest <= 1 << 15, map.grid,
                   "map %: codes in -32768..32768", i);
    // Samples outside of a map count as 0.
    const int64_t unit = int64_t{1} << kMeanBits;
    const Limits means = {std::min(map.grid.low, 0) * unit,
                          std::max(map.grid.high, 0) * unit};
    reader->expect(region.grid.holds(means.least, means.most), region.grid,
                   "map %: a Region that holds its averages %", i, means);
    reader->expect(map.channels == region.channels, map.channels,
                   "map %: the % channels of the Region", i, region.channels);
  }
}

// Expects that a stage's program gives logits and box codes of each region.
void check_outputs(const Program &program, int64_t labels, Reader *reader,
                   RegionStage *stage) {
  const bool are_two = program.levels == std::vector<size_t>{1, 1};
  const Size bins = {stage->bins, stage->bins};
  std::vector<Size> sizes;
  if (!reader->expect(are_two, "others",
                      "a program with two outputs of one tensor") ||
      !reader->expect(stage->bins % program.stride == 0, stage->bins,
                      "bins that its program's stride divides") ||
      !reader->expect(infer_sizes(program, bins, &sizes),
                      "one that does not take them",
                      "a program for averages of %", bins)) {
    return;
  }
  for (const size_t position : program.outputs) {
    const Grid &grid = program.nodes[position].op.grid;
    reader->expect(same(sizes[position], {1, 1}), sizes[position],
                   "outputs of 1 x 1");
    reader->expect(grid.type() == Type::kI32, "codes " + text(grid),
                   "outputs of int32");
  }
  const int32_t logits = program.output(0).channels;
  const int32_t codes = program.output(1).channels;
  reader->expect(logits == labels + 1, logits,
                 "logits of % channels, the background included", labels + 1);
  reader->expect(codes == 4 || codes == 4 * labels, codes,
                 "box codes of 4 or % channels", 4 * labels);
  stage->codes = static_cast<size_t>(codes);
}

RegionStage read_stage(const Value &value, const Program &network,
                       const Program &program, int64_t labels) {
  Reader &reader = value.reader();
  RegionStage made;
  const int64_t outputs = static_cast<int64_t>(network.levels.size());
  const size_t features =
      static_cast<size_t>(value["features"].integer({0, outputs - 1}));
  made.strides = value["strides"].numbers<int32_t>(kRegionStageStrides);
  made.finest = value["finest"].integer(kRegionStageFinest);
  made.bins = value["bins"].int32(kRegionStageBins);
  made.samples = value["samples"].integer(kRegionStageSamples);
  made.logits = value["logits"].multipliers(1);
  made.deltas = value["deltas"].multipliers(4);
  static_cast<void>(value["program"]);  // which was read before
  value.done();
  if (!reader.ok()) return made;
  for (size_t i = 0; i < features; ++i) made.first_map += network.levels[i];
  const Op &region = program.nodes[0].op;
  made.channels = region.channels;
  check_maps(network, network.levels[features], region, &reader, &made);
  if (reader.ok()) check_outputs(program, labels, &reader, &made);
  return made;
}

}  // namespace

void read_regions(const Value &value, const std::vector<Program> &programs,
                  size_t labels, Regions *regions) {
  Reader &reader = value.reader();
  reader.at("regions");
  const auto stages = value["stages"].items();
  reader.expect(!stages.empty(), "none", "stages");
  for (size_t i = 0; i < stages.size() && reader.ok(); ++i) {
    reader.at("stage " + text(i));
    regions->stages.push_back(read_stage(stages[i], programs[0],
                                         programs[i + 1],
                                         static_cast<int64_t>(labels)));
  }
  reader.at("regions");
  read_exponents(value, kRegionsLimit, &regions->limit, &regions->exp);
  regions->powers = read_powers(value["powers"]);
  regions->threshold = value["threshold"].integer(kRegionsThreshold);
  regions->overlap = value["overlap"].integer(kRegionsOverlap);
  regions->keep = value["keep"].integer(kRegionsKeep);
  value.done();
}

}  // namespace aqd
