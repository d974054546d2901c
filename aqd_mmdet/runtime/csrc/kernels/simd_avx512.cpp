// For one output pixel a convolution reads a few runs of its input: a row of
// the window each, since channels are innermost. A register holds the sums of
// 16 output channels; an instruction adds four products of bytes (or two of
// 16 bits) to each, with the same codes for all of them.

#include "kernels/simd_avx512.h"

#ifdef AQD_HAS_AVX512

#include <cpuid.h>
#include <immintrin.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstring>

#include "kernels/conv_lut.h"
#include "kernels/packing.h"
#include "kernels/padding.h"
#include "kernels/stages512.h"

#define AQD_TARGET AQD_AVX512
#include "kernels/conv_winograd.h"

#define AQD_AMX                                                       \
  __attribute__((target(                                              \
      "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")))

namespace aqd {
namespace {

// Rows of a tile: 16 pixels, or 64 codes that meet 16 output channels.
constexpr int kTileRows = 16;
// Bytes of weights that stay in an L2 cache beside what is read and written.
constexpr int64_t kSmall = 320 << 10;
// What signed codes are raised by; an instruction takes unsigned bytes.
constexpr int kRaise = 128;

// What blocks and conv_winograd.h multiply by.
struct Avx512 {
  static constexpr Vectors kVectors = {kLanes, 4, false, 0};
  static constexpr ValueTypes kValues = {true, true};
  static constexpr int kPixels = 6;  // 24 of 32 registers for sums
  static constexpr bool kFetches = true;

  template <bool kBytes>
  struct Product {
    using Sum = __m512i;
    using Weights = __m512i;

    AQD_AVX512 static Sum begin(const int32_t *from) {
      return _mm512_loadu_si512(from);
    }
    AQD_AVX512 static void end(Sum sum, int32_t *to) {
      _mm512_storeu_si512(to, sum);
    }
    AQD_AVX512 static Weights load(const int8_t *from) {
      return _mm512_loadu_si512(from);
    }
    AQD_AVX512 static Sum broadcast(const uint8_t *codes) {
      int32_t four;
      std::memcpy(&four, codes, 4);
      return _mm512_set1_epi32(four);
    }
    AQD_AVX512 static Sum add(Sum sum, Sum codes, Weights weights) {
      return kBytes ? _mm512_dpbusd_epi32(sum, codes, weights)
                    : _mm512_dpwssd_epi32(sum, codes, weights);
    }
  };
};

constexpr int kTogether = Avx512::kVectors.together;  // output vectors at once

bool reads_bytes(Type type) { return type == Type::kU8 || type == Type::kI8; }

// Instructions for a run: of four bytes or two words, and of whole tiles (64
// bytes a pixel) if it is by tiles; what is behind a run counts nothing.
int64_t length_of(const Runs &runs, bool bytes, bool tiles) {
  const int64_t each = bytes ? 4 : 2, together = tiles ? kTileRows : 1;
  const int64_t codes = each * together;
  return (runs.codes + codes - 1) / codes * together;
}

// Weights of other formats are other numbers; 0 is for none.
int format_of(const Node &node, bool bytes, bool tiles) {
  return (tiles ? 3 : bytes ? 2 : 1) + (node.conv().window.dilation.width == 1 ? 0 : 3);
}

// Vectors of output channels of the next block: four, or three if so many
// blocks of three leave whole ones of four, as smaller ones leave the
// multipliers idle.
int64_t wide_of(int64_t vectors) {
  if (vectors <= kTogether) return vectors;
  return vectors % kTogether == 0 ? kTogether : kTogether - 1;
}

// Weights of 16 output channels that meet the codes of one instruction: those
// of each channel lie together.
int8_t *pack_vector(const Runs &runs, const int8_t *from, int64_t outs,
                    int64_t first, int64_t k, bool bytes, int8_t *to) {
  const int64_t each = bytes ? 4 : 2, next = bytes ? 1 : 2;
  std::memset(to, 0, 64);
  const int64_t count = std::min<int64_t>(kLanes, outs - first);
  for (int64_t i = 0; i < each && k * each + i < runs.codes; ++i) {
    const int8_t *codes = from + (k * each + i) * outs + first;
    int8_t *place = to + i * next;
    for (int64_t o = 0; o < count; ++o, place += 4) {
      place[0] = codes[o];
      if (!bytes) place[1] = codes[o] < 0 ? int8_t{-1} : int8_t{0};
    }
  }
  return to + 64;
}

// Weights: block of vectors (some, or two of tiles), run, instruction (16 of
// tiles together), vector, lane.
void pack(const Node &node, int32_t channels, bool bytes, bool tiles,
          Weights *weights) {
  const Runs runs = runs_of(node, channels);
  const int64_t length = length_of(runs, bytes, tiles);
  const int64_t outs = node.op.channels, vectors = vectors_of(outs);
  const int64_t together = tiles ? kTileRows : 1;
  weights->packed.format = format_of(node, bytes, tiles);
  weights->packed.lines.resize(static_cast<size_t>(vectors * runs.count * length));
  int8_t *to = weights->packed.lines.data()->bytes;
  for (int64_t block = 0, end; block < vectors; block = end) {
    const int64_t left = vectors - block;
    end = block + (tiles ? std::min<int64_t>(2, left) : wide_of(left));
    for (int64_t run = 0; run < runs.count; ++run) {
      const int8_t *from =
          weights->codes.data() + tap_of(node, runs, run) * channels * outs;
      for (int64_t k = 0; k < length; k += together) {
        for (int64_t v = block; v < end; ++v) {
          for (int64_t i = k; i < k + together; ++i) {
            to = pack_vector(runs, from, outs, v * kLanes, i, bytes, to);
          }
        }
      }
    }
  }
}

// What all blocks of a convolution share.
struct Geometry {
  Runs runs;
  int64_t length;          // instructions for a run
  const int64_t *offsets;  // of runs, in bytes
  int64_t step;            // bytes from a pixel's window to the next's
};

template <bool kBytes, int P, int V>
AQD_AVX512 void block(const Geometry &g, const uint8_t *codes,
                      const int8_t *weights, const int32_t *start,
                      const Stages &stages, TileCoord tile, Made *made) {
  using Product = Avx512::Product<kBytes>;
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
    for (int64_t k = 0; k < g.length; ++k, from += 4, weights += 64 * V) {
      __m512i w[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) w[v] = Product::load(weights + 64 * v);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m512i x = Product::broadcast(from + p * g.step);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[p][v] = Product::add(sums[p][v], x, w[v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v, ++tile.vector) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      _mm512_store_si512(made->codes[0] + kLanes * p, sums[p][v]);
    }
    stages.run(tile, made);
  }
}

using Block = void (*)(const Geometry &, const uint8_t *, const int8_t *,
                       const int32_t *, const Stages &, TileCoord, Made *);

template <bool kBytes, int V>
Block block_of(int64_t pixels) {
  static constexpr Block kBlocks[Avx512::kPixels] = {
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

// Tiles 0 to 3 hold sums, of up to 32 pixels and 32 output channels; 4 and 5
// codes of the pixels, 6 and 7 weights, rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Not on the stack: GCC knows of 8 of its bytes alone that they are read.
struct TileConfigs {
  alignas(64) TileConfig of[2 * kTileRows + 1];
};

constexpr TileConfigs make_configs() {
  TileConfigs made;
  for (int pixels = 1; pixels <= 2 * kTileRows; ++pixels) {
    const int first = pixels < kTileRows ? pixels : kTileRows;
    const int second = pixels > kTileRows ? pixels - kTileRows : 1;
    uint8_t *rows = made.of[pixels].rows;
    rows[0] = rows[1] = rows[4] = static_cast<uint8_t>(first);
    rows[2] = rows[3] = rows[5] = static_cast<uint8_t>(second);
  }
  return made;
}

constexpr TileConfigs kTileConfigs = make_configs();

AQD_AMX void store_tile(const Stages &stages, const int32_t *start,
                        const TileCoord &tile, Made *made) {
  if (start != nullptr) {
    const __m512i first = _mm512_loadu_si512(start);
    int32_t *sums = made->codes[0];
    for (int i = 0; i < tile.pixels * kLanes; i += kLanes) {
      const __m512i sum = _mm512_load_si512(sums + i);
      _mm512_store_si512(sums + i, _mm512_add_epi32(sum, first));
    }
  }
  stages.run(tile, made);
}

// Sums of the pixels of one tile or of two, and of two vectors of output
// channels or of one.
template <bool kTwo, bool kWide>
AQD_AMX void tiles(const Geometry &g, const uint8_t *codes,
                   const int8_t *weights, const int32_t *start,
                   const Stages &stages, TileCoord tile, Made *made) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  constexpr int64_t kTile = kTileRows * 64;
  for (int64_t run = 0; run < g.runs.count; ++run) {
    const uint8_t *from = codes + g.offsets[run];
    for (int64_t k = 0; k < g.length; k += kTileRows) {
      _tile_loadd(4, from, g.step);
      _tile_loadd(6, weights, 64);
      _tile_dpbusd(0, 4, 6);
      if (kWide) {
        _tile_loadd(7, weights + kTile, 64);
        _tile_dpbusd(1, 4, 7);
      }
      if (kTwo) {
        _tile_loadd(5, from + kTileRows * g.step, g.step);
        _tile_dpbusd(2, 5, 6);
        if (kWide) _tile_dpbusd(3, 5, 7);
      }
      from += 64;
      weights += kWide ? 2 * kTile : kTile;
    }
  }
  int32_t *sums = made->codes[0];
  const int32_t *next = start == nullptr ? nullptr : start + kLanes;
  TileCoord wide = tile;
  ++wide.vector;
  const int second = tile.pixels - kTileRows;
  if (kTwo) tile.pixels = wide.pixels = kTileRows;
  _tile_stored(0, sums, 64);
  store_tile(stages, start, tile, made);
  if (kWide) {
    _tile_stored(1, sums, 64);
    store_tile(stages, next, wide, made);
  }
  if (kTwo) {
    tile.pixels = wide.pixels = second;
    tile.column += kTileRows;
    wide.column += kTileRows;
    _tile_stored(2, sums, 64);
    store_tile(stages, start, tile, made);
    if (kWide) {
      _tile_stored(3, sums, 64);
      store_tile(stages, next, wide, made);
    }
  }
}

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

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

Source source_of_wide(const Node &node, const Tensor &x) {
  return source_of(node, x, bytes_of(x.type), x.type == Type::kI8);
}

// The type of what a convolution reads: of an image its bytes, less than the
// codes that they stand for.
Type read_type(const Node &node, const Node &x) {
  return node.packed.reads_pixels ? Type::kU8 : x.op.grid.type();
}

void prepare_convolution(Node *node, const Node &x, bool with_tiles) {
  if (node->conv().groups != 1) return;
  node->packed.reads_pixels = x.op.is<ImageOp>();
  const Type type = read_type(*node, x);
  if (type == Type::kI32) return;
  node->packed.has_kernel =
      !with_tiles &&
      (prepare_winograd(Avx512::kVectors, Avx512::kValues, node, x) ||
       (has_lookup() && prepare_lookup(node, x)));
  if (node->packed.has_kernel) return;
  const bool bytes = reads_bytes(type), tiles = with_tiles && bytes;
  Weights *weights = node->conv().weights;
  if (weights->packed.format == 0) pack(*node, x.op.channels, bytes, tiles, weights);
  node->packed.has_kernel = weights->packed.format == format_of(*node, bytes, tiles);
  node->packed.reads_pixels = node->packed.reads_pixels && node->packed.has_kernel;
  if (node->packed.reads_pixels) node->packed.means = x.op.as<ImageOp>().means;
  node->packed.reading.raise = type == Type::kI8 ? kRaise : 0;
  if (node->packed.reads_pixels || node->packed.reading.raise != 0) {
    set_start(kLanes, x.op.channels, node);
  }
}

void prepare(Program *program, bool with_tiles) {
  for (Node &node : program->nodes) {
    if (node.op.is<Convolution>()) {
      const size_t x = static_cast<size_t>(node.op.inputs[0]);
      prepare_convolution(&node, program->nodes[x], with_tiles);
      continue;
    }
    node.packed.has_kernel = node.op.is<Requantize>() || node.op.is<Add>();
    if (node.op.is<Requantize>()) prepare_requantize(&node);
  }
  drop_image(program);
}

int64_t scratch_of_wide(const Program &program, int position, const Plan &plan) {
  const Node &node = program.nodes[static_cast<size_t>(position)];
  if (!node.op.is<Convolution>()) return 0;
  const size_t read = static_cast<size_t>(node.op.inputs[0]);
  const Node &x = program.nodes[read];
  if (node.packed.method == Method::kLookup) return scratch_of_lookup(node, x.op.channels);
  if (node.packed.method == Method::kWinograd) {
    return scratch_of_winograd(Avx512::kVectors, node, x.op.channels);
  }
  const Tensor tensor = {nullptr, read_type(node, x), x.op.channels,
                         plan.sizes[read]};
  return scratch_for(node, tensor.size, source_of_wide(node, tensor),
                     plan.sizes[static_cast<size_t>(position)].height);
}

// Rows of the output from one on, of a convolution by vectors.
void rows_of_blocks(const FusedOp &fused, const Geometry &g, const Stages &stages,
                    const uint8_t *codes, int64_t line, int64_t top,
                    int64_t rows) {
  const Node &node = fused.root();
  const bool bytes = reads_bytes(fused.x->type);
  const int32_t *first = node.packed.start.empty() ? nullptr : node.packed.start.data();
  const int8_t *weights = node.conv().weights->packed.lines.data()->bytes;
  const int64_t vectors = vectors_of(node.op.channels), width = fused.size.width;
  const int64_t each = g.runs.count * g.length * 64;  // bytes of a vector's
  Made made;
  const auto run = [&](int64_t row, int64_t c, int64_t v) {
    const int64_t wide = wide_of(vectors - v);
    const int64_t many = std::min<int64_t>(Avx512::kPixels, width - c);
    const Block block =
        bytes ? block_of<true>(many, wide) : block_of<false>(many, wide);
    const TileCoord tile = {top + row, c, static_cast<int>(many), v};
    stages.fetch(tile, wide);
    block(g, codes + row * node.conv().window.stride.height * line + c * g.step,
          weights + v * each, first == nullptr ? nullptr : first + v * kLanes,
          stages, tile, &made);
    return wide;
  };
  // What is written lies together if all channels of a few pixels are made
  // one after another, as long as all weights are at hand.
  const bool is_small = vectors * each <= kSmall;
  for (int64_t v = 0, end; v < vectors; v = end) {
    end = is_small ? vectors : v + wide_of(vectors - v);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t c = 0; c < width; c += Avx512::kPixels) {
        for (int64_t i = v; i < end;) i += run(row, c, i);
      }
    }
  }
}

// The same by tiles; whole pairs of them before the rest of each row, as the
// machine is set up for a number of pixels.
AQD_AMX void rows_of_tiles(const FusedOp &fused, const Geometry &g,
                           const Stages &stages, const uint8_t *codes,
                           int64_t line, int64_t top, int64_t rows) {
  const Node &node = fused.root();
  const int32_t *first = node.packed.start.empty() ? nullptr : node.packed.start.data();
  const int64_t vectors = vectors_of(node.op.channels), width = fused.size.width;
  constexpr int64_t kPair = 2 * kTileRows;
  Made made;
  const int64_t whole = width / kPair * kPair;
  const int64_t edges[] = {0, whole, width};
  for (int part = 0; part < 2; ++part) {
    const int64_t from = edges[part], end = edges[part + 1];
    if (from == end) continue;
    const int64_t pixels = std::min(kPair, end - from);
    _tile_loadconfig(&kTileConfigs.of[pixels]);
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t *window = codes + row * node.conv().window.stride.height * line;
      const int8_t *weights = node.conv().weights->packed.lines.data()->bytes;
      for (int64_t v = 0; v < vectors; v += 2) {
        const bool both = v + 1 < vectors, two = pixels > kTileRows;
        const int32_t *start =
            first == nullptr ? nullptr : first + v * kLanes;
        const auto run = two
                             ? (both ? tiles<true, true> : tiles<true, false>)
                             : (both ? tiles<false, true> : tiles<false, false>);
        for (int64_t c = from; c < end; c += kPair) {
          const TileCoord tile = {top + row, c, static_cast<int>(pixels), v};
          stages.fetch(tile, both ? 2 : 1);
          run(g, window + c * g.step, weights, start, stages, tile, &made);
        }
        weights += (both ? 2 : 1) * g.runs.count * g.length * 64;
      }
    }
  }
  _tile_release();
}

// A row of the output of a convolution whose sums are pooled.
AQD_AVX512 void pool_row(const FusedOp &fused, const Ring &ring,
                         const Stages &stages, int64_t row, Made *made) {
  for (int64_t c = 0; c < fused.size.width; c += kTilePixels) {
    const int many = static_cast<int>(
        std::min<int64_t>(kTilePixels, fused.size.width - c));
    for (int64_t v = 0; v < vectors_of(fused.channels); ++v) {
      pool_sums<kLanes>(fused, ring, row, c, many, v * kLanes, made->codes[0]);
      stages.run({row, c, many, v}, made);
    }
  }
}

void convolve(const FusedOp &fused, uint8_t *scratch, int64_t step, ThreadPool *pool) {
  const Node &node = fused.root();
  const Tensor &x = *fused.x;
  const int64_t code = static_cast<int64_t>(bytes_of(x.type));
  const int64_t pixel = x.channels * code;
  const Source source = source_of_wide(node, x);
  Geometry g;
  g.runs = runs_of(node, x.channels);
  const std::vector<int64_t> offsets =
      offsets_of(node, g.runs, source.line, pixel);
  g.offsets = offsets.data();
  g.step = node.conv().window.stride.width * pixel;
  const Stages stages(fused);
  const bool in_tiles = node.conv().weights->packed.format == format_of(node, true, true);
  g.length = length_of(g.runs, reads_bytes(x.type), in_tiles);
  const auto make = in_tiles ? rows_of_tiles : rows_of_blocks;
  in_bands(fused, source, scratch, step, pool, [&](const Rows &rows) {
    if (node.pooling.kernel.height == 0) {
      return make(fused, g, stages, rows.windows, source.line, rows.top,
                  rows.end - rows.top);
    }
    const Ring ring(fused, rows.ring);
    const Stages storing(ring.fused);
    Made made;
    in_turns(
        fused, rows, source,
        [&](const uint8_t *windows, int64_t row) {
          make(ring.fused, g, storing, windows, source.line, row, 1);
        },
        [&](int64_t row) { pool_row(fused, ring, stages, row, &made); });
  });
}

void run_fused(const FusedOp &fused, uint8_t *scratch, int64_t step, ThreadPool *pool) {
  switch (fused.is_convolution() ? fused.root().packed.method : Method::kProducts) {
    case Method::kLookup:
      return convolve_lookup(fused, scratch, step, pool);
    case Method::kWinograd:
      return convolve_tiles<Avx512, Stages, Made>(fused, scratch, step, pool);
    case Method::kProducts:
      break;
  }
  if (fused.is_convolution()) return convolve(fused, scratch, step, pool);
  const Stages stages(fused);
  const int64_t rows = fused.size.height;
  const int64_t parts = std::min<int64_t>(rows, 4 * pool->threads());
  pool->run(parts, [&](int64_t part, int) {
    Made made;
    for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts;
         ++row) {
      for (int64_t c = 0; c < fused.size.width; c += kTileRows) {
        const int64_t many =
            std::min<int64_t>(kTileRows, fused.size.width - c);
        for (int64_t v = 0; v < vectors_of(fused.channels); ++v) {
          stages.run({row, c, static_cast<int>(many), v}, &made);
        }
      }
    }
  });
}

}  // namespace

const Isa kAvx512 = {
    "avx512", has_avx512, [](Program *program) { prepare(program, false); },
    scratch_of_wide, run_fused};

const Isa kAmx = {
    "amx", [] { return has_avx512() && has_amx(); },
    [](Program *program) { prepare(program, true); }, scratch_of_wide, run_fused};

}  // namespace aqd

#endif
