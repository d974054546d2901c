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

  bool is_real() const { return edges.x1 > edges.x0 && edges.y1 > edges.y0; }
};

// Where a box starts from: a pixel of a map, and which of its priors.
struct BoxPlace {
  int64_t y = 0, x = 0, prior = 0;
};

// The box of a place's codes, in Q12 pixels.
Edges decode(const Decoder &decoder, size_t level, const int32_t *codes,
             const BoxPlace &place);

// A box (centre and sides in Q12) moved and grown by four codes.
Edges moved(const Anchor &from, const int32_t *codes, const Multipliers &table,
            int64_t limit, const Curve &exp);

// Edges in Q12, limited to near..far pixels, in 256ths.
Edges limited(const Edges &wide, int64_t near, Size far);

}  // namespace aqd
