// What vector kernels read in place of a node's weights and multipliers. It is
// made once, when a model is loaded, and never changes then.

#pragma once

#include <memory>

namespace aqd {

struct PackedConv;        // kernels/packing.h
struct PackedRequantize;  // kernels/requantize.h

struct Packed {
  bool has_kernel = false;    // whether vector kernels run it, or portable ones
  bool reads_pixels = false;  // a convolution that reads an image's bytes
  // Convolutions that share weights, as heads of pyramid levels do, share this.
  std::shared_ptr<const PackedConv> conv;
  std::shared_ptr<const PackedRequantize> requantize;
};

}  // namespace aqd
