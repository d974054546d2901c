// In which order the fused operators of a program run.

#pragma once

#include "graph/program.h"

namespace aqd {

// By one kind of a detector's outputs it is known where the others are needed.
struct Choice {
  size_t kind;
  bool is_read_later;  // whether this kind is read after the others are made
};

struct RunOrder {
  std::vector<size_t> roots;  // positions
  size_t choice = 0;          // how many of them the choice needs
  // The outputs whose memory is free behind the choice.
  std::vector<size_t> free;
};

// As they are scheduled.
RunOrder scheduled_order(const Program &program);

// What the choice needs comes first.
RunOrder choice_order(const Program &program, const Choice &choice);

}  // namespace aqd
