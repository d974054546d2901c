#include "detect/boxes.h"

#include "detect/curves.h"

namespace aqd {
namespace {

constexpr int64_t kMaxDelta = int64_t{64} << kDeltaBits;
constexpr int64_t kMaxDistance = 1 << 26;
constexpr int64_t kHalf = 1 << (kDeltaBits - 1);

// A side times the exponential of a Q16 logarithm.
int64_t scaled_by_exp(int64_t log, int64_t side, int64_t limit,
                      const Curve &exp) {
  return rounded(read_curve(exp, std::clamp(log, -limit, limit)) * side,
                 kDeltaBits);
}

Edges box_around(int64_t x, int64_t y, int64_t width, int64_t height) {
  const int64_t x0 = x - (width >> 1), y0 = y - (height >> 1);
  return {x0, y0, x0 + width, y0 + height};
}

// A position of a grid in Q12.
int64_t grid_point(int64_t place, int32_t stride) {
  return place * stride * (int64_t{1} << kGeometryBits);
}

Edges decode_cell(const Decoder &decoder, const BoxLevel &level,
                  const Anchor &anchor, const int32_t *codes) {
  int64_t deltas[4];
  for (size_t i = 0; i < 4; ++i) {
    deltas[i] =
        requantize(codes[i], decoder.tables[0], i, kLowestLogit, -kLowestLogit);
  }
  const auto inside = [&](int64_t code, int32_t stride) {
    // Q16 times pixels, to Q12.
    return rounded((read_curve(decoder.sigmoid, code) - kHalf) * stride,
                   kDeltaBits - kGeometryBits);
  };
  return box_around(anchor.x + inside(deltas[0], level.stride.width),
                    anchor.y + inside(deltas[1], level.stride.height),
                    scaled_by_exp(deltas[2], anchor.width, decoder.limit,
                                  decoder.exp),
                    scaled_by_exp(deltas[3], anchor.height, decoder.limit,
                                  decoder.exp));
}

// The mean of one side's distribution, in Q12.
int64_t mean(const Decoder &decoder, const int32_t *codes, int32_t stride) {
  int64_t x[64];
  const size_t bins = static_cast<size_t>(decoder.bins);
  for (size_t i = 0; i < bins; ++i) {
    x[i] = requantize(codes[i], decoder.tables[0], 0, -kLargestLogit,
                      kLargestLogit);
  }
  const int64_t largest = *std::max_element(x, x + bins);
  int64_t total = 0, sum = 0;
  for (size_t i = 0; i < bins; ++i) {
    const int64_t power =
        read_curve(decoder.exp, std::max(x[i] - largest, kLowestLogit));
    total += power;
    sum += power * static_cast<int64_t>(i);
  }
  return (((sum * stride) << kGeometryBits) + (total >> 1)) / total;
}

// The distance of one side from a point, in Q12.
int64_t distance(const Decoder &decoder, size_t level, const int32_t *codes,
                 size_t side) {
  const BoxLevel &from = decoder.levels[level];
  switch (decoder.kind) {
    case DecoderKind::kExponents: {
      const int64_t x = requantize(codes[side], decoder.tables[0], side,
                                   -decoder.limit, decoder.limit);
      return rounded(read_curve(decoder.exp, x) * from.edge, kDeltaBits);
    }
    case DecoderKind::kBins:
      return mean(decoder, codes + side * static_cast<size_t>(decoder.bins),
                  from.stride.height);
    default:
      return requantize(codes[side], decoder.tables[level], side, -kMaxDistance,
                        kMaxDistance);
  }
}

}  // namespace

Edges decode_deltas(const Anchor &from, const int32_t *codes,
                    const Multipliers &table, int64_t limit, const Curve &exp) {
  int64_t deltas[4];
  for (size_t i = 0; i < 4; ++i) {
    deltas[i] = requantize(codes[i], table, i, -kMaxDelta, kMaxDelta);
  }
  return box_around(from.x + rounded(deltas[0] * from.width, kDeltaBits),
                    from.y + rounded(deltas[1] * from.height, kDeltaBits),
                    scaled_by_exp(deltas[2], from.width, limit, exp),
                    scaled_by_exp(deltas[3], from.height, limit, exp));
}

Edges decode(const Decoder &decoder, size_t level, const int32_t *codes,
             const PriorCoord &place) {
  const BoxLevel &from = decoder.levels[level];
  const int64_t x = grid_point(place.x, from.stride.width);
  const int64_t y = grid_point(place.y, from.stride.height);
  if (decoder.has_anchors()) {
    const Anchor &anchor = from.anchors[static_cast<size_t>(place.prior)];
    const Edges box =
        decoder.kind == DecoderKind::kCells
            ? decode_cell(decoder, from, anchor, codes)
            : decode_deltas(anchor, codes, decoder.tables[0], decoder.limit,
                            decoder.exp);
    return {box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y};
  }
  const int64_t point_x = x + from.offset.width;
  const int64_t point_y = y + from.offset.height;
  return {point_x - distance(decoder, level, codes, 0),
          point_y - distance(decoder, level, codes, 1),
          point_x + distance(decoder, level, codes, 2),
          point_y + distance(decoder, level, codes, 3)};
}

Edges clip(const Edges &wide, int64_t near, Size far) {
  const auto edge = [&](int64_t value, int64_t end) {
    constexpr int64_t kOne = int64_t{1} << kGeometryBits;
    return rounded(std::clamp(value, near * kOne, end * kOne),
                   kGeometryBits - kBoxBits);
  };
  return {edge(wide.x0, far.width), edge(wide.y0, far.height),
          edge(wide.x1, far.width), edge(wide.y1, far.height)};
}

}  // namespace aqd
