#include "kernels/isa.h"

#include <cstdlib>
#include <cstring>

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

const Isa *choose_isa(std::string *message) {
  const char *asked = std::getenv("AQD_ISA");
  std::string names;
  for (const Isa *isa : kAll) {
    if (!isa->is_there()) continue;
    if (asked == nullptr || std::strcmp(asked, isa->name) == 0) return isa;
    names += names.empty() ? isa->name : std::string(", ") + isa->name;
  }
  *message = std::string("AQD_ISA=") + asked +
             " is not what this machine has: " + names;
  return nullptr;
}

}  // namespace aqd
