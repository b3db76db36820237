// Modifiers and operands that the memory instructions share.
#pragma once

#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/warp.h"
#include "emu/memory/memory.h"

namespace emu {

// `.global`, `.shared::cta` and their like; kNone and nothing taken where the next modifier names no space. A space of
// other blocks (shared::cluster) fails.
ptx::Space take_space(Decoder& d);

// Hints that change no result: cache operators, L1:: and L2:: eviction and prefetch. True if one was taken.
bool take_cache_operator(Decoder& d, bool store);
// Takes every hint at the current place. *has_policy: .L2::cache_hint, an operand names the policy.
void take_hints(Decoder& d, bool* has_policy);
// .cta, .cluster, .gpu, .sys; kNone and nothing taken if it is none. A cluster is one block here.
Scope take_scope(Decoder& d);
// .v2, .v4, .v8 -> 2, 4, 8; else 1.
int take_vector(Decoder& d);

// The addresses of an access: source 0 of the address plus Instr::imm.
inline void addresses_of(const Warp& w, Unit base, bool narrow, int64_t offset, uint64_t address[kLanes]) {
  if (narrow) {
    const uint32_t* b = w.u32(base);
    for (int l = 0; l < kLanes; l++) address[l] = static_cast<uint32_t>(b[l] + static_cast<uint32_t>(offset));
  } else {
    const uint64_t* b = w.u64(base);
    for (int l = 0; l < kLanes; l++) address[l] = b[l] + static_cast<uint64_t>(offset);
  }
}

// Reports where the address itself is poison (Uninitialized::kReportAtUse).
void check_address_poison(Warp& w, Unit base, Mask active);

// Bits of a register operand of `type` in a lane: 32, 64 or 128.
inline int lane_bytes(ptx::Type type) {
  const int bits = ptx::bits_of(type);
  return bits <= 32 ? 4 : bits / 8;
}

}  // namespace emu
