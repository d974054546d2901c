// From bytes to boxes.

#pragma once

#include "detect/preprocess.h"
#include "interpreter.h"

namespace aqd {

// A box in the image that was given.
struct Detection {
  int32_t x0, y0, x1, y1;  // 256ths of a pixel
  int32_t label;
  int32_t score;  // in 2^-24
};

// Finds objects in an image, the best first.
Status detect(const Interpreter &interpreter, const Pixels &image,
              std::vector<Detection> *found);

// Most detections of one image; 0 if none are to be had.
int32_t max_detections(const Model &model);

}  // namespace aqd
