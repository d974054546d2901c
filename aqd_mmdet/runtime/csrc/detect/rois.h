// From proposals to boxes: docs/integer_contract.md, section 8.

#pragma once

#include "detect/boxes.h"
#include "detect/scores.h"
#include "thread_pool.h"

namespace aqd {

// Runs the program of a stage on averages of a few regions, count x bins x
// bins x channels; gives a status. Its outputs are logits and box codes of
// each region.
struct RunStage {
  int (*call)(const void *context, size_t stage, const int32_t *averages,
              int32_t count, int32_t *const *outputs);
  const void *context;
};

// Averages of a region, bins x bins x channels.
void align(const RegionStage &stage, const Map *maps, const Edges &box,
           int32_t *out);

// Replaces proposals by the boxes that are found in them.
//
// maps: all that left the network. size: of its image before its border.
int find_in_regions(const Detector &detector, const std::vector<Map> &maps,
                    Size size, const RunStage &run, ThreadPool *pool,
                    std::vector<Box> *boxes);

}  // namespace aqd
