// Convolutions by the products of bytes and words of AVX-512 VNNI, and by
// those of tiles of AMX.

#pragma once

#include "kernels.h"
#include "pool.h"

namespace aqd {

// Whether this machine has the instructions.
bool has_avx512();

// Makes what convolve_avx512 reads, in weights and requantisations; with
// tiles where the machine has them.
void prepare_avx512(Program *program, bool with_tiles);

// Bytes that convolve_avx512 needs for an input of a size; -1 where an
// operator is none of its own.
int64_t scratch_avx512(const Op &op, const Op &source, Size size);

// Runs a convolution as `convolve` does.
void convolve_avx512(const Op &op, const Op *requantize, const Tensor &x,
                     const Tensor &out, uint8_t *scratch, Pool *pool);

// Runs a requantisation of its own.
void requantize_avx512(const Op &op, const Tensor &x, const Tensor &out,
                       Pool *pool);

}  // namespace aqd
