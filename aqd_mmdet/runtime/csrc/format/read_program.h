// Reads the programs of a file.

#pragma once

#include "format/reader.h"
#include "graph/program.h"

namespace aqd {

// Reads a program and proves, as program/check.py does, that all it refers to
// is there and that nothing overflows.
//
// first: the kind of the first operator. where: of the program, for messages.
void read_program(const JsonNode &node, const char *first,
                  const std::string &where, Reader *reader, Program *program);

}  // namespace aqd
