// Of a detector's network, which pixels of each tensor are needed once the
// candidates are known: outputs at the candidates, and what their windows read.

#pragma once

#include <deque>
#include <vector>

#include "profile.h"

namespace aqd {

// Limits steps from the first one behind the choice on to what outputs need.
// wanted: the pixels of each output; null for all. Returns the sets that steps
// and tensors refer to from now on.
std::deque<PixelSet> select_pixels(const Program &program,
                                   const std::vector<const PixelSet *> &wanted,
                                   size_t first, std::vector<Step> *steps,
                                   std::vector<Tensor> *tensors);

}  // namespace aqd
