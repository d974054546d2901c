#include "kernels/isa.h"

#ifdef AQD_HAS_X86

#include "kernels/simd_avx512.h"  // first: it has AQD_TARGET
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

}  // namespace

const Isa kAvx512 = {"avx512", has_avx512, run_fused<Avx512>, Avx512::kShape,
                     unsigned_bytes, /*has_lut=*/true, /*has_amx=*/false,
                     /*has_lines=*/true,
                     /*has_fma=*/true};

#ifdef AQD_HAS_AMX
const Isa kAmx = {"amx", [] { return has_avx512() && has_amx(); },
                  run_fused<Avx512>, Avx512::kShape, unsigned_bytes,
                  /*has_lut=*/false, /*has_amx=*/true, /*has_lines=*/true,
                  /*has_fma=*/true};
#endif

}  // namespace aqd

#endif
