// cp.async and its groups. PTX ISA 9.0, 9.7.9.25.3. Copies that complete by an mbarrier, and bulk copies, are refused.
#include <string>

#include "emu/exec/memory_operands.h"

namespace emu {
namespace {

using ptx::Space;
using ptx::Type;

enum Flag : uint16_t { kNarrowDestination = 1, kNarrowSource = 2, kHasSize = 4, kHasIgnore = 8 };
enum Wait : int64_t { kWaitAll = -1 };

struct Plan {
  int64_t destination_offset = 0, source_offset = 0;
  uint32_t bytes = 0;
};

void run_copy(Warp& w, const Instr& i, Mask active) {
  const Plan& p = *static_cast<const Plan*>(i.plan);
  uint64_t shared[kLanes], global[kLanes];
  addresses_of(w, i.s[0], (i.flags & kNarrowDestination) != 0, p.destination_offset, shared);
  addresses_of(w, i.s[1], (i.flags & kNarrowSource) != 0, p.source_offset, global);
  check_address_poison(w, i.s[0], active);
  check_address_poison(w, i.s[1], active);
  uint32_t size[kLanes];
  const uint32_t* given = (i.flags & kHasSize) != 0 ? w.u32(i.s[2]) : nullptr;
  const Mask ignored = (i.flags & kHasIgnore) != 0 ? w.pred(i.s[2]) : 0;
  for (int l = 0; l < kLanes; l++) {
    size[l] = given ? given[l] : (ignored >> l & 1) != 0 ? 0 : p.bytes;
    if (size[l] > p.bytes && (active >> l & 1) != 0) {
      w.block->launch->report(Finding::kBadArgument, w, l,
                              "the source size of cp.async must be at most " + std::to_string(p.bytes) + ", got " +
                                  std::to_string(size[l]));
    }
  }
  async_copy(w, active, shared, global, p.bytes, size);
}

void run_commit(Warp& w, const Instr&, Mask active) { async_commit(w, active); }

void run_wait(Warp& w, const Instr& i, Mask active) {
  if (i.imm == kWaitAll)
    async_wait_all(w, active);
  else
    async_wait(w, active, static_cast<uint32_t>(i.imm));
}

void decode_copy(Decoder& d) {
  const int cache = d.take_one_of({"ca", "cg"});
  if (cache < 0)
    return d.fail(
        "cp.async must be .ca, .cg, .commit_group, .wait_group or .wait_all; bulk copies and mbarriers are not "
        "modelled");
  if (take_space(d) != Space::kShared || take_space(d) != Space::kGlobal)
    return d.fail("cp.async must go from .global to .shared");
  bool has_policy = false;
  take_hints(d, &has_policy);
  Plan p;
  const Address destination = d.address(0, Space::kShared);
  const Address source = d.address(1, Space::kGlobal);
  p.destination_offset = destination.offset;
  p.source_offset = source.offset;
  const int64_t bytes = d.immediate(2);
  if (bytes != 16 && (cache == 1 || (bytes != 4 && bytes != 8))) {
    return d.fail(std::string("cp.async.") + (cache == 1 ? "cg copies 16 bytes" : "ca copies 4, 8 or 16 bytes") +
                  ", got " + std::to_string(bytes));
  }
  p.bytes = static_cast<uint32_t>(bytes);
  d.instr.flags =
      static_cast<uint16_t>((destination.narrow ? kNarrowDestination : 0) | (source.narrow ? kNarrowSource : 0));
  const int more = d.operands() - 3 - (has_policy ? 1 : 0);
  if (more == 1) {
    if (d.register_type(3) == Type::kPred) {
      d.source(3, Type::kPred);
      d.instr.flags |= kHasIgnore;
    } else {
      d.source(3, Type::kU32);
      d.instr.flags |= kHasSize;
    }
  }
  if (has_policy) d.source(d.operands() - 1, Type::kB64);
  d.instr.bytes = static_cast<uint8_t>(bytes);
  d.instr.plan = d.keep(p);
  d.instr.run = run_copy;
}

void decode_cp(Decoder& d) {
  if (!d.take("async")) return d.fail("cp must be cp.async; reductions and bulk copies are not modelled");
  d.instr.cls = Class::kAsyncCopy;
  if (d.take("commit_group")) {
    d.instr.run = run_commit;
  } else if (d.take("wait_all")) {
    d.instr.imm = kWaitAll;
    d.instr.run = run_wait;
  } else if (d.take("wait_group")) {
    d.instr.imm = d.immediate(0);
    if (d.instr.imm < 0) return d.fail("cp.async.wait_group must have a count that is not negative");
    d.instr.run = run_wait;
  } else {
    decode_copy(d);
  }
}

}  // namespace

extern const InstructionRow kAsyncCopyInstructions[] = {{"cp", decode_cp}, {nullptr, nullptr}};

}  // namespace emu
