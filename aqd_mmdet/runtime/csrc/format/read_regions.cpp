#include "format/read_regions.h"

#include <algorithm>

#include "format/part_reader.h"
#include "graph/memory_plan.h"

namespace aqd {
namespace {

class RegionsReader : public PartReader {
 public:
  RegionsReader(const std::vector<Program> &programs, size_t labels,
                Reader *reader, Regions *regions)
      : PartReader(reader), programs_(programs), network_(programs[0]),
        labels_(static_cast<int64_t>(labels)), regions_(*regions) {}

  void read(const JsonNode &node) {
    reader_.at("regions");
    const auto stages = reader_.items(node, "stages");
    reader_.expect(!stages.empty(), "stages", "none");
    for (size_t i = 0; i < stages.size() && reader_.ok(); ++i) {
      reader_.at("stage " + number(i));
      regions_.stages.push_back(stage(*stages[i], programs_[i + 1]));
    }
    reader_.at("regions");
    exponents(node, kRegionsLimit, &regions_.limit, &regions_.exp);
    regions_.powers = powers(node, "powers");
    regions_.threshold = reader_.integer(node, "threshold", kRegionsThreshold);
    regions_.overlap = reader_.integer(node, "overlap", kRegionsOverlap);
    regions_.keep = reader_.integer(node, "keep", kRegionsKeep);
    reader_.done(node);
  }

 private:
  RegionStage stage(const JsonNode &node, const Program &program) {
    RegionStage made;
    const int64_t outputs = static_cast<int64_t>(network_.levels.size());
    const size_t features = static_cast<size_t>(
        reader_.integer(node, "features", {0, outputs - 1}));
    for (const JsonNode *stride : reader_.items(node, "strides")) {
      made.strides.push_back(
          static_cast<int32_t>(reader_.integer(*stride, kRegionStageStrides)));
    }
    made.finest = reader_.integer(node, "finest", kRegionStageFinest);
    made.bins = reader_.int32(node, "bins", kRegionStageBins);
    made.samples = reader_.integer(node, "samples", kRegionStageSamples);
    made.logits = multipliers(node, "logits", 1);
    made.deltas = multipliers(node, "deltas", 4);
    reader_.child(node, "program");  // which was read before
    reader_.done(node);
    if (!reader_.ok()) return made;
    for (size_t i = 0; i < features; ++i) {
      made.first_map += static_cast<size_t>(network_.levels[i]);
    }
    maps(static_cast<size_t>(network_.levels[features]),
         program.nodes[0].op, &made);
    if (reader_.ok()) outputs_of(program, &made);
    return made;
  }

  // Expects that the stage can read its maps.
  void maps(size_t count, const Op &region, RegionStage *stage) {
    const size_t strides = stage->strides.size();
    if (!reader_.expect(count > 0 && strides == count,
                        "a stride of each of its " + number(count) + " maps",
                        number(strides)) ||
        // So that the area where the last map begins fits 63 bits.
        !reader_.expect(
            count <= 31 && stage->finest << (kBoxBits + count - 1) < 1 << 30,
            "finest * 2^(8 + maps - 1) below 2^30", number(count) + " maps")) {
      return;
    }
    stage->channels = region.channels;
    for (size_t i = 0; i < count; ++i) {
      const Op &map = output_of(network_, stage->first_map + i);
      const std::string name = "map " + number(i) + ": ";
      stage->largest = std::max(stage->largest, magnitude(map.grid));
      // So that the sum of a bin fits 63 bits.
      reader_.expect(magnitude(map.grid) <= 1 << 15,
                     name + "codes in -32768..32768", text(map.grid));
      // Samples outside of a map count as 0.
      const int64_t unit = int64_t{1} << kMeanBits;
      const int64_t low = std::min(map.grid.low, 0) * unit;
      const int64_t high = std::max(map.grid.high, 0) * unit;
      reader_.expect(holds(region.grid, low, high),
                     name + "a Region that holds its averages " +
                     text(low, high),
                     text(region.grid));
      reader_.expect(map.channels == region.channels,
                     name + "the " + text(region.channels) +
                     " channels of the Region",
                     text(map.channels));
    }
  }

  // Expects logits and box codes of each region.
  void outputs_of(const Program &program, RegionStage *stage) {
    const bool are_two = program.levels == std::vector<int>{1, 1};
    if (!reader_.expect(are_two, "a program with two outputs of one tensor",
                        "others")) {
      return;
    }
    if (!reader_.expect(stage->bins % program.stride == 0,
                        "bins that its program's stride divides",
                        text(stage->bins))) {
      return;
    }
    std::vector<Size> sizes;
    const Size bins = {stage->bins, stage->bins};
    const bool runs = infer_sizes(program, bins, &sizes);
    if (!reader_.expect(runs, "a program for averages of " + text(bins),
                        "one that does not take them")) {
      return;
    }
    const Op &logits = output_of(program, 0), &codes = output_of(program, 1);
    for (const int position : program.outputs) {
      const size_t i = static_cast<size_t>(position);
      const Grid &grid = program.nodes[i].op.grid;
      reader_.expect(same(sizes[i], {1, 1}), "outputs of 1 x 1",
                     text(sizes[i]));
      reader_.expect(grid.type() == Type::kI32, "outputs of int32",
                     "codes " + text(grid));
    }
    reader_.expect(logits.channels == labels_ + 1,
                   "logits of " + text(labels_ + 1) +
                   " channels, the background included",
                   text(logits.channels));
    reader_.expect(codes.channels == 4 || codes.channels == 4 * labels_,
                   "box codes of 4 or " + text(4 * labels_) + " channels",
                   text(codes.channels));
    stage->codes = static_cast<size_t>(codes.channels);
  }

  const std::vector<Program> &programs_;
  const Program &network_;
  const int64_t labels_;
  Regions &regions_;
};

}  // namespace

void read_regions(const JsonNode &node, const std::vector<Program> &programs,
                  size_t labels, Reader *reader, Regions *regions) {
  RegionsReader(programs, labels, reader, regions).read(node);
}

}  // namespace aqd
