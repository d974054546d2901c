// From bytes to boxes: docs/integer_contract.md, sections 6 to 8.

#pragma once

#include "detect/detector.h"
#include "interpreter.h"

namespace aqd {

// RGB pixels, rows a number of bytes apart.
struct Pixels {
  const uint8_t *data = nullptr;
  Size size;
  ptrdiff_t stride = 0;
};

// An object, by the fields of the C API.
struct Detection {
  int32_t x0, y0, x1, y1;  // 256ths of a pixel of the image that was given
  int32_t label;
  int32_t score;  // in 2^-24
};

// Finds objects in an image, the best first.
Status detect(Interpreter *interpreter, const Pixels &image,
              std::vector<Detection> *found);

// These are its steps. Images (preprocess.cpp):

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

// The best candidates of all levels, in the order of levels, with the ranks that
// sort them for non-maximum suppression.
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
  int64_t rank = 0;  // of two boxes, the one of the larger is better
};

// Boxes in an image of a size without its padding; of a detector with a second
// stage, its proposals.
std::vector<Box> find_boxes(const Detector &detector,
                            const std::vector<Map> &maps, Size size,
                            ThreadPool *pool);

// An anchor, moved and scaled by four codes: dx, dy, dw, dh.
Edges decode_deltas(const Anchor &from, const int32_t *codes,
                    const Multipliers &table, int64_t limit, const Curve &exp);

// Edges in Q12 pixels, clipped to near..far pixels and rounded to 256ths.
Edges clip(const Edges &wide, int64_t near, Size far);

// Non-maximum suppression: drops each box that overlaps a better one of its
// label too much, and keeps so many of the rest, the best first.
void nms(int64_t overlap, int64_t keep, size_t labels,
         std::vector<Box> *boxes);

// Second stages (rois.cpp):

// Replaces proposals by the boxes that the stages make of them.
Status refine_proposals(Interpreter *interpreter, const std::vector<Map> &maps,
                        Size size, std::vector<Box> *boxes);

}  // namespace aqd
