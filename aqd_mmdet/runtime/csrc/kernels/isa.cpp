#include "kernels/isa.h"

namespace aqd {
namespace {

const Isa kPortable = {"portable", [] { return true; }, nullptr, {}, nullptr};

// The best first.
const Isa *const kAll[] = {
#ifdef AQD_HAS_AMX
    &kAmx,
#endif
#ifdef AQD_HAS_X86
    &kAvx512, &kAvxVnni, &kAvx2,
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
