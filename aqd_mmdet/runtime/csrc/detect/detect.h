// From bytes to boxes.

#pragma once

#include "aqd.h"
#include "detect/preprocess.h"
#include "interpreter.h"

namespace aqd {

// Finds objects in an image; gives a status. As many as capacity allows are
// written, the best first, and all are counted.
int detect(const Interpreter &interpreter, const Pixels &image,
           aqd_detection *found, int32_t capacity, int32_t *count);

// Most detections of one image; 0 if none are to be had.
int32_t max_detections(const Model &model);

}  // namespace aqd
