#include "kernels/lut_pack.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/packing.h"

namespace aqd {
namespace {

// Packs for NR output channels.
class OffsetPacker {
 public:
  OffsetPacker(const Op &op, int64_t channels, PackedLut *packed)
      : op_(op), channels_(channels), packed_(*packed),
        scheme_(*packed->scheme), k_groups_(packed->k_groups) {}

  // Appends a block of K groups. Runs are as long as bytes hold their sums.
  void pack_block(int64_t out, int64_t first) {
    packed_.runs.push_back({});
    uint8_t *length = packed_.runs.back().lengths;
    int sums[kLutNr] = {};
    const int64_t end = std::min(first + k_groups_.block, k_groups_.count);
    for (int64_t group = first; group < end; ++group) {
      for (int64_t tap = 0; tap < k_groups_.taps(); ++tap) {
        bool fits = true;
        int entries[kLutNr];
        for (int64_t o = 0; o < kLutNr; ++o) {
          const int table = table_of(out + o, group, tap);
          packed_.offsets.push_back(static_cast<uint16_t>(table * kLutEntries));
          entries[o] = kAllLutTables.max_entry[table];
          fits = fits && sums[o] + entries[o] <= UINT8_MAX;
        }
        if (!fits) {
          ++length;
          std::fill(sums, sums + kLutNr, 0);
        }
        for (int64_t o = 0; o < kLutNr; ++o) sums[o] += entries[o];
        ++*length;
      }
    }
  }

 private:
  // The table for a K group; v is 0 where it has no channel.
  int table_of(int64_t out, int64_t group, int64_t tap) const {
    int table = 0;
    for (int i = 0; i < scheme_.per_index; ++i) {
      const int64_t channel =
          k_groups_.is_wide ? group : group + i * k_groups_.count;
      const int64_t place =
          k_groups_.is_wide ? tap * scheme_.per_index + i : tap;
      int level = scheme_.zero_level();
      if (channel < channels_ && out < op_.channels) {
        const int64_t at = (place * channels_ + channel) * op_.channels + out;
        const std::vector<int8_t> &codes = op_.as<Convolution>().weights->codes;
        level = scheme_.level(codes[static_cast<size_t>(at)]);
      }
      table |= level << scheme_.bits * i;
    }
    return scheme_.first_table + table;
  }

  const Op &op_;
  const int64_t channels_;
  PackedLut &packed_;
  const LutScheme &scheme_;
  const KGroups &k_groups_;
};

// Twice what all lookups of an output channel give too much.
std::vector<int32_t> acc_init(const LutScheme &scheme, const Op &op) {
  const size_t outs = static_cast<size_t>(op.channels);
  std::vector<int32_t> init(static_cast<size_t>(vectors_of(op.channels, 16)) * 16,
                            0);
  const std::vector<int8_t> &codes = op.as<Convolution>().weights->codes;
  for (size_t i = 0; i < codes.size(); ++i) {
    const int half = scheme.half(scheme.level(codes[i]));
    init[i % outs] += 2 * scheme.max_code() * std::min(half, 0);
  }
  return init;
}

int64_t max_planes(const Convolution &conv, const KGroups &k_groups) {
  return std::max(IndexPlanes(conv, k_groups, kLutPixels).count,
                  IndexPlanes(conv, k_groups, 1).count);
}

int64_t lut_index_bytes(const PackedLut &packed, const Op &op) {
  return kLutIndexBlock * kLutPixels *
         max_planes(op.as<Convolution>(), packed.k_groups);
}

int64_t lut_sums_bytes(const PackedLut &packed, const Op &op) {
  const int64_t sums = packed.out_groups(op.channels) * kLutNr * kLutMr +
                       max_planes(op.as<Convolution>(), packed.k_groups);
  return sums * static_cast<int64_t>(sizeof(LutSums));
}

}  // namespace

KGroups::KGroups(const LutScheme &scheme, const Convolution &conv,
                 int64_t channels) {
  const Size &kernel = conv.window.kernel;
  is_wide = scheme.per_index == 3 && kernel.width == 3;
  const int64_t each = is_wide ? 1 : scheme.per_index;
  count = (channels + each - 1) / each;
  rows = kernel.height;
  columns = is_wide ? 1 : kernel.width;
  block = columns == 1 ? kLutIndexBlock : kLutIndexBlock / 4;
}

const LutScheme *lut_scheme(const Op &op, const Op &x) {
  const Convolution &conv = op.as<Convolution>();
  const Size &kernel = conv.window.kernel;
  if ((kernel.width != 1 && kernel.width != 3) || kernel.height > kLutMaxRows ||
      conv.groups != 1 || x.grid.low != 0) {
    return nullptr;
  }
  int largest = x.grid.high;
  for (const int8_t code : conv.weights->codes) {
    if (code % 2 == 0) return nullptr;
    largest = std::max<int>(largest, std::abs(code));
  }
#if defined(__x86_64__) && defined(__GNUC__)
  const bool has_lookups = __builtin_cpu_supports("avx512vbmi");
  // Intel's processors multiply twice as often as they look up, so that three
  // bits pay on AMD's alone.
  const bool has_fast_lookups = has_lookups && __builtin_cpu_is("amd");
#else
  const bool has_lookups = false, has_fast_lookups = false;
#endif
  const LutScheme *scheme = nullptr;
  if (largest <= kLut2Bits.max_code() && has_lookups) {
    scheme = &kLut2Bits;
  } else if (largest <= kLut3Bits.max_code() && has_fast_lookups) {
    scheme = &kLut3Bits;
  } else {
    return nullptr;
  }
  // Sums of the largest entries fit 16 bits.
  const KGroups k_groups(*scheme, conv, x.channels);
  const bool fits = k_groups.lookups() <= UINT16_MAX / scheme->max_entry();
  return fits ? scheme : nullptr;
}

PackedLut pack_lut(const LutScheme &scheme, const Op &op, int64_t channels) {
  const KGroups k_groups(scheme, op.as<Convolution>(), channels);
  PackedLut packed = {&scheme, k_groups, {}, {}, acc_init(scheme, op)};
  const int64_t outs = packed.out_groups(op.channels) * kLutNr;
  packed.offsets.reserve(static_cast<size_t>(outs * k_groups.lookups()));
  OffsetPacker packer(op, channels, &packed);
  for (int64_t out = 0; out < outs; out += kLutNr) {
    for (int64_t i = 0; i < k_groups.count; i += k_groups.block) {
      packer.pack_block(out, i);
    }
  }
  return packed;
}

IndexPlanes::IndexPlanes(const Convolution &conv, const KGroups &k_groups,
                         int64_t tile_columns)
    : columns(k_groups.columns) {
  const int64_t stride = conv.window.stride.height;
  const int64_t dilation = conv.window.dilation.height;
  const int64_t rows =
      (kLutMr - 1) * stride + (k_groups.rows - 1) * dilation + 1;
  is_shared = tile_columns == kLutPixels && rows <= kLutMr * k_groups.rows;
  count = (is_shared ? rows : kLutMr * k_groups.rows) * columns;
  vector_step = (is_shared ? stride : k_groups.rows) * columns;
  row_step = (is_shared ? dilation : 1) * columns;
}

LutScratch::LutScratch(const PackedLut &packed, const Op &op, uint8_t *memory)
    : indices(memory), sums_bytes(lut_sums_bytes(packed, op)) {
  sums = reinterpret_cast<LutSums *>(memory + lut_index_bytes(packed, op));
  code_sums = sums + packed.out_groups(op.channels) * kLutNr * kLutMr;
}

int64_t lut_scratch(const PackedLut &packed, const Op &op) {
  return lut_index_bytes(packed, op) + lut_sums_bytes(packed, op);
}

}  // namespace aqd
