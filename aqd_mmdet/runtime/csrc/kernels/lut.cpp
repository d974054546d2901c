#include "kernels/lut.h"

#include <algorithm>
#include <cstdlib>

#include "kernels/isa.h"
#include "kernels/tuning.h"

namespace aqd {
namespace {

// The table for a K group of an output channel; v is 0 where there is none.
int table_of(const PackedLut &packed, const Op &op, int64_t channels,
             int64_t out, int64_t group, int64_t tap) {
  const LutScheme &scheme = *packed.scheme;
  const std::vector<int8_t> &codes = op.as<Convolution>().weights->codes;
  int table = 0;
  for (int i = 0; i < scheme.per_index; ++i) {
    const int64_t channel = group + i * packed.k_groups.count;
    int level = scheme.zero_level();
    if (channel < channels && out < op.channels) {
      const int64_t at = (tap * channels + channel) * op.channels + out;
      level = scheme.level(codes[static_cast<size_t>(at)]);
    }
    table |= level << scheme.bits * i;
  }
  return scheme.first_table + table;
}

// Appends a block of K groups for NR output channels. Runs are as long as bytes
// hold their sums.
void pack_block(const Op &op, int64_t channels, int64_t out, int64_t first,
                PackedLut *packed) {
  const KGroups &k_groups = packed->k_groups;
  packed->runs.push_back({});
  uint8_t *length = packed->runs.back().lengths;
  int sums[kLutNr] = {};
  const int64_t lookups =
      std::min(k_groups.block, k_groups.count - first) * k_groups.taps;
  for (int64_t i = 0; i < lookups; ++i) {
    bool fits = true;
    int entries[kLutNr];
    for (int64_t o = 0; o < kLutNr; ++o) {
      const int table = table_of(*packed, op, channels, out + o,
                                 first + i / k_groups.taps, i % k_groups.taps);
      packed->offsets.push_back(static_cast<uint16_t>(table * kLutEntries));
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

// Twice what all lookups of an output channel give too much.
std::vector<int32_t> acc_init(const LutScheme &scheme, const Op &op) {
  const size_t outs = static_cast<size_t>(op.channels);
  std::vector<int32_t> init(
      static_cast<size_t>(vectors_of(op.channels, 16)) * 16, 0);
  const std::vector<int8_t> &codes = op.as<Convolution>().weights->codes;
  for (size_t i = 0; i < codes.size(); ++i) {
    const int half = scheme.half(scheme.level(codes[i]));
    init[i % outs] += 2 * scheme.max_code() * std::min(half, 0);
  }
  return init;
}

}  // namespace

KGroups::KGroups(const LutScheme &scheme, const Convolution &conv,
                 int64_t channels) {
  const Size &kernel = conv.window.kernel;
  count = (channels + scheme.per_index - 1) / scheme.per_index;
  taps = int64_t{kernel.height} * kernel.width;
  block = kernel.width == 1 ? kLutIndexBlock : kLutIndexBlock / 4;
}

const LutScheme *lut_scheme(const Op &op, const Op &x) {
  const Convolution &conv = op.as<Convolution>();
  const Size &kernel = conv.window.kernel;
  if ((kernel.width != 1 && kernel.width != 3) || kernel.height > kLutMaxRows ||
      conv.groups != 1 || x.grid.low != 0) {
    return nullptr;
  }
  const int64_t products = int64_t{x.channels} * kernel.height * kernel.width;
  if (products < kLutMinProducts || op.channels < kLutMinOutputs) {
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
  PackedLut packed = {&scheme, k_groups, {}, {}, acc_init(scheme, op), {}};
  const int64_t outs = packed.out_groups(op.channels) * kLutNr;
  packed.offsets.reserve(static_cast<size_t>(outs * k_groups.lookups()));
  for (int64_t out = 0; out < outs; out += kLutNr) {
    for (int64_t i = 0; i < k_groups.count; i += k_groups.block) {
      pack_block(op, channels, out, i, &packed);
    }
  }
  return packed;
}

LutScratch::LutScratch(const PackedLut &packed, const Op &op, uint8_t *memory)
    : indices(memory) {
  const int64_t planes = kLutMr * packed.k_groups.taps;
  index_bytes = kLutIndexBlock * kLutPixels * planes;
  outs = packed.out_groups(op.channels) * kLutNr;
  sums_bytes = (outs * kLutMr + planes) * static_cast<int64_t>(sizeof(LutSums));
}

}  // namespace aqd
