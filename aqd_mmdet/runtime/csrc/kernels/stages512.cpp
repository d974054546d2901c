#include "kernels/stages512.h"

#ifdef AQD_HAS_AVX512

#include <immintrin.h>

#include <algorithm>

#include "graph/memory_plan.h"

// Fetches what will be written. (GCC takes functions that only fetch for ones
// that do nothing, unless they are inlined.)
#define AQD_FETCHW __attribute__((target("prfchw")))
#define AQD_INLINE_FETCHW __attribute__((always_inline, target("prfchw")))

namespace aqd {

// One stage of a fused, ready to run.
struct VectorStage {
  const Op *op;
  const int64_t *table;       // of a requantisation
  const int32_t *thresholds;  // instead, if there are
  bool is_narrow;
  Grid grid;
  PostOp::Input inputs[2];
  std::vector<int64_t> rows, columns;  // what is upsampled, by its output
  Type type;
  uint8_t *out;  // null if nothing is stored
  bool is_streamed;

  template <typename T>
  bool is() const {
    return op->is<T>();
  }
};

namespace {

constexpr int kTable = 6 * 8;  // numbers of a requantisation of 16 channels

// Multipliers, biases and shifts of 16 channels, even ones before odd ones.
void pack_table(Node *node) {
  const Multipliers &table = node->op.as<Requantize>().multipliers;
  const int64_t vectors = vectors_of(node->op.channels);
  node->packed.multipliers.assign(static_cast<size_t>(vectors * kTable), 0);
  for (int64_t c = 0; c < node->op.channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    int64_t *to = node->packed.multipliers.data() + c / kLanes * kTable + c % 2 * 8 +
                  c % kLanes / 2;
    to[0] = table.m[k];
    to[16] = table.b[k];
    to[32] = table.s[k];
  }
}

// The sum from which on an output code is at least `code`; for a negative
// multiplier, complements of sums are compared. Saturated to 32 bits, one
// beyond what sums reach.
int64_t threshold(int64_t m, int64_t b, int s, int64_t code) {
  const __int128 least = code * (static_cast<__int128>(1) << s) - b;
  if (m == 0) return least <= 0 ? INT64_MIN : INT64_MAX;
  // The least a with a * m >= least; or the largest, as m is negative.
  __int128 quotient = least / m;
  const bool exact = quotient * m == least;
  const bool down = !exact && (least < 0) != (m < 0);
  if (down) --quotient;
  if (m > 0 && !exact) ++quotient;
  if (m < 0) quotient = ~quotient;
  return static_cast<int64_t>(
      std::clamp<__int128>(quotient, INT64_MIN, INT64_MAX));
}

void pack_thresholds(Node *node) {
  const Multipliers &table = node->op.as<Requantize>().multipliers;
  const int64_t vectors = vectors_of(node->op.channels);
  node->packed.thresholds.assign(static_cast<size_t>(vectors * kThresholds), INT32_MAX);
  for (int64_t c = 0; c < node->op.channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    int32_t *to =
        node->packed.thresholds.data() + c / kLanes * kThresholds + c % kLanes;
    to[0] = table.m[k] < 0 ? -1 : 0;
    to[kLanes] = node->op.grid.low;
    int32_t *next = to + 2 * kLanes;
    for (int64_t code = int64_t{node->op.grid.low} + 1; code <= node->op.grid.high; ++code) {
      const int64_t t = threshold(table.m[k], table.b[k], table.s[k], code);
      if (t <= INT32_MIN) {
        ++to[kLanes];  // all sums reach it
      } else if (t <= INT32_MAX) {
        *next = static_cast<int32_t>(t - 1);
        next += kLanes;
      }
    }
  }
}

// Outputs of 32 bits from so many bytes on are written past the caches, which
// do not hold them until they are read, and so need not read what is there.
constexpr size_t kStreamed = 4 << 20;

bool is_streamed(const Tensor *out) {
  return out != nullptr && out->type == Type::kI32 &&
         out->channels % kLanes == 0 && out->count() * 4 >= kStreamed &&
         reinterpret_cast<uintptr_t>(out->data) % 64 == 0;
}

std::vector<VectorStage> stages_of(const FusedOp &fused) {
  std::vector<VectorStage> made(fused.ops.size());
  for (size_t i = 0; i < made.size(); ++i) {
    const PostOp &stage = fused.ops[i];
    const Node &node = *stage.node;
    VectorStage &to = made[i];
    to.op = &node.op;
    to.table = node.packed.multipliers.data();
    to.thresholds = node.packed.thresholds.empty() ? nullptr : node.packed.thresholds.data();
    to.is_narrow = node.op.is<Requantize>() &&
                   node.op.as<Requantize>().fits_int32;
    to.grid = node.op.grid;
    std::copy(stage.inputs, stage.inputs + 2, to.inputs);
    to.type = node.op.grid.type();
    to.out = stage.out == nullptr ? nullptr
                                  : static_cast<uint8_t *>(stage.out->data);
    to.is_streamed = is_streamed(stage.out);
    if (!node.op.is<Upsample>()) continue;
    const Size &from = stage.inputs[0].tensor->size;
    for (int64_t y = 0; y < fused.size.height; ++y) {
      to.rows.push_back(y * from.height / fused.size.height * from.width);
    }
    for (int64_t x = 0; x < fused.size.width; ++x) {
      to.columns.push_back(x * from.width / fused.size.width);
    }
  }
  return made;
}

// A requantisation of 16 channels.
class Requantizer {
 public:
  AQD_AVX512 Requantizer(const VectorStage &stage, const TileCoord &tile)
      : grid_(stage.grid) {
    const int64_t *table = stage.table + tile.vector * kTable;
    for (int i = 0; i < 6; ++i) table_[i] = _mm512_loadu_si512(table + 8 * i);
  }

  // Of values that fit 32 bits before they are limited.
  AQD_AVX512 void run_narrow(int count, const int32_t *x, int32_t *to) const {
    const __m512i low = _mm512_set1_epi32(grid_.low);
    const __m512i high = _mm512_set1_epi32(grid_.high);
    for (int i = 0; i < count; i += kLanes) {
      const __m512i sums = _mm512_load_si512(x + i);
      const __m512i code = merged(even(sums), odd(sums));
      _mm512_store_si512(
          to + i, _mm512_min_epi32(_mm512_max_epi32(code, low), high));
    }
  }

  AQD_AVX512 void run(int count, const int32_t *x, int32_t *to) const {
    const __m512i low = _mm512_set1_epi64(grid_.low);
    const __m512i high = _mm512_set1_epi64(grid_.high);
    for (int i = 0; i < count; i += kLanes) {
      const __m512i sums = _mm512_load_si512(x + i);
      const __m512i first = _mm512_min_epi64(_mm512_max_epi64(even(sums), low),
                                             high);
      const __m512i second = _mm512_min_epi64(_mm512_max_epi64(odd(sums), low),
                                              high);
      _mm512_store_si512(to + i, merged(first, second));
    }
  }

 private:
  // Sums of even channels times multipliers, plus biases, shifted.
  AQD_AVX512 __m512i even(__m512i sums) const {
    const __m512i product = _mm512_mul_epi32(sums, table_[0]);
    return _mm512_srav_epi64(_mm512_add_epi64(product, table_[2]), table_[4]);
  }

  AQD_AVX512 __m512i odd(__m512i sums) const {
    const __m512i product =
        _mm512_mul_epi32(_mm512_srli_epi64(sums, 32), table_[1]);
    return _mm512_srav_epi64(_mm512_add_epi64(product, table_[3]), table_[5]);
  }

  // Lower halves of the first, and those of the second as upper ones.
  AQD_AVX512 static __m512i merged(__m512i first, __m512i second) {
    return _mm512_mask_shuffle_epi32(first, 0xaaaa, second, _MM_PERM_CCAA);
  }

  const Grid grid_;
  __m512i table_[6];
};

AQD_AVX512 inline __m512i compared(__m512i sums, const int32_t *thresholds) {
  const __m512i one = _mm512_set1_epi32(1);
  sums = _mm512_xor_si512(sums, _mm512_loadu_si512(thresholds));
  __m512i code = _mm512_loadu_si512(thresholds + kLanes);
#pragma GCC unroll 3
  for (int i = 0; i < kCompared; ++i) {
    const __m512i least = _mm512_loadu_si512(thresholds + (2 + i) * kLanes);
    const __mmask16 more = _mm512_cmpgt_epi32_mask(sums, least);
    code = _mm512_mask_add_epi32(code, more, code, one);
  }
  return code;
}

AQD_AVX512 void requantize(const VectorStage &stage, const TileCoord &tile,
                           int count, const int32_t *x, int32_t *to) {
  if (stage.thresholds != nullptr) {
    const int32_t *t = stage.thresholds + tile.vector * kThresholds;
    for (int i = 0; i < count; i += kLanes) {
      _mm512_store_si512(to + i, compared(_mm512_load_si512(x + i), t));
    }
    return;
  }
  const Requantizer rounding(stage, tile);
  if (stage.is_narrow) return rounding.run_narrow(count, x, to);
  rounding.run(count, x, to);
}

AQD_AVX512 void add(const VectorStage &stage, int count, const int32_t *x,
                    const int32_t *y, int32_t *to) {
  const __m512i low = _mm512_set1_epi32(stage.grid.low);
  const __m512i high = _mm512_set1_epi32(stage.grid.high);
  for (int i = 0; i < count; i += kLanes) {
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(x + i),
                                         _mm512_load_si512(y + i));
    _mm512_store_si512(to + i,
                       _mm512_min_epi32(_mm512_max_epi32(sum, low), high));
  }
}

// Sixteen codes each of some pixels, which lie `next` codes apart.
struct Pixels {
  int count;
  int64_t next;
  __mmask16 mask;  // of channels that there are
};

#define AQD_EACH AQD_AVX512 __attribute__((always_inline))

// Calls what takes the place of 16 codes of each pixel, in its tensor and here.
template <class Take>
AQD_EACH inline void each_pixel(const Pixels &pixels, int64_t at,
                                const Take &take) {
  for (int p = 0; p < pixels.count; ++p) take(at + p * pixels.next, p * kLanes);
}

AQD_AVX512 inline void store(const VectorStage &stage, const Pixels &pixels,
                             const int32_t *codes, int64_t at) {
  const __mmask16 mask = pixels.mask;
  uint8_t *out = stage.out;
  switch (stage.type) {
    case Type::kU8:
    case Type::kI8:
      return each_pixel(pixels, at, [&](int64_t to, int i) AQD_EACH {
        _mm_mask_storeu_epi8(
            out + to, mask, _mm512_cvtepi32_epi8(_mm512_load_si512(codes + i)));
      });
    case Type::kI16:
      return each_pixel(pixels, at, [&](int64_t to, int i) AQD_EACH {
        _mm256_mask_storeu_epi16(
            out + 2 * to, mask,
            _mm512_cvtepi32_epi16(_mm512_load_si512(codes + i)));
      });
    case Type::kI32:
      if (!stage.is_streamed) {
        return each_pixel(pixels, at, [&](int64_t to, int i) AQD_EACH {
          _mm512_mask_storeu_epi32(out + 4 * to, mask,
                                   _mm512_load_si512(codes + i));
        });
      }
      // Who waits for it takes a lock that this thread held since, behind
      // which such stores are done.
      each_pixel(pixels, at, [&](int64_t to, int i) AQD_EACH {
        _mm512_stream_si512(reinterpret_cast<__m512i *>(out + 4 * to),
                            _mm512_load_si512(codes + i));
      });
  }
}

AQD_AVX512 inline void load(const Tensor &x, const Pixels &pixels, int64_t at,
                            int32_t *codes) {
  const __mmask16 mask = pixels.mask;
  const uint8_t *from = static_cast<const uint8_t *>(x.data);
  switch (x.type) {
    case Type::kU8:
      return each_pixel(pixels, at, [&](int64_t place, int i) AQD_EACH {
        _mm512_store_si512(codes + i, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(
                                          mask, from + place)));
      });
    case Type::kI8:
      return each_pixel(pixels, at, [&](int64_t place, int i) AQD_EACH {
        _mm512_store_si512(codes + i, _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(
                                          mask, from + place)));
      });
    case Type::kI16:
      return each_pixel(pixels, at, [&](int64_t place, int i) AQD_EACH {
        _mm512_store_si512(
            codes + i, _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(
                           mask, from + 2 * place)));
      });
    case Type::kI32:
      each_pixel(pixels, at, [&](int64_t place, int i) AQD_EACH {
        _mm512_store_si512(codes + i,
                           _mm512_maskz_loadu_epi32(mask, from + 4 * place));
      });
  }
}

AQD_AVX512 const int32_t *input(const VectorStage &stage, int index,
                                const Pixels &pixels, int64_t at,
                                const Made *made, int32_t *to) {
  const PostOp::Input &input = stage.inputs[index];
  if (input.tensor == nullptr) return made->codes[input.index];
  const Tensor &x = *input.tensor;
  load(x, pixels, at, to);
  return to;
}

AQD_AVX512 void upsample(const VectorStage &stage, const TileCoord &tile,
                         Pixels pixels, int32_t *to) {
  const Tensor &x = *stage.inputs[0].tensor;
  pixels.count = 1;
  const int64_t *column = stage.columns.data() + tile.column;
  const int64_t line = stage.rows[static_cast<size_t>(tile.row)];
  for (int p = 0; p < tile.pixels; ++p, to += kLanes) {
    const int64_t pixel = line + column[p];
    load(x, pixels, pixel * pixels.next + tile.vector * kLanes, to);
  }
}

AQD_AVX512 void run_stage(const VectorStage &stage, const TileCoord &tile,
                          const Pixels &pixels, int64_t at, const Made *made,
                          int32_t *to) {
  if (stage.is<Upsample>()) {
    return upsample(stage, tile, pixels, to);
  }
  alignas(64) int32_t read[2][kTilePixels * kLanes];
  const int32_t *x = input(stage, 0, pixels, at, made, read[0]);
  const int count = tile.pixels * kLanes;
  if (stage.is<Add>()) {
    const int32_t *y = input(stage, 1, pixels, at, made, read[1]);
    add(stage, count, x, y, to);
  } else {
    requantize(stage, tile, count, x, to);
  }
}

// Whether thresholds tell sums apart that are saturated to 16 bits.
bool are_short(const Node &node) {
  for (size_t i = 0; i < node.packed.thresholds.size(); ++i) {
    const int32_t t = node.packed.thresholds[i];
    const bool is_least = i % kThresholds >= 2 * kLanes;
    const bool is_never = is_least && t == INT32_MAX;
    if (!is_never && (t < INT16_MIN || t >= INT16_MAX)) return false;
  }
  return !node.packed.thresholds.empty();
}

// Rounds sums of four pixels to a few codes, 16 bytes of each.
class ShortThresholds {
 public:
  AQD_AVX512 explicit ShortThresholds(const int32_t *thresholds)
      : flip_(twice(thresholds)), low_(twice(thresholds + kLanes)) {
    for (int i = 0; i < kCompared; ++i) {
      least_[i] = twice(thresholds + (2 + i) * kLanes);
    }
  }

  AQD_AVX512 __m512i codes(const int32_t *sums) const {
    const __m512i bytes = _mm512_packus_epi16(two(sums), two(sums + 2 * kLanes));
    // Four channels of each pixel in turn, to all channels of each.
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, bytes);
  }

 private:
  AQD_AVX512 static __m512i twice(const int32_t *numbers) {
    const __m512i x = _mm512_loadu_si512(numbers);
    return _mm512_packs_epi32(x, x);
  }

  AQD_AVX512 __m512i two(const int32_t *sums) const {
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i x =
        _mm512_xor_si512(flip_, _mm512_packs_epi32(
                                    _mm512_load_si512(sums),
                                    _mm512_load_si512(sums + kLanes)));
    __m512i code = low_;
#pragma GCC unroll 3
    for (int i = 0; i < kCompared; ++i) {
      const __mmask32 more = _mm512_cmpgt_epi16_mask(x, least_[i]);
      code = _mm512_mask_add_epi16(code, more, code, one);
    }
    return code;
  }

  __m512i flip_, low_, least_[kCompared];
};

// Rounds sums to bytes at once. There is room for whole vectors of four
// pixels, but not all of them are stored.
AQD_AVX512 void store_short(const int32_t *thresholds, const int32_t *sums,
                            int count, int64_t next, uint8_t *out) {
  const ShortThresholds rounding(thresholds);
  for (int p = 0; p < count; p += 4, sums += 4 * kLanes, out += 4 * next) {
    const __m512i x = rounding.codes(sums);
    const auto put = [&](int pixel, __m128i codes) AQD_AVX512 {
      if (p + pixel >= count) return;
      _mm_storeu_si128(reinterpret_cast<__m128i *>(out + pixel * next), codes);
    };
    put(0, _mm512_castsi512_si128(x));
    put(1, _mm512_extracti32x4_epi32(x, 1));
    put(2, _mm512_extracti32x4_epi32(x, 2));
    put(3, _mm512_extracti32x4_epi32(x, 3));
  }
}

// Runs the stages of a residual connection, one after another for all pixels.
AQD_AVX512 void store_residual(const Residual &r, const TileCoord &tile,
                               const Pixels &pixels, int32_t *sums,
                               int64_t at) {
  alignas(64) int32_t term[kTilePixels * kLanes];
  const int count = pixels.count * kLanes;
  if (r.other != nullptr && r.other->is<Upsample>()) {
    upsample(*r.other, tile, pixels, term);
  } else {
    load(*r.term, pixels, at, term);
    if (r.other != nullptr) requantize(*r.other, tile, count, term, term);
  }
  requantize(*r.first, tile, count, sums, sums);
  add(*r.add, count, sums, term, sums);
  if (r.add->out != nullptr) store(*r.add, pixels, sums, at);
  if (r.last == nullptr) return;
  const VectorStage &last = *r.last;
  if (r.is_short && pixels.mask == 0xffff) {
    return store_short(last.thresholds + tile.vector * kThresholds, sums,
                       pixels.count, pixels.next, last.out + at);
  }
  requantize(last, tile, count, sums, sums);
  store(last, pixels, sums, at);
}

// Whether a requantisation is by a table, of numbers of 32 bits.
bool is_plain(const VectorStage &stage) {
  return stage.is<Requantize>() && stage.thresholds == nullptr &&
         stage.is_narrow;
}

// The stages of a residual connection, if a fused has these and no others.
Residual residual_of(const FusedOp &fused,
                     const std::vector<VectorStage> &stages) {
  Residual r;
  if (!fused.is_convolution() || stages[0].out != nullptr) return {};
  size_t found = 1;
  for (const VectorStage &stage : stages) {
    if (stage.is<Add>() && r.add == nullptr) {
      r.add = &stage;
      ++found;
    }
  }
  if (r.add == nullptr) return {};
  const int sum = static_cast<int>(r.add - stages.data());
  for (const PostOp::Input &input : r.add->inputs) {
    if (input.tensor != nullptr) {
      r.term = input.tensor;
      continue;
    }
    const VectorStage &each = stages[static_cast<size_t>(input.index)];
    if (each.out != nullptr) return {};
    const PostOp::Input &read = each.inputs[0];
    const bool reads_sums = read.tensor == nullptr && read.index == 0;
    ++found;
    if (is_plain(each) && reads_sums) {
      r.first = &each;
    } else if (read.tensor != nullptr &&
               (each.is<Upsample>() || is_plain(each))) {
      r.other = &each;
      r.term = read.tensor;
    } else {
      return {};
    }
  }
  if (found < stages.size()) {
    const VectorStage &last = stages.back();
    const bool right = last.is<Requantize>() && last.is_narrow &&
                       last.inputs[0].tensor == nullptr &&
                       last.inputs[0].index == sum && last.out != nullptr;
    if (!right) return {};
    r.last = &last;
    r.is_short = last.type == Type::kU8 && are_short(*fused.ops.back().node);
    ++found;
  }
  const bool whole =
      found == stages.size() && r.first != nullptr && r.term != nullptr;
  return whole ? r : Residual{};
}

// Whether one requantisation follows sums, and nothing else is stored.
bool is_single(const FusedOp &fused) {
  const PostOp &last = fused.ops.back();
  return fused.is_convolution() && fused.ops.size() == 2 &&
         last.op().is<Requantize>() && fused.ops[0].out == nullptr &&
         last.out != nullptr;
}

// Whether that is a rounding to a few unsigned bytes.
bool is_short(const FusedOp &fused) {
  const PostOp &last = fused.ops.back();
  return is_single(fused) && last.out->type == Type::kU8 &&
         are_short(*last.node);
}

}  // namespace

void prepare_requantize(Node *node) {
  if (int64_t{node->op.grid.high} - node->op.grid.low <= kCompared) {
    pack_thresholds(node);
  } else {
    pack_table(node);
  }
}

Stages::Stages(const FusedOp &fused)
    : stages_(stages_of(fused)), width_(fused.size.width),
      channels_(fused.channels), first_(fused.is_convolution() ? 1 : 0),
      is_short_(is_short(fused)),
      is_single_(is_single(fused) && is_plain(stages_[1])),
      residual_(residual_of(fused, stages_)) {}

Stages::~Stages() = default;

AQD_FETCHW void Stages::fetch(const TileCoord &tile, int64_t vectors) const {
  const int64_t channel = tile.vector * kLanes;
  const int64_t many = std::min(vectors * kLanes, channels_ - channel);
  const int64_t first =
      (tile.row * width_ + tile.column) * channels_ + channel;
  // Calls what fetches a line for those of some codes of each pixel; lines
  // that begin before them are here since the last vectors.
  const auto each_line = [&](Type type, const auto &fetch) AQD_INLINE_FETCHW {
    const int64_t code = static_cast<int64_t>(bytes_of(type));
    int64_t skipped = channel * code % kCacheLine;
    if (skipped != 0) skipped = kCacheLine - skipped;
    if (skipped >= many * code) return;
    for (int64_t p = 0; p < tile.pixels; ++p) {
      const int64_t at = (first + p * channels_) * code;
      for (int64_t i = skipped; i < many * code; i += kCacheLine) fetch(at + i);
    }
  };
  for (const VectorStage &stage : stages_) {
    if (stage.out != nullptr && !stage.is_streamed) {
      each_line(stage.type, [&](int64_t at) AQD_INLINE_FETCHW {
        __builtin_prefetch(stage.out + at, 1);
      });
    }
    if (stage.is<Upsample>() || stage.is<Convolution>()) {
      continue;
    }
    for (const PostOp::Input &input : stage.inputs) {
      if (input.tensor == nullptr) continue;
      const uint8_t *from = static_cast<const uint8_t *>(input.tensor->data);
      each_line(input.tensor->type, [&](int64_t at) AQD_INLINE_FETCHW {
        __builtin_prefetch(from + at);
      });
    }
  }
}

AQD_AVX512 void Stages::run(const TileCoord &tile, Made *made) const {
  const int64_t channel = tile.vector * kLanes;
  const int64_t left = std::min<int64_t>(kLanes, channels_ - channel);
  const Pixels pixels = {tile.pixels, channels_,
                         static_cast<__mmask16>((1u << left) - 1)};
  const int64_t at =
      (tile.row * width_ + tile.column) * channels_ + channel;
  if (is_short_ && left == kLanes) {
    return store_short(stages_[1].thresholds + tile.vector * kThresholds,
                       made->codes[0], tile.pixels, channels_,
                       stages_[1].out + at);
  }
  int32_t *sums = made->codes[0];
  if (is_single_) {
    requantize(stages_[1], tile, tile.pixels * kLanes, sums, sums);
    return store(stages_[1], pixels, sums, at);
  }
  if (residual_.add != nullptr) {
    return store_residual(residual_, tile, pixels, sums, at);
  }
  for (size_t i = 0; i < stages_.size(); ++i) {
    const VectorStage &stage = stages_[i];
    int32_t *to = made->codes[i];
    if (i >= first_) run_stage(stage, tile, pixels, at, made, to);
    if (stage.out != nullptr) store(stage, pixels, to, at);
  }
}

}  // namespace aqd

#endif
