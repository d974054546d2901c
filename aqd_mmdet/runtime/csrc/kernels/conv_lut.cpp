// Three codes of two bits are an index into 64 products: those of three
// horizontal neighbours of one channel, or of one pixel's three channels. So are
// two codes of three bits, of two channels. An instruction looks up 64 pixels,
// so one that adds follows for 192 products, or 128. A table depends on as many
// weights, so there are 64 of them for all layers of a width, and a layer's
// weights are a stream of their offsets.
//
// A weight w is 2v + 1, v in -2..1 or -4..3, and a sum of products q * w is
// twice the sum of q * v and the sum of q, which is the same for all output
// channels. What is looked up is the sum of the q * v less its smallest, at most
// 18 or 56, so that bytes hold the sums of 4 lookups at least, and most often of
// 30 or 13.

#include "kernels/conv_lut.h"

#ifdef AQD_HAS_AVX512

#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/stages512.h"

#define AQD_VBMI                                                      \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

namespace aqd {
namespace {

constexpr int64_t kVector = 64;  // pixels, one byte each
// Output channels and vectors of pixels that are summed at once: with four
// vectors of indices, a table and what it gives, all registers.
constexpr int64_t kOuts = 4;
constexpr int64_t kDeep = 4;
// Units of an index that are made at once.
constexpr int64_t kUnits = 64;
constexpr int64_t kMostLookups = 192;  // of a block
// The sum of four lookups surely fits a byte.
constexpr int kMostParts = kMostLookups / 4;
constexpr int kMostRows = 3;  // of a window
constexpr int kFormat = 7;  // of weights, beside those of simd_avx512.cpp, and bits

// Widths of codes, and how many of them are an index.
struct Width {
  int bits, codes;

  constexpr int largest() const { return (1 << bits) - 1; }
  // Of a weight's code what a product is taken of.
  constexpr int half(int code) const { return code - (1 << (bits - 1)); }
  // Codes of a table or an index.
  constexpr int code(int together, int i) const {
    return together >> i * bits & largest();
  }
  // The place of the first of 64 tables.
  constexpr int first() const { return bits == 2 ? 0 : 64; }
  // The table of weights that are 1, for codes themselves.
  constexpr int ones() const {
    const int one = (1 << (bits - 1)) + 1;
    return first() + (bits == 2 ? one << 4 | one << 2 | one : one << 3 | one);
  }
};

constexpr Width kTwo = {2, 3}, kThree = {3, 2};

struct Tables {
  alignas(64) uint8_t of[2 * 64][64];
  uint8_t largest[2 * 64];  // what each gives at most, as 0 at least
};

constexpr void add_tables(Width width, Tables *made) {
  for (int weights = 0; weights < 64; ++weights) {
    const int table = width.first() + weights;
    for (int i = 0; i < width.codes; ++i) {
      const int half = width.half(width.code(weights, i));
      const int less = half < 0 ? half * width.largest() : 0;
      const int most = half < 0 ? -less : half * width.largest();
      made->largest[table] = static_cast<uint8_t>(made->largest[table] + most);
      for (int codes = 0; codes < 64; ++codes) {
        const int product = half * width.code(codes, i) - less;
        made->of[table][codes] =
            static_cast<uint8_t>(made->of[table][codes] + product);
      }
    }
  }
}

constexpr Tables make_tables() {
  Tables made = {};
  add_tables(kTwo, &made);
  add_tables(kThree, &made);
  return made;
}

constexpr Tables kTables = make_tables();

// A unit is what an index byte holds: a channel, or some of all channels.
struct Units {
  Width width;
  bool is_wide = false;  // a channel of three columns
  int64_t count = 0;
  int64_t rows = 0;     // of a window
  int64_t columns = 0;  // of a window that are looked up by themselves
  int64_t block = 0;    // units that are summed together: their indices fit L1

  int64_t taps() const { return rows * columns; }
  int64_t blocks() const { return (count + block - 1) / block; }
};

Units units_of(const Node &node, int64_t channels, Width width) {
  Units units;
  units.width = width;
  units.is_wide = width.bits == 2 && node.conv().window.kernel.width == 3;
  const int64_t together = units.is_wide ? 1 : width.codes;
  units.count = (channels + together - 1) / together;
  units.rows = node.conv().window.kernel.height;
  units.columns = units.is_wide ? 1 : node.conv().window.kernel.width;
  units.block = units.columns == 1 ? kUnits : kUnits / 4;
  return units;
}

Units units_of(const Node &node, int64_t channels) {
  return units_of(node, channels,
                  node.conv().weights->packed.format == kFormat + 2 ? kTwo : kThree);
}

// The table of weights that an index meets; v = 0 where there is none.
inline int table_of(const Node &node, int64_t channels, const Units &units,
                    int64_t out, int64_t unit, int64_t tap) {
  const Width width = units.width;
  int table = 0;
  for (int j = 0; j < width.codes; ++j) {
    const int64_t channel = units.is_wide ? unit : unit + j * units.count;
    const int64_t place = units.is_wide ? tap * width.codes + j : tap;
    int code = 1 << (width.bits - 1);
    if (channel < channels && out < node.op.channels) {
      const int64_t at = (place * channels + channel) * node.op.channels + out;
      code = (node.conv().weights->codes[static_cast<size_t>(at)] + width.largest()) / 2;
    }
    table |= code << width.bits * j;
  }
  return width.first() + table;
}

int64_t groups_of(int64_t outs) { return (outs + kOuts - 1) / kOuts; }

// Lengths of the parts of a block, in lookups.
struct Parts {
  uint8_t of[kMostParts];
};

// Offsets of the tables of one block for a few output channels, in the
// order in which they are read: units, taps, output channels. Parts are as
// long as bytes hold what they give at most.
uint16_t *pack_block(const Node &node, int64_t channels, const Units &units,
                     int64_t out, int64_t first, Parts *parts, uint16_t *to) {
  uint8_t *length = parts->of;
  *length = 0;
  int sums[kOuts] = {};
  const int64_t end = std::min(first + units.block, units.count);
  for (int64_t unit = first; unit < end; ++unit) {
    for (int64_t tap = 0; tap < units.taps(); ++tap) {
      bool fits = true;
      int each[kOuts];
      for (int64_t o = 0; o < kOuts; ++o) {
        const int table = table_of(node, channels, units, out + o, unit, tap);
        *to++ = static_cast<uint16_t>(table * kVector);
        each[o] = kTables.largest[table];
        fits = fits && sums[o] + each[o] <= UINT8_MAX;
      }
      if (!fits) {
        *++length = 0;
        std::fill(sums, sums + kOuts, 0);
      }
      for (int64_t o = 0; o < kOuts; ++o) sums[o] += each[o];
      ++*length;
    }
  }
  return to;
}

void pack(Node *node, int64_t channels, const Units &units) {
  Weights *weights = node->conv().weights;
  const int64_t groups = groups_of(node->op.channels);
  weights->packed.format = kFormat + units.width.bits;
  weights->packed.offsets.resize(
      static_cast<size_t>(groups * kOuts * units.count * units.taps()));
  weights->packed.parts.resize(static_cast<size_t>(groups * units.blocks()) *
                        sizeof(Parts));
  uint16_t *to = weights->packed.offsets.data();
  Parts *parts = reinterpret_cast<Parts *>(weights->packed.parts.data());
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t block = 0; block < units.blocks(); ++block) {
      to = pack_block(*node, channels, units, group * kOuts,
                      block * units.block, parts++, to);
    }
  }
}

// Twice what all lookups of an output channel give too much.
void set_start(Node *node, Width width) {
  const size_t outs = static_cast<size_t>(node->op.channels);
  node->packed.start.assign(static_cast<size_t>(vectors_of(node->op.channels) * kLanes), 0);
  const std::vector<int8_t> &codes = node->conv().weights->codes;
  for (size_t i = 0; i < codes.size(); i += outs) {
    for (size_t o = 0; o < outs; ++o) {
      const int half = width.half((codes[i + o] + width.largest()) / 2);
      node->packed.start[o] += 2 * width.largest() * std::min(half, 0);
    }
  }
}

// A part of the output: some vectors of pixels, taken row by row from columns
// that are 64, or the rest on the right.
struct Tile {
  int64_t left, columns;
  int64_t first;  // pixel of these columns
  int64_t deep;   // vectors

  int64_t row_of(int64_t pixel) const { return (first + pixel) / columns; }
  int64_t column_of(int64_t pixel) const {
    return left + (first + pixel) % columns;
  }
  // How many pixels from one on are in one row.
  int64_t together(int64_t pixel, int64_t most) const {
    return std::min(most, columns - (first + pixel) % columns);
  }
};

std::vector<Tile> tiles_of(Size size, int threads) {
  const int64_t vectors = size.height * ((size.width + kVector - 1) / kVector);
  // Small maps are divided among threads rather than into large tiles.
  const int64_t deep =
      std::clamp<int64_t>((vectors + threads - 1) / threads, 1, kDeep);
  std::vector<Tile> tiles;
  for (int64_t left = 0; left < size.width; left += kVector) {
    const int64_t columns = std::min(kVector, size.width - left);
    const int64_t pixels = columns * size.height;
    for (int64_t first = 0; first < pixels; first += deep * kVector) {
      const int64_t rest = (pixels - first + kVector - 1) / kVector;
      tiles.push_back({left, columns, first, std::min(deep, rest)});
    }
  }
  return tiles;
}

// Vectors of indices of a unit: rows of the input that the vectors of a tile
// share, or some for each of them.
struct Slots {
  int64_t count, next_vector, next_row, columns;
  bool are_shared;

  // The slot of a tap, from the first one of a vector on.
  int64_t of_tap(int64_t tap) const {
    return tap / columns * next_row + tap % columns;
  }
};

Slots slots_of(const Node &node, const Units &units, int64_t columns) {
  const int64_t stride = node.conv().window.stride.height, dilation = node.conv().window.dilation.height;
  const int64_t rows = units.rows, each = units.columns;
  const int64_t shared = (kDeep - 1) * stride + (rows - 1) * dilation + 1;
  if (columns == kVector && shared <= kDeep * rows) {
    return {shared * each, stride * each, dilation * each, each, true};
  }
  return {kDeep * rows * each, rows * each, each, each, false};
}

// Transposes bytes, 16 x 16 in each quarter of the vectors: each round turns
// the place of a byte, a number of 8 bits, by one bit.
AQD_VBMI inline void transpose_bytes(__m512i *x) {
  __m512i y[16];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm512_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm512_unpackhi_epi8(x[i], x[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

// Makes indices of a block of units from an input.
class Indexer {
 public:
  AQD_VBMI Indexer(const FusedOp &fused, const Units &units, const Slots &slots,
                   const Tile &tile)
      : node_(fused.root()), x_(*fused.x), units_(units), slots_(slots),
        tile_(tile), out_(fused.size) {}

  // To unit x slot x pixel.
  AQD_VBMI void run(int64_t block, uint8_t *to) {
    for (int64_t j = 0; j < units_.width.codes; ++j) {
      const int64_t first = units_.is_wide ? block : block + j * units_.count;
      const int64_t left =
          std::min(units_.count - block, x_.channels - first);
      masks_[j] = left >= kUnits ? ~0ull
                  : left <= 0    ? 0
                                 : (1ull << left) - 1;
      shifts_[j] = first;
    }
    for (int64_t slot = 0; slot < slots_.count; ++slot) {
      for (int64_t first = 0; first < kVector; first += 16) {
        __m512i x[16];
        const int64_t before = pixels_before(slot) + first;
        for (int64_t i = 0, many; i < 16; i += many) {
          many = tile_.together(before + i, 16 - i);
          read(slot, before + i, many, x + i);
        }
        transpose_bytes(x);
        uint8_t *plane = to + slot * kVector + first;
        const int64_t next = slots_.count * kVector;
        for (int64_t i = 0; i < 16; ++i, plane += next) {
          const auto put = [&](int64_t quarter, __m128i bytes) {
            _mm_store_si128(
                reinterpret_cast<__m128i *>(plane + 16 * quarter * next), bytes);
          };
          put(0, _mm512_castsi512_si128(x[i]));
          put(1, _mm512_extracti32x4_epi32(x[i], 1));
          put(2, _mm512_extracti32x4_epi32(x[i], 2));
          put(3, _mm512_extracti32x4_epi32(x[i], 3));
        }
      }
    }
  }

 private:
  // Pixels of a tile before those of a slot.
  int64_t pixels_before(int64_t slot) const {
    return slots_.are_shared ? 0 : slot / units_.taps() * kVector;
  }

  // The row of the input that a pixel of a slot reads; none is -1.
  int64_t row_of(int64_t slot, int64_t pixel) const {
    const int64_t out = tile_.row_of(pixel);
    if (out >= out_.height) return -1;
    const int64_t below =
        slots_.are_shared
            ? slot / units_.columns
            : slot % units_.taps() / units_.columns * node_.conv().window.dilation.height;
    const int64_t row = out * node_.conv().window.stride.height + below - node_.conv().window.padding.height;
    return row < x_.size.height ? row : -1;
  }

  // Indices of 64 units at some pixels of a slot, neighbours in one row.
  AQD_VBMI void read(int64_t slot, int64_t pixel, int64_t count,
                     __m512i *to) const {
    const int64_t row = row_of(slot, pixel);
    const int64_t first = tile_.column_of(pixel);
    const int64_t there = row < 0 ? 0 : count;
    const int64_t step = node_.conv().window.stride.width;
    const int64_t next = units_.is_wide ? node_.conv().window.dilation.width : 0;
    const int64_t column = first * step - node_.conv().window.padding.width +
                           slot % units_.columns * node_.conv().window.dilation.width;
    const int64_t last = column + (there - 1) * step + 2 * next;
    const bool is_inside = column >= 0 && last < x_.size.width;
    const int64_t line = x_.size.width * x_.channels;
    const uint8_t *from = static_cast<const uint8_t *>(x_.data) + row * line +
                          column * x_.channels;
    for (int64_t i = 0; i < there; ++i, from += step * x_.channels) {
      __m512i index = _mm512_setzero_si512();
      for (int j = 0; j < units_.width.codes; ++j) {
        // The row below is that of the next slot, most often. Rows are longer
        // than what a cache fetches by itself.
        const uint8_t *each = from + j * next * x_.channels + shifts_[j];
        if (!units_.is_wide || j == 2) {
          _mm_prefetch(reinterpret_cast<const char *>(each + line),
                       _MM_HINT_T0);
        }
        const int64_t at = column + i * step + j * next;
        const bool is_there = is_inside || (at >= 0 && at < x_.size.width);
        if (!is_there) continue;
        const __m512i codes = _mm512_maskz_loadu_epi8(masks_[j], each);
        // They have few bits, so that none moves into a byte beside it.
        const __m128i by = _mm_cvtsi32_si128(j * units_.width.bits);
        index = _mm512_or_si512(index, _mm512_sll_epi16(codes, by));
      }
      to[i] = index;
    }
    for (int64_t i = there; i < count; ++i) to[i] = _mm512_setzero_si512();
  }

  const Node &node_;
  const Tensor &x_;
  const Units &units_;
  const Slots &slots_;
  const Tile &tile_;
  const Size out_;
  __mmask64 masks_[3];
  int64_t shifts_[3];
};

// Sums of 64 pixels, as words of two bytes each: of the words, and of their
// upper bytes alone.
struct Sums {
  __m512i words, uppers;
};

// Where the indices of a block's lookups are, in bytes.
struct Steps {
  int32_t of[kMostLookups];
  int64_t next_vector;
};

Steps steps_of(const Units &units, const Slots &slots) {
  Steps steps;
  steps.next_vector = slots.next_vector * kVector;
  int32_t *to = steps.of;
  for (int64_t u = 0; u < units.block; ++u) {
    for (int64_t tap = 0; tap < units.taps(); ++tap) {
      *to++ = static_cast<int32_t>((u * slots.count + slots.of_tap(tap)) *
                                   kVector);
    }
  }
  return steps;
}

// Adds what a part gives to the sums of four output channels. The order of
// instructions is written down, as pairs of lookups and additions in turn are
// a fifth slower than some of each, and compilers make such pairs. Additions
// are the saturating ones, though nothing is ever cut off: on AMD's Zen 5 they
// have ports of their own, where others take turns with the lookups.
template <int kVectors>
AQD_VBMI void look_up(const int32_t *steps, int64_t count, int64_t next,
                      const uint8_t *indices, const uint16_t *offsets,
                      Sums *sums) {
  __m512i bytes[kOuts][kVectors];
#pragma GCC unroll 4
  for (int o = 0; o < kOuts; ++o) {
#pragma GCC unroll 4
    for (int y = 0; y < kVectors; ++y) bytes[o][y] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t *from = indices + steps[i];
    __m512i index[kVectors];
#pragma GCC unroll 4
    for (int y = 0; y < kVectors; ++y) {
      index[y] = _mm512_load_si512(from + y * next);
    }
#pragma GCC unroll 4
    for (int o = 0; o < kOuts; ++o) {
      const __m512i table = _mm512_load_si512(&kTables.of[0][0] + *offsets++);
      __m512i *to = bytes[o];
      if constexpr (kVectors == 4) {
        __m512i a, b, c, d;
        asm volatile(
            "vpermb %[table], %[i0], %[a]\n\t"
            "vpermb %[table], %[i1], %[b]\n\t"
            "vpermb %[table], %[i2], %[c]\n\t"
            "vpermb %[table], %[i3], %[d]\n\t"
            "vpaddusb %[a], %[x0], %[x0]\n\t"
            "vpaddusb %[b], %[x1], %[x1]\n\t"
            "vpaddusb %[c], %[x2], %[x2]\n\t"
            "vpaddusb %[d], %[x3], %[x3]"
            : [x0] "+v"(to[0]), [x1] "+v"(to[1]), [x2] "+v"(to[2]),
              [x3] "+v"(to[3]), [a] "=&v"(a), [b] "=&v"(b), [c] "=&v"(c),
              [d] "=&v"(d)
            : [table] "v"(table), [i0] "v"(index[0]), [i1] "v"(index[1]),
              [i2] "v"(index[2]), [i3] "v"(index[3]));
      } else {
#pragma GCC unroll 4
        for (int y = 0; y < kVectors; ++y) {
          to[y] = _mm512_adds_epu8(to[y],
                                   _mm512_permutexvar_epi8(index[y], table));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kOuts; ++o) {
#pragma GCC unroll 4
    for (int y = 0; y < kVectors; ++y) {
      Sums &to = sums[o * kDeep + y];
      const __m512i upper = _mm512_srli_epi16(bytes[o][y], 8);
      to.words = _mm512_add_epi16(to.words, bytes[o][y]);
      to.uppers = _mm512_add_epi16(to.uppers, upper);
    }
  }
}

using LookUp = void (*)(const int32_t *, int64_t count, int64_t next,
                        const uint8_t *, const uint16_t *, Sums *);

constexpr LookUp kLookUps[kDeep] = {look_up<1>, look_up<2>, look_up<3>,
                                    look_up<4>};

// Adds the codes of a block of units to the sums of each slot.
AQD_VBMI void sum_codes(Width width, const uint8_t *index, int64_t units,
                        int64_t slots, Sums *sums) {
  const int64_t most = UINT8_MAX / (width.largest() * width.codes);
  const __m512i table = _mm512_load_si512(kTables.of[width.ones()]);
  for (int64_t slot = 0; slot < slots; ++slot) {
    Sums sum = sums[slot];
    for (int64_t first = 0; first < units; first += most) {
      __m512i bytes = _mm512_setzero_si512();
      const int64_t end = std::min(first + most, units);
      for (int64_t u = first; u < end; ++u) {
        const uint8_t *from = index + (u * slots + slot) * kVector;
        bytes = _mm512_add_epi8(
            bytes, _mm512_permutexvar_epi8(_mm512_load_si512(from), table));
      }
      sum.words = _mm512_add_epi16(sum.words, bytes);
      sum.uppers = _mm512_add_epi16(sum.uppers, _mm512_srli_epi16(bytes, 8));
    }
    sums[slot] = sum;
  }
}

// Sums of every second pixel; those of the others are the upper ones.
AQD_VBMI inline __m512i evens_of(const Sums &sums) {
  return _mm512_sub_epi16(sums.words, _mm512_slli_epi16(sums.uppers, 8));
}

// Sums of 64 pixels in their order, of 16 bits.
AQD_VBMI inline void separate(const Sums &sums, uint16_t *to) {
  const __m512i odd = sums.uppers, even = evens_of(sums);
  const __m512i low = _mm512_unpacklo_epi16(even, odd);
  const __m512i high = _mm512_unpackhi_epi16(even, odd);
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  _mm512_store_si512(to, _mm512_permutex2var_epi64(low, first, high));
  _mm512_store_si512(to + 32, _mm512_permutex2var_epi64(low, second, high));
}

// Transposes 16 x 16 numbers: each round turns a place by one bit.
AQD_VBMI inline void transpose_numbers(__m512i *x) {
  const __m512i low =
      _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                         13, 29, 14, 30, 15, 31);
  __m512i y[16];
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm512_permutex2var_epi32(x[i], low, x[i + 8]);
      y[2 * i + 1] = _mm512_permutex2var_epi32(x[i], high, x[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
}

// The thresholds of a channel (stages512.cpp) for sums of 16 bits.
struct Narrow {
  int16_t flip, low, start, least[kCompared];
};

// Thresholds of all channels where nothing but rounding to a few codes follows
// sums of 16 bits; otherwise none.
std::vector<Narrow> narrow_of(const FusedOp &fused, const Units &units) {
  std::vector<Narrow> made;
  const PostOp &last = fused.ops.back();
  const int64_t product = units.width.largest() * units.width.largest();
  const int64_t largest =
      units.count * units.taps() * units.width.codes * product;
  if (fused.ops.size() != 2 || last.node->packed.thresholds.empty() ||
      fused.ops[0].out != nullptr || last.out == nullptr ||
      bytes_of(last.out->type) != 1 || fused.channels % kLanes != 0 ||
      largest > INT16_MAX) {
    return made;
  }
  const auto limit = [](int32_t x) {
    return static_cast<int16_t>(
        std::clamp<int32_t>(x, INT16_MIN, INT16_MAX));
  };
  for (int64_t c = 0; c < fused.channels; ++c) {
    const int32_t *t = last.node->packed.thresholds.data() +
                       c / kLanes * kThresholds + c % kLanes;
    Narrow each;
    each.flip = limit(t[0]);
    each.low = limit(t[kLanes]);
    each.start = limit(fused.root().packed.start[static_cast<size_t>(c)]);
    for (int i = 0; i < kCompared; ++i) {
      each.least[i] = limit(t[(2 + i) * kLanes]);
    }
    made.push_back(each);
  }
  return made;
}

AQD_VBMI inline __m512i narrowed(const Narrow &narrow, __m512i sums) {
  const __m512i one = _mm512_set1_epi16(1);
  sums = _mm512_xor_si512(sums, _mm512_set1_epi16(narrow.flip));
  __m512i code = _mm512_set1_epi16(narrow.low);
#pragma GCC unroll 3
  for (int i = 0; i < kCompared; ++i) {
    const __mmask32 more =
        _mm512_cmpgt_epi16_mask(sums, _mm512_set1_epi16(narrow.least[i]));
    code = _mm512_mask_add_epi16(code, more, code, one);
  }
  return code;
}

// A tile's sums, and what becomes of them.
class Finisher {
 public:
  Finisher(const FusedOp &fused, const Units &units, const Tile &tile,
           const Stages &stages)
      : node_(fused.root()), units_(units), last_(fused.ops.back()),
        size_(fused.size),
        tile_(tile), stages_(stages) {
    for (int64_t i = 0; i < tile.deep * kVector; ++i) {
      const int64_t row = tile.row_of(i);
      pixels_[i] = row < size_.height
                       ? row * size_.width + tile.column_of(i)
                       : -1;
    }
  }

  // Where rounding to a few codes is all that follows.
  AQD_VBMI void run(const Slots &slots, const std::vector<Narrow> &narrow,
                    const Sums *sums, const Sums *codes) const {
    for (int64_t y = 0; y < tile_.deep; ++y) {
      __m512i even = _mm512_setzero_si512(), odd = even;
      for (int64_t tap = 0; tap < units_.taps(); ++tap) {
        const Sums &row = codes[y * slots.next_vector + slots.of_tap(tap)];
        even = _mm512_add_epi16(even, evens_of(row));
        odd = _mm512_add_epi16(odd, row.uppers);
      }
      for (int64_t c = 0; c < node_.op.channels; c += kLanes) {
        __m512i x[kLanes];
        for (int64_t i = 0; i < kLanes; ++i) {
          const Narrow &each = narrow[static_cast<size_t>(c + i)];
          const Sums &sum = sums[(c + i) * kDeep + y];
          const __m512i start = _mm512_set1_epi16(each.start);
          const __m512i first = narrowed(
              each, _mm512_add_epi16(_mm512_slli_epi16(evens_of(sum), 1),
                                     _mm512_add_epi16(even, start)));
          const __m512i second = narrowed(
              each, _mm512_add_epi16(_mm512_slli_epi16(sum.uppers, 1),
                                     _mm512_add_epi16(odd, start)));
          x[i] = _mm512_mask_mov_epi8(first, 0xaaaaaaaaaaaaaaaa,
                                      _mm512_slli_epi16(second, 8));
        }
        transpose_bytes(x);
        for (int64_t p = 0; p < kLanes; ++p) {
          put(y, p, c, _mm512_castsi512_si128(x[p]));
          put(y, 16 + p, c, _mm512_extracti32x4_epi32(x[p], 1));
          put(y, 32 + p, c, _mm512_extracti32x4_epi32(x[p], 2));
          put(y, 48 + p, c, _mm512_extracti32x4_epi32(x[p], 3));
        }
      }
    }
  }

  AQD_VBMI void run(const Slots &slots, const Sums *sums, const Sums *codes) {
    const int64_t vectors = vectors_of(node_.op.channels);
    for (int64_t y = 0; y < tile_.deep; ++y) {
      fetch(y, 0, 0, kVector);
      sum_rows(slots, codes + y * slots.next_vector);
      for (int64_t v = 0; v < vectors; ++v) {
        for (int64_t i = 0; i < kLanes; ++i) {
          const int64_t out = v * kLanes + i;
          // Those that there are not are not stored.
          const int64_t read = std::min<int64_t>(out, node_.op.channels - 1);
          separate(sums[read * kDeep + y], lanes_[i]);
        }
        for (int64_t first = 0; first < kVector; first += kLanes) {
          if (v + 1 < vectors) fetch(y, v + 1, first, kLanes);
          finish(y, v, first);
        }
      }
    }
  }

 private:
  // Of each pixel the sum of the codes that its window sees.
  AQD_VBMI void sum_rows(const Slots &slots, const Sums *codes) {
    alignas(64) uint16_t row[kVector];
    std::memset(boxes_, 0, sizeof boxes_);
    for (int64_t tap = 0; tap < units_.taps(); ++tap) {
      separate(codes[slots.of_tap(tap)], row);
      for (int64_t p = 0; p < kVector; ++p) boxes_[p] += row[p];
    }
  }

  // Calls what takes a tile and the first of its pixels for some pixels of a
  // vector, as many of a row at once as there are.
  template <class Take>
  AQD_VBMI void each_coord(int64_t y, int64_t vector, int64_t first,
                           int64_t count, const Take &take) const {
    const int64_t before = y * kVector + first;
    for (int64_t p = 0, together; p < count; p += together) {
      together = tile_.together(before + p, std::min<int64_t>(count - p, kLanes));
      const int64_t row = tile_.row_of(before + p);
      if (row >= size_.height) continue;
      take(TileCoord{row, tile_.column_of(before + p),
                     static_cast<int>(together), vector},
           first + p);
    }
  }

  void fetch(int64_t y, int64_t vector, int64_t first, int64_t count) const {
    each_coord(y, vector, first, count, [&](const TileCoord &coord, int64_t) {
      stages_.fetch(coord, 1);
    });
  }

  AQD_VBMI void finish(int64_t y, int64_t vector, int64_t first) {
    __m512i x[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      x[i] = _mm512_cvtepu16_epi32(_mm256_load_si256(
          reinterpret_cast<const __m256i *>(lanes_[i] + first)));
    }
    transpose_numbers(x);
    const __m512i start =
        _mm512_loadu_si512(node_.packed.start.data() + vector * kLanes);
    each_coord(y, vector, first, kLanes,
               [&](const TileCoord &coord, int64_t pixel) AQD_VBMI {
      for (int64_t i = 0; i < coord.pixels; ++i) {
        const __m512i box = _mm512_set1_epi32(boxes_[pixel + i]);
        const __m512i twice = _mm512_slli_epi32(x[pixel - first + i], 1);
        _mm512_store_si512(
            made_.codes[0] + i * kLanes,
            _mm512_add_epi32(_mm512_add_epi32(twice, start), box));
      }
      stages_.run(coord, &made_);
    });
  }

  // Stores 16 channels of a pixel of a tile, if there is one.
  AQD_VBMI void put(int64_t y, int64_t pixel, int64_t channel,
                    __m128i codes) const {
    const int64_t at = pixels_[y * kVector + pixel];
    if (at < 0) return;
    _mm_storeu_si128(
        reinterpret_cast<__m128i *>(static_cast<uint8_t *>(last_.out->data) +
                                    at * node_.op.channels + channel),
        codes);
  }

  const Node &node_;
  const Units &units_;
  const PostOp &last_;
  const Size size_;
  const Tile &tile_;
  const Stages &stages_;
  int64_t pixels_[kDeep * kVector];  // of the output; -1 for none
  alignas(64) uint16_t lanes_[kLanes][kVector];
  int32_t boxes_[kVector];
  Made made_;
};

// What a thread works with, in its scratch: indices of a block of units, sums
// of all output channels, sums of codes of each slot.
struct Work {
  uint8_t *index;
  Sums *sums, *codes;
  size_t bytes;  // of all sums
};

int64_t most_slots(const Node &node, const Units &units) {
  return std::max(slots_of(node, units, kVector).count,
                  slots_of(node, units, 1).count);
}

Work work_of(const Node &node, const Units &units, uint8_t *scratch) {
  Work work;
  const int64_t slots = most_slots(node, units);
  work.index = scratch;
  work.sums = reinterpret_cast<Sums *>(scratch + kUnits * slots * kVector);
  work.codes = work.sums + groups_of(node.op.channels) * kOuts * kDeep;
  work.bytes =
      static_cast<size_t>(work.codes + slots - work.sums) * sizeof(Sums);
  return work;
}

void run_tile(const FusedOp &fused, const Units &units, const Tile &tile,
              const Stages &stages, const std::vector<Narrow> &narrow,
              const Work &work) {
  const Node &node = fused.root();
  const Slots slots = slots_of(node, units, tile.columns);
  const Weights &weights = *node.conv().weights;
  const Parts *parts = reinterpret_cast<const Parts *>(weights.packed.parts.data());
  const LookUp look_up = kLookUps[tile.deep - 1];
  const Steps steps = steps_of(units, slots);
  Indexer indexer(fused, units, slots, tile);
  std::memset(static_cast<void *>(work.sums), 0, work.bytes);
  for (int64_t first = 0; first < units.count; first += units.block) {
    const uint8_t *indices =
        work.index + first % kUnits * slots.count * kVector;
    if (first % kUnits == 0) indexer.run(first, work.index);
    const int64_t count = std::min(units.block, units.count - first);
    sum_codes(units.width, indices, count, slots.count, work.codes);
    const int64_t before = first * units.taps() * kOuts;
    for (int64_t group_of_outs = 0; group_of_outs < groups_of(node.op.channels);
         ++group_of_outs) {
      const uint16_t *offsets =
          weights.packed.offsets.data() +
          group_of_outs * units.count * units.taps() * kOuts + before;
      Sums *sums = work.sums + group_of_outs * kOuts * kDeep;
      const uint8_t *length =
          parts[group_of_outs * units.blocks() + first / units.block].of;
      const int32_t *step = steps.of, *end = step + count * units.taps();
      for (; step < end; step += *length++) {
        look_up(step, *length, steps.next_vector, indices, offsets, sums);
        offsets += *length * kOuts;
      }
    }
  }
  Finisher finisher(fused, units, tile, stages);
  if (narrow.empty()) {
    finisher.run(slots, work.sums, work.codes);
  } else {
    finisher.run(slots, narrow, work.sums, work.codes);
  }
}

}  // namespace

bool has_lookup() { return __builtin_cpu_supports("avx512vbmi"); }

namespace {

// The width of a layer's codes and weights, if there are tables for it.
const Width *width_of(const Node &node, const Node &x) {
  int largest = x.op.grid.high;
  if (x.op.grid.low != 0) return nullptr;
  if (node.conv().weights->packed.format > kFormat) {
    largest = std::max(largest, node.conv().weights->packed.format == kFormat + 2 ? 3 : 7);
  } else if (node.conv().weights->packed.format != 0) {
    return nullptr;
  }
  for (const int8_t code : node.conv().weights->codes) {
    if (code % 2 == 0) return nullptr;
    largest = std::max<int>(largest, std::abs(code));
  }
  if (largest <= kTwo.largest()) return &kTwo;
  // Where it pays: Intel's processors multiply twice as often as they look up.
  const bool pays = __builtin_cpu_is("amd");
  return largest <= kThree.largest() && pays ? &kThree : nullptr;
}

}  // namespace

bool prepare_lookup(Node *node, const Node &x) {
  const bool right = (node->conv().window.kernel.width == 1 || node->conv().window.kernel.width == 3) &&
                     node->conv().window.kernel.height <= kMostRows && node->conv().groups == 1;
  const Width *width = right ? width_of(*node, x) : nullptr;
  if (width == nullptr) return false;
  const Units units = units_of(*node, x.op.channels, *width);
  // A sum of the largest fits 16 bits.
  const int largest = width->codes * width->largest() * -width->half(0);
  if (units.count * units.taps() > 65535 / largest) return false;
  Weights *weights = node->conv().weights;
  if (weights->packed.format == 0) pack(node, x.op.channels, units);
  if (weights->packed.format != kFormat + width->bits) return false;
  set_start(node, *width);
  node->packed.method = Method::kLookup;
  return true;
}

int64_t scratch_of_lookup(const Node &node, int64_t channels) {
  const Units units = units_of(node, channels);
  const int64_t slots = most_slots(node, units);
  const int64_t sums = groups_of(node.op.channels) * kOuts * kDeep + slots;
  return kUnits * slots * kVector + sums * static_cast<int64_t>(sizeof(Sums));
}

void convolve_lookup(const FusedOp &fused, uint8_t *scratch, int64_t step,
                     ThreadPool *pool) {
  const Node &node = fused.root();
  const Units units = units_of(node, fused.x->channels);
  const std::vector<Tile> tiles = tiles_of(fused.size, pool->threads());
  const Stages stages(fused);
  const std::vector<Narrow> narrow = narrow_of(fused, units);
  pool->run(static_cast<int64_t>(tiles.size()), [&](int64_t i, int thread) {
    run_tile(fused, units, tiles[static_cast<size_t>(i)], stages, narrow,
             work_of(node, units, scratch + step * thread));
  });
}

}  // namespace aqd

#endif
