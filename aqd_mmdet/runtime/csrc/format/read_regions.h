// Reads the second stages of a file.

#pragma once

#include "detect/detector.h"
#include "format/reader.h"

namespace aqd {

// programs: the network, then those of the stages. labels: how many.
void read_regions(const JsonNode &node, const std::vector<Program> &programs,
                  size_t labels, Reader *reader, Regions *regions);

}  // namespace aqd
