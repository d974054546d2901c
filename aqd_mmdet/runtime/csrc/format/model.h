// What a file holds.

#pragma once

#include "detect/detector.h"
#include "graph/program.h"

namespace aqd {

struct Model {
  std::vector<Program> programs;
  Detector detector;
  std::string refusal;  // why nothing can be detected, if it is so
};

// Reads a file's content; on failure returns false and says what is wrong.
bool load_model(const uint8_t *content, size_t length, Model *model,
                std::string *message);

}  // namespace aqd
