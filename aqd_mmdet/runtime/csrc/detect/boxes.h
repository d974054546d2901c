// From box codes to corners: docs/integer_contract.md, section 7.

#pragma once

#include "detect/detector.h"

namespace aqd {

// Left, upper, right and lower edge.
struct Edges {
  int64_t x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

// A box of one image.
struct Box {
  Edges edges;  // 256ths of a pixel
  int32_t label = 0;
  int64_t rank = 0;  // of two boxes, the one of the larger is better

  bool has_area() const { return edges.x1 > edges.x0 && edges.y1 > edges.y0; }
};

// A prior of a level: the pixel of a map, and which prior of that pixel.
struct PriorCoord {
  int64_t y = 0, x = 0, prior = 0;
};

// The box that codes of a prior stand for, in Q12 pixels.
Edges decode(const Decoder &decoder, size_t level, const int32_t *codes,
             const PriorCoord &place);

// An anchor, moved and scaled by four codes: dx, dy, dw, dh.
Edges decode_deltas(const Anchor &from, const int32_t *codes,
                    const Multipliers &table, int64_t limit, const Curve &exp);

// Edges in Q12 pixels, clipped to near..far pixels and rounded to 256ths.
Edges clip(const Edges &wide, int64_t near, Size far);

}  // namespace aqd
