// The limits of docs/file_format.md, section 9, by the names of its table: that
// of Program.stride is kProgramStride. A test compares them.

#pragma once

#include <cstdint>

namespace aqd {

// Both ends are allowed.
struct Limits {
  int64_t least, most;

  bool hold(int64_t value) const { return least <= value && value <= most; }
};

constexpr int64_t kInt32 = (int64_t{1} << 31) - 1;

constexpr Limits kArrayShape = {0, kInt32};
constexpr Limits kGridLo = {-kInt32, kInt32};
constexpr Limits kGridHi = {-kInt32, kInt32};
constexpr Limits kMultipliersS = {0, 47};
constexpr Limits kMultipliersB = {-(int64_t{1} << 62), int64_t{1} << 62};
// Of biases in whole steps: with their shifts they are below 2^62.
constexpr Limits kMultipliersOffset = {-(1 << 14), 1 << 14};
constexpr Limits kCurveBits = {0, 24};
constexpr Limits kProgramStride = {1, 4096};
constexpr Limits kWeightsBits = {2, 8};
constexpr Limits kWeightsShape = {1, kInt32};
constexpr Limits kOpChannels = {1, 65536};
constexpr Limits kImageMean = {0, 255};
constexpr Limits kWindowKernel = {1, 255};
constexpr Limits kWindowStride = {1, 255};
constexpr Limits kWindowPadding = {0, 255};
constexpr Limits kWindowDilation = {1, 255};
constexpr Limits kLookupRows = {0, 65535};
constexpr Limits kSliceOffset = {0, 255};
constexpr Limits kSliceStep = {1, 255};
constexpr Limits kPreProcessShort = {1, 16384};
constexpr Limits kPreProcessLong = {1, 16384};
constexpr Limits kPreProcessFill = {0, 255};
constexpr Limits kPostProcessThreshold = {-(int64_t{1} << 48),
                                          int64_t{1} << 48};
constexpr Limits kPostProcessCandidates = {1, 1 << 20};
constexpr Limits kPostProcessTotal = {1, 1 << 20};
constexpr Limits kPostProcessMargin = {-1, 16384};
constexpr Limits kPostProcessOverlap = {0, 65536};
constexpr Limits kPostProcessKeep = {1, 1 << 20};
constexpr Limits kProductLeast = {-(int64_t{1} << 31), int64_t{1} << 31};
constexpr Limits kAnchorLevelStride = {1, 4096};
constexpr Limits kPointLevelStride = {1, 4096};
constexpr Limits kPointLevelOffset = {-(1 << 24), 1 << 24};
constexpr Limits kAnchorsLimit = {1, 1 << 20};
constexpr Limits kCellsLimit = {1, 1 << 20};
constexpr Limits kExponentsLimit = {1, 1 << 20};
constexpr Limits kExponentsEdges = {1, 1 << 24};
constexpr Limits kBinsBins = {1, 64};
constexpr Limits kRegionsLimit = {1, 1 << 20};
constexpr Limits kRegionsThreshold = {0, 1 << 25};
constexpr Limits kRegionsOverlap = {0, 65536};
constexpr Limits kRegionsKeep = {1, 1 << 20};
constexpr Limits kRegionStageStrides = {1, 4096};
constexpr Limits kRegionStageFinest = {1, 16384};
constexpr Limits kRegionStageBins = {1, 64};
constexpr Limits kRegionStageSamples = {0, 64};
constexpr Limits kLabels = {1, 65536};      // how many
constexpr Limits kImageSide = {1, 16384};   // in pixels
constexpr Limits kImageRatio = {1, 200};    // of the longer side to the shorter
constexpr Limits kTensorSide = {1, 65536};  // while a program runs

}  // namespace aqd
