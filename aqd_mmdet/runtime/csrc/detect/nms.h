// From logits to boxes: docs/integer_contract.md, section 7.

#pragma once

#include "detect/boxes.h"
#include "detect/scores.h"
#include "thread_pool.h"

namespace aqd {

// Boxes of one image; of a detector with a second stage, its proposals.
//
// maps: all levels of the logits, then of the box codes, then of the factors.
// size: of the resized image, without its padding.
std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps, Size size,
                            ThreadPool *pool);

// Whether the maps of each level have one size.
bool are_of_one_size(const PostProcess &post, const std::vector<Map> &maps);

// Non-maximum suppression: drops each box that overlaps a better one of its
// label too much, and keeps so many of the rest.
void nms(int64_t overlap, int64_t keep, size_t labels,
         std::vector<Box> *boxes);

}  // namespace aqd
