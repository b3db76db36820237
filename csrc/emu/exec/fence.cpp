// membar and fence. PTX ISA 9.0, 9.7.13.4.
// A fence is a release and an acquire of its thread (memory/sync.cpp); sequential consistency beyond that is given by
// the interpreter, which runs one memory operation after the other. fence.proxy orders accesses through different paths
// to the same memory: .alias and .async order nothing that is modelled, as there is one path and no async proxy.
#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/memory_operands.h"

namespace emu {
namespace {

enum Side : uint16_t { kAcquireSide = 1, kReleaseSide = 2 };

void run_fence(Warp& w, const Instr& i, Mask active) {
  on_fence(w, active, static_cast<int>(i.imm), (i.flags & kAcquireSide) != 0, (i.flags & kReleaseSide) != 0);
}

void run_nothing(Warp&, const Instr&, Mask) {}

void decode_proxy(Decoder& d) {
  if (d.take_one_of({"alias", "async", "async.global", "async.shared::cta"}) < 0) {
    return d.fail("this proxy fence orders what is not modelled: ." + std::string(d.peek()));
  }
  d.take_one_of({"global", "shared::cta"});
  d.instr.cls = Class::kBarrier;
  d.instr.run = run_nothing;
}

void decode_membar(Decoder& d) {
  if (d.take("proxy")) return decode_proxy(d);
  const int level = d.take_one_of({"cta", "gl", "sys"});
  if (level < 0) return d.fail("membar must have a level");
  d.instr.imm = level + 1;
  d.instr.flags = kAcquireSide | kReleaseSide;
  d.instr.cls = Class::kBarrier;
  d.instr.run = run_fence;
}

void decode_fence(Decoder& d) {
  if (d.take("proxy")) return decode_proxy(d);
  const int semantics = d.take_one_of({"sc", "acq_rel", "acquire", "release"});
  const Scope scope = take_scope(d);
  if (scope == Scope::kNone) return d.fail("fence must have a scope");
  d.instr.flags = semantics == 2 ? kAcquireSide : semantics == 3 ? kReleaseSide : kAcquireSide | kReleaseSide;
  d.instr.imm = scope == Scope::kCta ? 1 : scope == Scope::kGpu ? 2 : 3;
  d.instr.cls = Class::kBarrier;
  d.instr.run = run_fence;
}

}  // namespace

extern const InstructionRow kFenceInstructions[] = {
    {"membar", decode_membar}, {"fence", decode_fence}, {nullptr, nullptr}};

}  // namespace emu
