// For one output pixel a convolution reads a few runs of its input: a row of
// the window each, since channels are innermost. A register holds the sums of
// 16 output channels; an instruction adds four products of bytes (or two of
// 16 bits) to each, with the same codes for all of them.

#include "avx512.h"

#ifdef AQD_HAS_AVX512

#include <cpuid.h>
#include <immintrin.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstring>

#define AQD_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

#define AQD_AMX                                                       \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")))

namespace aqd {
namespace {

constexpr int kLanes = 16;
constexpr int kVectors = 4;  // of output channels at once
constexpr int kPixels = 6;   // with kVectors, 24 of 32 registers for sums
// Parts of an operator for each thread, so that none waits long for another.
constexpr int kParts = 4;
// Rows of a tile: 16 pixels, or 64 codes that meet 16 output channels.
constexpr int kTileRows = 16;
constexpr int kTable = 6 * 8;  // numbers of a requantisation of 16 channels
// What signed codes are raised by; an instruction takes unsigned bytes.
constexpr int kRaise = 128;

bool reads_bytes(Type type) { return type == Type::kU8 || type == Type::kI8; }

// How the window of an operator is read.
struct Runs {
  int64_t count = 0;
  int64_t length = 0;  // instructions each
  int64_t per_row = 0;
  int64_t codes = 0;  // of a run
};

Runs runs_of(const Op &op, int32_t channels, bool bytes) {
  Runs runs;
  const bool whole = op.dilation.width == 1;
  runs.per_row = whole ? 1 : op.kernel.width;
  runs.count = op.kernel.height * runs.per_row;
  runs.codes = int64_t{channels} * (whole ? op.kernel.width : 1);
  // Whole tiles, of 64 bytes a pixel; what is behind a run counts nothing.
  const int64_t each = bytes ? 64 : 2;
  runs.length = (runs.codes + each - 1) / each * (bytes ? kTileRows : 1);
  return runs;
}

int format_of(const Op &op, bool bytes) {
  return (bytes ? 1 : 2) + (op.dilation.width == 1 ? 0 : 2);
}

int64_t vectors_of(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// Weights: block of up to four vectors, run, instruction, vector, lane.
void pack(const Op &op, int32_t channels, bool bytes, Weights *weights) {
  const Runs runs = runs_of(op, channels, bytes);
  const int64_t outs = op.channels, each = bytes ? 4 : 2;
  const int64_t vectors = vectors_of(outs);
  weights->format = format_of(op, bytes);
  weights->packed.assign(
      static_cast<size_t>(vectors * runs.count * runs.length * 64), 0);
  int8_t *to = weights->packed.data();
  for (int64_t block = 0; block < vectors; block += kVectors) {
    const int64_t wide = std::min<int64_t>(kVectors, vectors - block);
    for (int64_t run = 0; run < runs.count; ++run) {
      const int64_t tap = run / runs.per_row * op.kernel.width +
                          run % runs.per_row;
      const int8_t *from = weights->codes.data() + tap * channels * outs;
      for (int64_t k = 0; k < runs.length; ++k) {
        for (int64_t v = 0; v < wide; ++v) {
          for (int64_t lane = 0; lane < kLanes; ++lane) {
            const int64_t o = (block + v) * kLanes + lane;
            for (int64_t j = 0; j < each; ++j) {
              const int64_t i = k * each + j;
              const bool inside = o < outs && i < runs.codes;
              const int8_t code = inside ? from[i * outs + o] : int8_t{0};
              *to++ = code;
              if (!bytes) *to++ = code < 0 ? int8_t{-1} : int8_t{0};
            }
          }
        }
      }
    }
  }
  weights->raised.assign(static_cast<size_t>(vectors * kLanes), 0);
  const size_t taps = weights->codes.size() / static_cast<size_t>(outs);
  for (size_t t = 0; t < taps; ++t) {
    for (size_t o = 0; o < static_cast<size_t>(outs); ++o) {
      weights->raised[o] -= kRaise * weights->codes[t * static_cast<size_t>(outs) + o];
    }
  }
}

// Multipliers, biases and shifts of 16 channels, even ones before odd ones.
void pack_table(Op *op) {
  const Multipliers &table = op->multipliers;
  const int64_t vectors = vectors_of(op->channels);
  op->packed.assign(static_cast<size_t>(vectors * kTable), 0);
  for (int64_t c = 0; c < op->channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    int64_t *to = op->packed.data() + c / kLanes * kTable + c % 2 * 8 +
                  c % kLanes / 2;
    to[0] = table.m[k];
    to[16] = table.b[k];
    to[32] = table.s[k];
  }
}

// Where sums go, and what becomes of them on the way.
struct Epilogue {
  const int64_t *table;  // null for sums as they are
  __m512i low, high;     // of the grid, as 64-bit numbers
  Type type;
  uint8_t *out;
  int64_t channels;
};

Epilogue epilogue_of(const Op *requantize, const Tensor &out) {
  Epilogue e;
  std::memset(&e, 0, sizeof e);
  e.type = out.type;
  e.out = static_cast<uint8_t *>(out.data);
  e.channels = out.channels;
  if (requantize == nullptr) return e;
  e.table = requantize->packed.data();
  int64_t limits[2][8];
  std::fill(limits[0], limits[0] + 8, requantize->grid.low);
  std::fill(limits[1], limits[1] + 8, requantize->grid.high);
  std::memcpy(&e.low, limits[0], sizeof e.low);
  std::memcpy(&e.high, limits[1], sizeof e.high);
  return e;
}

AQD_AVX512 inline __m512i requantized(__m512i sums, const int64_t *table,
                                      __m512i low, __m512i high) {
  const __m512i *t = reinterpret_cast<const __m512i *>(table);
  __m512i even = _mm512_mul_epi32(sums, _mm512_loadu_si512(t));
  __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(sums, 32),
                                 _mm512_loadu_si512(t + 1));
  even = _mm512_add_epi64(even, _mm512_loadu_si512(t + 2));
  odd = _mm512_add_epi64(odd, _mm512_loadu_si512(t + 3));
  even = _mm512_srav_epi64(even, _mm512_loadu_si512(t + 4));
  odd = _mm512_srav_epi64(odd, _mm512_loadu_si512(t + 5));
  even = _mm512_min_epi64(_mm512_max_epi64(even, low), high);
  odd = _mm512_min_epi64(_mm512_max_epi64(odd, low), high);
  return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

AQD_AVX512 inline void store(const Epilogue &e, int64_t pixel, int64_t vector,
                             __m512i sums) {
  const int64_t first = vector * kLanes;
  const int64_t left = std::min<int64_t>(kLanes, e.channels - first);
  const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
  const int64_t at = pixel * e.channels + first;
  if (e.table != nullptr) {
    sums = requantized(sums, e.table + vector * kTable, e.low, e.high);
  }
  switch (e.type) {
    case Type::kU8:
    case Type::kI8:
      return _mm_mask_storeu_epi8(e.out + at, mask, _mm512_cvtepi32_epi8(sums));
    case Type::kI16:
      return _mm256_mask_storeu_epi16(e.out + 2 * at, mask,
                                      _mm512_cvtepi32_epi16(sums));
    case Type::kI32:
      return _mm512_mask_storeu_epi32(e.out + 4 * at, mask, sums);
  }
}

// Sixteen codes of one pixel as int32.
AQD_AVX512 inline __m512i load(const uint8_t *codes, Type type, int64_t at,
                               __mmask16 mask) {
  switch (type) {
    case Type::kU8:
      return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, codes + at));
    case Type::kI8:
      return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, codes + at));
    case Type::kI16:
      return _mm512_cvtepi16_epi32(
          _mm256_maskz_loadu_epi16(mask, codes + 2 * at));
    default:
      return _mm512_maskz_loadu_epi32(mask, codes + 4 * at);
  }
}

// What all blocks of a convolution share.
struct Geometry {
  Runs runs;
  const int64_t *offsets;  // of runs, in bytes
  int64_t step;            // bytes from a pixel's window to the next's
};

template <bool kBytes, int P, int V>
AQD_AVX512 void block(const Geometry &g, const uint8_t *codes,
                      const int8_t *weights, const int32_t *start,
                      const Epilogue &e, int64_t pixel, int64_t vector) {
  __m512i sums[P][V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) {
    const __m512i first = start == nullptr ? _mm512_setzero_si512()
                                           : _mm512_loadu_si512(start + 16 * v);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sums[p][v] = first;
  }
  for (int64_t run = 0; run < g.runs.count; ++run) {
    const uint8_t *from = codes + g.offsets[run];
    for (int64_t k = 0; k < g.runs.length; ++k, from += 4, weights += 64 * V) {
      __m512i w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(weights + 64 * v);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        int32_t four;
        std::memcpy(&four, from + p * g.step, 4);
        const __m512i x = _mm512_set1_epi32(four);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[p][v] = kBytes ? _mm512_dpbusd_epi32(sums[p][v], x, w[v])
                              : _mm512_dpwssd_epi32(sums[p][v], x, w[v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(e, pixel + p, vector + v, sums[p][v]);
  }
}

using Block = void (*)(const Geometry &, const uint8_t *, const int8_t *,
                       const int32_t *, const Epilogue &, int64_t, int64_t);

template <bool kBytes, int V>
Block block_of(int64_t pixels) {
  constexpr Block kBlocks[kPixels] = {
      block<kBytes, 1, V>, block<kBytes, 2, V>, block<kBytes, 3, V>,
      block<kBytes, 4, V>, block<kBytes, 5, V>, block<kBytes, 6, V>};
  return kBlocks[pixels - 1];
}

template <bool kBytes>
Block block_of(int64_t pixels, int64_t vectors) {
  switch (vectors) {
    case 1:
      return block_of<kBytes, 1>(pixels);
    case 2:
      return block_of<kBytes, 2>(pixels);
    case 3:
      return block_of<kBytes, 3>(pixels);
    default:
      return block_of<kBytes, 4>(pixels);
  }
}

// Tiles 0 to 3 hold sums, of 32 pixels and 32 output channels; 4 and 5 codes,
// 6 and 7 weights. All are 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

AQD_AMX void store_tile(const Epilogue &e, const int32_t *sums,
                        const int32_t *start, int64_t pixel, int64_t vector) {
  const __m512i first =
      start == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(start);
  for (int p = 0; p < kTileRows; ++p) {
    const __m512i sum = _mm512_load_si512(sums + kLanes * p);
    store(e, pixel + p, vector, _mm512_add_epi32(sum, first));
  }
}

// Sums of 32 pixels (or the first 16 of them, if they are all) and of two
// vectors of output channels (or of one).
template <bool kTwo, bool kWide>
AQD_AMX void tiles(const Geometry &g, const uint8_t *codes,
                   const int8_t *weights, int64_t wide, const int32_t *start,
                   const Epilogue &e, int64_t pixel, int64_t vector) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t line = 64 * wide;
  for (int64_t run = 0; run < g.runs.count; ++run) {
    const uint8_t *from = codes + g.offsets[run];
    for (int64_t k = 0; k < g.runs.length; k += kTileRows) {
      _tile_loadd(4, from, g.step);
      _tile_loadd(6, weights, line);
      _tile_dpbusd(0, 4, 6);
      if (kWide) {
        _tile_loadd(7, weights + 64, line);
        _tile_dpbusd(1, 4, 7);
      }
      if (kTwo) {
        _tile_loadd(5, from + kTileRows * g.step, g.step);
        _tile_dpbusd(2, 5, 6);
        if (kWide) _tile_dpbusd(3, 5, 7);
      }
      from += 64;
      weights += kTileRows * line;
    }
  }
  alignas(64) int32_t sums[kTileRows * kLanes];
  const int32_t *next = start == nullptr ? nullptr : start + kLanes;
  _tile_stored(0, sums, 64);
  store_tile(e, sums, start, pixel, vector);
  if (kWide) {
    _tile_stored(1, sums, 64);
    store_tile(e, sums, next, pixel, vector + 1);
  }
  if (kTwo) {
    _tile_stored(2, sums, 64);
    store_tile(e, sums, start, pixel + kTileRows, vector);
    if (kWide) {
      _tile_stored(3, sums, 64);
      store_tile(e, sums, next, pixel + kTileRows, vector + 1);
    }
  }
}

// All pixels of a row, at least 16, and the output channels of a block. The
// last tile begins earlier rather than end later: some sums are made twice.
AQD_AMX void row_of_tiles(const Geometry &g, const uint8_t *window,
                          const int8_t *weights, int64_t wide,
                          const int32_t *start, const Epilogue &e,
                          int64_t pixel, int64_t width, int64_t vector) {
  for (int64_t v = 0; v < wide; v += 2) {
    const bool both = v + 1 < wide;
    const int32_t *first = start == nullptr ? nullptr : start + v * kLanes;
    const int8_t *w = weights + 64 * v;
    for (int64_t c = 0; c < width;) {
      const bool two = c + 2 * kTileRows <= width;
      if (!two) c = std::min(c, width - kTileRows);
      const uint8_t *from = window + c * g.step;
      const auto run = two ? (both ? tiles<true, true> : tiles<true, false>)
                           : (both ? tiles<false, true> : tiles<false, false>);
      run(g, from, w, wide, first, e, pixel + c, vector + v);
      c += two ? 2 * kTileRows : kTileRows;
    }
  }
}

// Not on the stack: GCC knows of 8 of its bytes alone that they are read.
alignas(64) constexpr TileConfig kTileConfig;

AQD_AMX void begin_tiles() { _tile_loadconfig(&kTileConfig); }

AQD_AMX void end_tiles() { _tile_release(); }

// Whether the machine multiplies tiles of bytes and the system lets us.
bool has_amx() {
#ifdef __linux__
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & kTile) == 0 || (d & kInt8) == 0) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

// Copies an input into a frame of code 0, signed bytes raised.
void frame(const Op &op, const Tensor &x, uint8_t *to) {
  const bool is_signed = x.type == Type::kI8;
  const size_t code = bytes_of(x.type);
  const size_t line = static_cast<size_t>(x.size.width) *
                      static_cast<size_t>(x.channels) * code;
  const size_t edge = static_cast<size_t>(op.padding.width) *
                      static_cast<size_t>(x.channels) * code;
  const size_t rows = static_cast<size_t>(op.padding.height);
  const int zero = is_signed ? kRaise : 0;
  const uint8_t *from = static_cast<const uint8_t *>(x.data);
  std::memset(to, zero, rows * (line + 2 * edge));
  to += rows * (line + 2 * edge);
  for (int32_t row = 0; row < x.size.height; ++row, from += line) {
    std::memset(to, zero, edge);
    to += edge;
    if (is_signed) {
      for (size_t i = 0; i < line; ++i) to[i] = from[i] ^ kRaise;
    } else {
      std::memcpy(to, from, line);
    }
    to += line;
    std::memset(to, zero, edge);
    to += edge;
  }
  std::memset(to, zero, rows * (line + 2 * edge));
}

bool needs_frame(const Op &op, Type type) {
  return op.padding.height > 0 || op.padding.width > 0 || type == Type::kI8;
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

void prepare(Program *program, bool use_tiles) {
  for (Op &op : program->ops) {
    if (op.kind == Kind::kRequantize) pack_table(&op);
    if (op.kind != Kind::kConvolution || op.groups != 1) continue;
    const Op &x = program->ops[static_cast<size_t>(op.inputs[0])];
    const Type type = x.grid.type();
    const bool bytes = reads_bytes(type);
    Weights *weights = op.weights;
    if (type == Type::kI32) continue;
    if (weights->format == 0) pack(op, x.channels, bytes, weights);
    op.is_packed = weights->format == format_of(op, bytes);
    op.uses_tiles = op.is_packed && bytes && use_tiles;
  }
}

int64_t scratch_of(const Op &op, const Op &source, Size size) {
  if (!op.is_packed || !needs_frame(op, source.grid.type())) return 0;
  return (int64_t{size.height} + 2 * op.padding.height) *
             (int64_t{size.width} + 2 * op.padding.width) * source.channels *
             static_cast<int64_t>(bytes_of(source.grid.type())) +
         kSlack;
}

void convolve_packed(const Op &op, const Op *requantize, const Tensor &x,
                     const Tensor &out, uint8_t *scratch, Pool *pool) {
  const bool bytes = reads_bytes(x.type);
  const int64_t code = static_cast<int64_t>(bytes_of(x.type));
  const int64_t pixel = x.channels * code;
  const uint8_t *codes = static_cast<const uint8_t *>(x.data);
  if (needs_frame(op, x.type)) {
    frame(op, x, scratch);
    codes = scratch;
  }
  const int64_t line = (x.size.width + 2 * op.padding.width) * pixel;
  Geometry g;
  g.runs = runs_of(op, x.channels, bytes);
  std::vector<int64_t> offsets;
  for (int64_t run = 0; run < g.runs.count; ++run) {
    offsets.push_back(run / g.runs.per_row * op.dilation.height * line +
                      run % g.runs.per_row * op.dilation.width * pixel);
  }
  g.offsets = offsets.data();
  g.step = op.stride.width * pixel;
  const Epilogue e = epilogue_of(requantize, out);
  const int64_t vectors = vectors_of(op.channels);
  const int8_t *weights = op.weights->packed.data();
  const int32_t *raised =
      x.type == Type::kI8 ? op.weights->raised.data() : nullptr;
  const int64_t rows = out.size.height;
  const int64_t parts = std::min<int64_t>(rows, pool->threads() * kParts);
  pool->run(parts, [&](int64_t part) {
    const int64_t top = rows * part / parts, end = rows * (part + 1) / parts;
    const int8_t *of_block = weights;
    const bool in_tiles = op.uses_tiles && out.size.width >= kTileRows;
    if (in_tiles) begin_tiles();
    for (int64_t v = 0; v < vectors; v += kVectors) {
      const int64_t wide = std::min<int64_t>(kVectors, vectors - v);
      const int32_t *start = raised == nullptr ? nullptr : raised + v * kLanes;
      for (int64_t row = top; row < end; ++row) {
        const uint8_t *window = codes + row * op.stride.height * line;
        if (in_tiles) {
          row_of_tiles(g, window, of_block, wide, start, e,
                       row * out.size.width, out.size.width, v);
          continue;
        }
        for (int64_t c = 0; c < out.size.width; c += kPixels) {
          const int64_t many = std::min<int64_t>(kPixels, out.size.width - c);
          const Block run = bytes ? block_of<true>(many, wide)
                                  : block_of<false>(many, wide);
          run(g, window + c * g.step, of_block, start, e,
              row * out.size.width + c, v);
        }
      }
      of_block += wide * g.runs.count * g.runs.length * 64;
    }
    if (in_tiles) end_tiles();
  });
}

AQD_AVX512 void requantize_pixels(const Op &op, const Tensor &x,
                                  const Epilogue &e, int64_t first,
                                  int64_t end) {
  const uint8_t *codes = static_cast<const uint8_t *>(x.data);
  const int64_t vectors = vectors_of(op.channels);
  for (int64_t pixel = first; pixel < end; ++pixel) {
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t left = std::min<int64_t>(kLanes, e.channels - v * kLanes);
      const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
      const int64_t at = pixel * e.channels + v * kLanes;
      store(e, pixel, v, load(codes, x.type, at, mask));
    }
  }
}

void requantize_packed(const Op &op, const Tensor &x, const Tensor &out,
                       Pool *pool) {
  const Epilogue e = epilogue_of(&op, out);
  const int64_t count = static_cast<int64_t>(x.plane());
  const int64_t parts = pool->threads();
  pool->run(parts, [&](int64_t part) {
    requantize_pixels(op, x, e, count * part / parts,
                      count * (part + 1) / parts);
  });
}

}  // namespace

const Isa kAvx512 = {"avx512", has_avx512, [](Program *program) {
                       prepare(program, false);
                     },
                     scratch_of, convolve_packed, requantize_packed};

const Isa kAmx = {"amx", [] { return has_avx512() && has_amx(); },
                  [](Program *program) { prepare(program, true); },
                  scratch_of, convolve_packed, requantize_packed};

}  // namespace aqd

#endif
