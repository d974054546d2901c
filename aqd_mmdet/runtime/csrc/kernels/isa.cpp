#include "kernels/isa.h"

#include "kernels/instruction_sets.h"

namespace aqd {
namespace {

const Isa kPortable = {"portable", [] { return true; }, [](Program *) {},
                       nullptr, nullptr};

// The best first.
const Isa *const kAll[] = {
#ifdef AQD_HAS_AVX512
    &kAmx, &kAvx512,
#endif
#ifdef AQD_HAS_AVX2
    &kAvxVnni, &kAvx2,
#endif
#ifdef AQD_HAS_NEON
    &kNeon,
#endif
#ifdef AQD_HAS_WASM
    &kWasm,
#endif
    &kPortable};

}  // namespace

std::vector<const Isa *> available_isas() {
  std::vector<const Isa *> found;
  for (const Isa *isa : kAll) {
    if (isa->is_there()) found.push_back(isa);
  }
  return found;
}

}  // namespace aqd
