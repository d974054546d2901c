// The second stages, from proposals to boxes: docs/integer_contract.md,
// section 8.

#pragma once

#include "detect/boxes.h"
#include "detect/scores.h"
#include "interpreter.h"

namespace aqd {

// Averages of a region of interest, bins x bins x channels.
void roi_align(const RegionStage &stage, const Map *maps, const Edges &roi,
               int32_t *out);

// Replaces proposals by the boxes that the stages make of them.
//
// maps: all that left the network. size: of its image without the padding.
Status refine_proposals(const Interpreter &interpreter,
                        const std::vector<Map> &maps, Size size,
                        std::vector<Box> *boxes);

}  // namespace aqd
