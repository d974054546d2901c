// What a file holds, and who reads it.

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

// Readers of parts prove, as program/check.py does, that all that a part refers
// to is there and that no number overflows. What is wrong is in the message of
// the value's reader then.
struct Limits;
class Value;

// first: the kind of the first operator. where: of the program, for messages.
void read_program(const Value &value, const char *first,
                  const std::string &where, Program *program);
// root: of the file, of which all but the programs is read.
void read_detector(const Value &root, const std::vector<Program> &programs,
                   Detector *made);
// programs: the network, then those of the stages. labels: how many.
void read_regions(const Value &value, const std::vector<Program> &programs,
                  size_t labels, Regions *regions);
// Values are not negative, up to the largest. Arguments are read in a range.
Curve read_curve(const Value &value, const Limits &arguments, int64_t largest);
// The exponential of Q16 numbers from -16 to 0, in 2^-24.
Curve read_powers(const Value &value);
// The exponential of Q16 numbers of which a part limits the magnitude.
void read_exponents(const Value &part, const Limits &limits, int64_t *limit,
                    Curve *exp);

}  // namespace aqd
