// Reads what precedes and follows the networks of a file.

#pragma once

#include "detect/detector.h"
#include "format/reader.h"

namespace aqd {

// Reads a detector and proves, as program/check.py does, that no number of
// its images, boxes and scores overflows and that no index is outside; what
// is wrong is in the reader's message then.
void read_detector(const JsonNode &root, const std::vector<Program> &programs,
                   Reader *reader, Detector *made);

}  // namespace aqd
