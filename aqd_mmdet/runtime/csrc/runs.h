// What a convolution reads for one output pixel: a few runs of codes, a row of
// the window each, since channels are innermost; and the frame of zeros around
// its input, so that every window is whole.

#pragma once

#include "kernels.h"

namespace aqd {

// How the window of an operator is read.
struct Runs {
  int64_t count = 0;
  int64_t per_row = 0;
  int64_t codes = 0;  // of a run
};

Runs runs_of(const Op &op, int32_t channels);

// Which tap of the kernel is the first of a run.
int64_t tap_of(const Op &op, const Runs &runs, int64_t run);

// Where runs begin, in bytes from the first.
std::vector<int64_t> offsets_of(const Op &op, const Runs &runs, int64_t line,
                                int64_t pixel);

// Which rows of a frame around an input some rows of the output read.
struct Band {
  int64_t top = 0;  // above the input's first row by the padding
  int64_t rows = 0;
};

Band band_of(const Op &op, int64_t top, int64_t rows);

// How many rows of the output a thread makes at a time, at most, so that what
// it reads stays in its cache; a line is a row of the frame, in bytes.
int64_t most_rows(const Op &op, int64_t line);

// Copies rows of an input into a frame of what stands for zero, as the
// operator's reading says.
void frame(const Op &op, const Tensor &x, const Band &band, uint8_t *to);

}  // namespace aqd
