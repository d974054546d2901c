// What vector kernels read in place of a node's weights and multipliers. It is
// made once, when a model is loaded, and never changes then.

#pragma once

#include <memory>

namespace aqd {

struct PackedConv;        // kernels/packing.h
struct PackedRequantize;  // kernels/requantize.h

// Of a node. Convolutions that share weights, as heads of pyramid levels do,
// share what is packed of them.
struct Packed {
  bool has_kernel = false;    // whether vector kernels run it, or portable ones
  bool reads_pixels = false;  // a convolution that reads an image's bytes
  const PackedConv *conv = nullptr;
  const PackedRequantize *requantize = nullptr;
};

// Owns what is packed for all nodes of a program.
class PackedStore;
struct DeletePackedStore {
  void operator()(PackedStore *store) const;
};
using PackedStorePtr = std::unique_ptr<PackedStore, DeletePackedStore>;

}  // namespace aqd
