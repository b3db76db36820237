#include "emu/exec/memory_operands.h"

namespace emu {

using ptx::Space;

Space take_space(Decoder& d) {
  switch (
      d.take_one_of({"global", "shared", "shared::cta", "local", "param", "param::entry", "param::func", "const"})) {
    case 0: return Space::kGlobal;
    case 1:
    case 2: return Space::kShared;
    case 3: return Space::kLocal;
    case 4:
    case 5:
    case 6: return Space::kParam;
    case 7: return Space::kConst;
    default: break;
  }
  if (d.peek() == "shared::cluster") d.fail("shared memory of other blocks of a cluster is not modelled");
  return Space::kNone;
}

bool take_cache_operator(Decoder& d, bool store) {
  return (store ? d.take_one_of({"wb", "cg", "cs", "wt"}) : d.take_one_of({"ca", "cg", "cs", "lu", "cv"})) >= 0;
}

void take_hints(Decoder& d, bool* has_policy) {
  for (;;) {
    if (d.take("L2::cache_hint")) {
      *has_policy = true;
    } else if (d.take_one_of({"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last",
                              "L1::no_allocate", "L2::evict_normal", "L2::evict_first", "L2::evict_last", "L2::64B",
                              "L2::128B", "L2::256B"}) < 0) {
      return;
    }
  }
}

Scope take_scope(Decoder& d) {
  switch (d.take_one_of({"cta", "cluster", "gpu", "sys"})) {
    case 0:
    case 1: return Scope::kCta;
    case 2: return Scope::kGpu;
    case 3: return Scope::kSys;
    default: return Scope::kNone;
  }
}

int take_vector(Decoder& d) {
  switch (d.take_one_of({"v2", "v4", "v8"})) {
    case 0: return 2;
    case 1: return 4;
    case 2: return 8;
    default: return 1;
  }
}

void check_address_poison(Warp& w, Unit base, Mask active) {
  if (w.poison == nullptr || (w.poison[base] & active) == 0) return;
  const int lane = __builtin_ctz(w.poison[base] & active);
  w.block->launch->report(Finding::kUninitialized, w, lane,
                          "the address of this access came from memory that nobody wrote");
  w.poison[base] &= ~active;
}

}  // namespace emu
