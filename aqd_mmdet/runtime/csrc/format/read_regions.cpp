#include <algorithm>

#include "format/parts.h"
#include "graph/memory_plan.h"

namespace aqd {
namespace {

// Expects that a stage can read the network's maps from its first one on.
void check_maps(const Program &network, size_t count, const Op &region,
                Reader *reader, RegionStage *stage) {
  if (!reader->expect(count > 0 && stage->strides.size() == count,
                      "a stride of each of its " + text(count) + " maps",
                      stage->strides.size()) ||
      // So that the area where the last map begins fits 63 bits.
      !reader->expect(
          count <= 31 && stage->finest << (kBoxBits + count - 1) < 1 << 30,
          "finest * 2^(8 + maps - 1) below 2^30", text(count) + " maps")) {
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const Op &map = network.output(stage->first_map + i);
    const int64_t largest = map.grid.magnitude();
    const std::string name = "map " + text(i) + ": ";
    stage->largest = std::max(stage->largest, largest);
    // So that the sum of a bin fits 63 bits.
    reader->expect(largest <= 1 << 15, name + "codes in -32768..32768",
                   map.grid);
    // Samples outside of a map count as 0.
    const int64_t unit = int64_t{1} << kMeanBits;
    const Limits means = {std::min(map.grid.low, 0) * unit,
                          std::max(map.grid.high, 0) * unit};
    reader->expect(region.grid.holds(means.least, means.most),
                   name + "a Region that holds its averages " + text(means),
                   region.grid);
    reader->expect(map.channels == region.channels,
                   name + "the " + text(region.channels) +
                   " channels of the Region",
                   map.channels);
  }
}

// Expects that a stage's program gives logits and box codes of each region.
void check_outputs(const Program &program, int64_t labels, Reader *reader,
                   RegionStage *stage) {
  const bool are_two = program.levels == std::vector<size_t>{1, 1};
  const Size bins = {stage->bins, stage->bins};
  std::vector<Size> sizes;
  if (!reader->expect(are_two, "a program with two outputs of one tensor",
                      "others") ||
      !reader->expect(stage->bins % program.stride == 0,
                      "bins that its program's stride divides", stage->bins) ||
      !reader->expect(infer_sizes(program, bins, &sizes),
                      "a program for averages of " + text(bins),
                      "one that does not take them")) {
    return;
  }
  for (const size_t position : program.outputs) {
    const Grid &grid = program.nodes[position].op.grid;
    reader->expect(same(sizes[position], {1, 1}), "outputs of 1 x 1",
                   sizes[position]);
    reader->expect(grid.type() == Type::kI32, "outputs of int32",
                   "codes " + text(grid));
  }
  const int32_t logits = program.output(0).channels;
  const int32_t codes = program.output(1).channels;
  reader->expect(logits == labels + 1,
                 "logits of " + text(labels + 1) +
                 " channels, the background included",
                 logits);
  reader->expect(codes == 4 || codes == 4 * labels,
                 "box codes of 4 or " + text(4 * labels) + " channels", codes);
  stage->is_agnostic = codes == 4;
}

RegionStage read_stage(const Value &value, const Program &network,
                       const Program &program, int64_t labels) {
  Reader &reader = value.reader();
  RegionStage made;
  const int64_t outputs = static_cast<int64_t>(network.levels.size());
  const size_t features =
      static_cast<size_t>(value["features"].integer({0, outputs - 1}));
  for (const Value &stride : value["strides"].items()) {
    made.strides.push_back(stride.int32(kRegionStageStrides));
  }
  made.finest = value["finest"].integer(kRegionStageFinest);
  made.bins = value["bins"].int32(kRegionStageBins);
  made.samples = value["samples"].integer(kRegionStageSamples);
  made.logits = read_multipliers(value["logits"], 1);
  made.deltas = read_multipliers(value["deltas"], 4);
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
  reader.expect(!stages.empty(), "stages", "none");
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
