#include "kernels/instruction_sets.h"

#ifdef AQD_HAS_AVX512

#include "kernels/simd_avx512.h"

#include "kernels/kernels.h"

namespace aqd {
namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

void pack(Program *program) {
  KernelSet set = {Avx512::kShape, unsigned_bytes};
  set.has_lut = has_lut();
  pack_program(set, program);
}

void pack_for_amx(Program *program) {
  KernelSet set = {Avx512::kShape, unsigned_bytes};
  set.has_amx = true;
  pack_program(set, program);
}

int64_t scratch(const Program &program, size_t position, const Plan &plan) {
  return scratch_bytes(Avx512::kShape, program, position, plan);
}

}  // namespace

void Avx512::run_other(const FusedOp &fused, const PackedConv &packed,
                       uint8_t *scratch, int64_t step, ThreadPool *pool) {
  if (const auto *lut = packed.get_if<PackedLut>()) {
    return convolve_lut(fused, *lut, scratch, step, pool);
  }
  convolve_amx(fused, *packed.get_if<PackedAmx>(), scratch, step, pool);
}

const Isa kAvx512 = {"avx512", has_avx512, pack, scratch, run_fused<Avx512>};

const Isa kAmx = {"amx", [] { return has_avx512() && has_amx(); },
                  pack_for_amx, scratch, run_fused<Avx512>};

}  // namespace aqd

#endif
