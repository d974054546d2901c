// From bytes to the network's image: docs/integer_contract.md, section 6.

#pragma once

#include "detect/detector.h"
#include "thread_pool.h"

namespace aqd {

// RGB pixels, rows a number of bytes apart.
struct Pixels {
  const uint8_t *data = nullptr;
  Size size;
  ptrdiff_t stride = 0;
};

// Whether there is such an image, and whether detectors take one of its size.
bool is_image(const Pixels &image);

// Size at which an image fits the frame.
Size fitted_size(const PreProcess &pre, Size image);

// Size of an image with its border.
Size bordered_size(const PreProcess &pre, Size fitted, int32_t stride);

// Writes an image resized to one size, with a border up to another.
void prepare(const PreProcess &pre, const Pixels &image, Size fitted,
             Size bordered, ThreadPool *pool, uint8_t *out);

}  // namespace aqd
