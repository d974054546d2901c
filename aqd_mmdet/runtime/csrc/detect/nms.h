// From logits to boxes: docs/integer_contract.md, section 7.

#pragma once

#include "detect/boxes.h"
#include "detect/scores.h"
#include "thread_pool.h"

namespace aqd {

// Boxes of one image; of a detector with a second stage, its proposals.
//
// maps: for each kind of output all levels. size: of the network's image
// before its border.
std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps, Size size,
                            ThreadPool *pool);

// Whether maps fit each other.
bool are_maps(const PostProcess &post, const std::vector<Map> &maps);

// Drops boxes that overlap a better one of their label, and all but the best.
void suppress(int64_t overlap, int64_t keep, size_t labels,
              std::vector<Box> *boxes);

}  // namespace aqd
