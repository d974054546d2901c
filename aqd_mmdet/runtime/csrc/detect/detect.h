// From bytes to boxes: docs/integer_contract.md, sections 6 to 8.

#pragma once

#include <algorithm>

#include "detect/detector.h"
#include "interpreter.h"

namespace aqd {

// RGB pixels, rows a number of bytes apart.
struct Pixels {
  const uint8_t *data = nullptr;
  Size size;
  ptrdiff_t stride = 0;
};

// Left, upper, right and lower edge.
struct Edges {
  int64_t x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  int64_t width() const { return x1 - x0; }
  int64_t height() const { return y1 - y0; }
  int64_t area() const { return width() * height(); }
  bool has_area() const { return width() > 0 && height() > 0; }
};

struct Box {
  Edges edges;  // 256ths of a pixel
  int32_t label = 0;
  int64_t score = 0;  // in 2^-24; until non-maximum suppression a rank
};

// Finds objects in an image, the best first. Edges fit 32 bits.
Status detect(Interpreter *interpreter, const Pixels &image,
              std::vector<Box> *found);

// These are its steps. Integers:

// Requantises a number of a channel, and limits its magnitude.
inline int64_t requantize(int64_t x, const Multipliers &table, size_t channel,
                          int64_t most) {
  const size_t k = table.m.size() > 1 ? channel : 0;
  return std::clamp((x * table.m[k] + table.b[k]) >> table.s[k], -most, most);
}

// A curve's value at an argument inside its range.
inline int64_t read_curve(const Curve &curve, int64_t x) {
  const int64_t one = int64_t{1} << curve.bits;
  const size_t i = static_cast<size_t>((x - curve.first) >> curve.bits);
  const int64_t r = (x - curve.first) & (one - 1);
  // Half a unit for rounding, unless values are not interpolated at all.
  const int64_t sum = curve.table[i] * (one - r) + curve.table[i + 1] * r;
  return (sum + (one >> 1)) >> curve.bits;
}

// x / 2^bits, ties upwards.
inline int64_t rounded(int64_t x, int bits) {
  return (x + (int64_t{1} << (bits - 1))) >> bits;
}

// The floored quotient; the divisor is positive.
template <typename T>
T floored(T x, T divisor) {
  const T quotient = x / divisor;
  return quotient * divisor > x ? quotient - 1 : quotient;
}

// The floored square root of a number from 0 to 2^62.
inline int64_t square_root(int64_t x) {
  int64_t root = 0;
  for (int bit = 30; bit >= 0; --bit) {
    const int64_t larger = root + (int64_t{1} << bit);
    if (larger * larger <= x) root = larger;
  }
  return root;
}

// Images (preprocess.cpp):

// Whether there is such an image, and whether detectors take one of its size.
bool is_image(const Pixels &image);

// Size of an image when it is resized to the sides of the pre-processing.
Size resized_size(const PreProcess &pre, Size image);

// Size of a resized image with its padding.
Size padded_size(const PreProcess &pre, Size resized, int32_t stride);

// Resizes an image and pads it.
void resize(const PreProcess &pre, const Pixels &image, Size resized,
            Size padded, ThreadPool *pool, uint8_t *out);

// Scores (scores.cpp):

// What leaves a network: height x width x channels codes. Of a detector these
// are the logits of all levels, then the box codes, then the factors.
struct Map {
  const int32_t *codes = nullptr;
  int32_t channels = 0;
  Size size;
};

// A class of a prior of a level. Its index counts rows, columns, priors and
// classes, which is the order of a map's logits.
struct Candidate {
  int64_t rank = 0;
  size_t level = 0;
  int64_t index = 0;
};

// The pixels of each level where the other outputs are needed, by the kind of
// outputs that chooses: those of the candidates, or of all that could be one.
std::vector<PixelSet> chosen_pixels(const Detector &detector,
                                    const std::vector<Map> &maps,
                                    const std::vector<Candidate> &candidates,
                                    ThreadPool *pool);

// The best candidates of all levels, in the order of levels, with the ranks by
// which they are sorted for non-maximum suppression.
std::vector<Candidate> find_candidates(const Detector &detector,
                                       const std::vector<Map> &maps,
                                       ThreadPool *pool);

// The score of a rank, in 2^-24.
int64_t score_of(const Scores &scores, int64_t rank);

// Replaces logits in Q16 by multiples of their exponentials. Returns their sum.
int64_t exponentiate(const Curve &exp, size_t count, int64_t *logits);

// Replaces logits in Q16 by their softmax, in 2^-24.
void softmax(const Curve &exp, size_t count, int64_t *logits);

// Boxes (boxes.cpp):

// Boxes in an image of a size without its padding; of a detector with a second
// stage, its proposals.
std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps,
                            const std::vector<Candidate> &candidates,
                            Size size);

// An anchor, moved and scaled by four codes: dx, dy, dw, dh.
Edges decode_deltas(const Anchor &from, const int32_t *codes,
                    const Multipliers &table, int64_t limit, const Curve &exp);

// Edges in Q12 pixels, clipped to near..far pixels and rounded to 256ths.
Edges clip(const Edges &wide, int64_t near, Size far);

// Non-maximum suppression: drops each box that overlaps a better one of its
// label too much, and keeps so many of the rest, the best first.
void nms(int64_t overlap, int64_t keep, std::vector<Box> *boxes);

// Second stages (rois.cpp):

// Replaces proposals by the boxes that the stages make of them.
Status refine_proposals(Interpreter *interpreter, const std::vector<Map> &maps,
                        Size size, std::vector<Box> *boxes);

}  // namespace aqd
