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

// Size of an image when it is resized to the sides of the pre-processing.
Size resized_size(const PreProcess &pre, Size image);

// Size of a resized image with its padding.
Size padded_size(const PreProcess &pre, Size resized, int32_t stride);

// Resizes an image and pads it.
void resize(const PreProcess &pre, const Pixels &image, Size resized,
            Size padded, ThreadPool *pool, uint8_t *out);

}  // namespace aqd
