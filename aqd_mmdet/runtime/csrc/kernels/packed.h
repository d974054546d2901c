// What an instruction set prepares when a model is loaded.

#pragma once

#include <cstdint>
#include <vector>

namespace aqd {

// What one vector load reads; reading two lines of a cache takes twice as long.
struct alignas(64) Line {
  int8_t bytes[64];
};

// Weights in the order in which vector kernels read them.
struct PackedWeights {
  int format = 0;  // of the kernels that packed them; 0 for none
  std::vector<Line> lines;
  // Instead, of tables (conv_lut.cpp), and how many of them bytes sum at once.
  std::vector<uint16_t> offsets;
  std::vector<uint8_t> parts;
};

// How vector kernels read the input of a convolution.
struct Reading {
  bool as_words = false;  // in 16 bits, whatever the codes' type
  int raise = 0;          // what is added to each code
  int64_t steps = 0;      // of products whose sums fit 16 bits; 0 if unused
};

// How a convolution is made of products: one by one, by tables (conv_lut.h), or
// by fewer of them (winograd.h).
enum class Method : uint8_t { kProducts, kLookup, kWinograd };

// Of a node.
struct Packed {
  bool has_kernel = false;  // whether vector kernels run it; else portable ones
  Method method = Method::kProducts;  // of a convolution that vectors run
  bool reads_pixels = false;  // a convolution of an image's bytes themselves
  std::vector<int32_t> means;  // of the image then
  Reading reading;
  std::vector<int32_t> start;         // what a convolution's sums start from
  std::vector<int64_t> multipliers;   // of a requantisation, for vectors
  std::vector<int32_t> thresholds;    // instead of them, for a few codes
};

}  // namespace aqd
