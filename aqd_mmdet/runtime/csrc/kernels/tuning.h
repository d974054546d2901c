// Sizes that were chosen by measurement, each with its reason. None of them
// changes a result. Measured on AMD Zen 5 (1 MB of L2 cache a core) and on an
// Intel CPU with AMX (2 MB).

#pragma once

#include <cstddef>
#include <cstdint>

namespace aqd {

// Rows of input that a thread convolves at a time, in bytes: a quarter of a
// common L2 cache, so that the strip stays there while all weights pass by.
constexpr int64_t kStripBytes = 512 << 10;

// Weights up to this size stay in an L2 cache beside the input and the output.
// Then a few pixels get all their channels before the next ones, since what is
// written lies together. Larger weights are read once for each strip instead.
constexpr int64_t kCachedWeightBytes = 320 << 10;

// Pixels for which an epilogue runs at once. With 16, loading the constants of
// a vector of channels takes 8 % of a YOLOX-nano's time; with 64 no less than
// with 48, and tiles leave less of the L1 cache.
constexpr int kTilePixels = 48;

// Winograd tiles that a thread transforms at a time: transformed inputs and
// accumulators (276 kB each for 256 channels of 2 bits) fit an L2 cache, and
// are enough to pay for reading all weights. 24 and 30 are as fast, 48 are up
// to 6 % slower.
constexpr int64_t kWinogradTiles = 36;

// With fewer channels of the input Winograd's transformations take longer than
// the products that it saves: RTMDet-tiny runs 3.6 % faster with direct
// convolutions of 12 and 24 channels, and 2.4 % with those of 48 as well.
constexpr int64_t kWinogradMinChannels = 16;

// From so many weights on (512 channels of a ResNet) Winograd loses: the
// transformed weights, 3 to 8 bytes of each, are read for maps too small to pay
// for that.
constexpr size_t kWinogradMaxWeights = 1 << 21;

// The same for accumulators of 16 bits (AVX2), whose alternative is slower:
// three layers of 512 channels on 25x42 take 7 ms each, and 15 as direct
// convolutions.
constexpr size_t kShortWinogradMaxWeights = 1 << 22;

// Least channels of the input in a part of a Winograd convolution with
// accumulators of 16 bits. The accumulators of each part are transformed.
// RetinaNet-R18 at 640x640 takes 231 ms with parts of 128 channels (AMD Zen 4),
// 252 of 64, 304 of 32, and 317 with products of 16 bits in place of bytes.
constexpr int64_t kMinPartChannels = 64;

// With fewer products for an output, or fewer output channels, lookups take
// longer than multiplications (AMD Zen 4): packing indices and widening sums is
// the same work for any number of them. RetinaNet-R50 takes 536 ms so, 550 with
// lookups everywhere and 533 with at least 512 products; YOLOX-nano takes 5.6
// ms, and 6.3 with 64 products.
constexpr int64_t kLutMinProducts = 192;
constexpr int32_t kLutMinOutputs = 64;

// Outputs of 32 bits from this size on are stored past the caches, which would
// not hold them until they are read. Such a store need not read the line first.
constexpr size_t kStreamedBytes = 4 << 20;

// Steps of K between spills of 16-bit accumulators (AVX2) from which on they
// beat products of 16 bits.
constexpr int64_t kMinKPerSpill = 3;

}  // namespace aqd
