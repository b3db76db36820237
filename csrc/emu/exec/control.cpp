// Branches, calls, and the ways in which a thread ends. PTX ISA 9.0, 9.7.12 (control flow) and 9.7.20 (miscellaneous).
#include <cstdint>
#include <string>
#include <vector>

#include "emu/exec/decoder.h"
#include "emu/exec/launch.h"
#include "emu/exec/system_call.h"

namespace emu {
namespace {

int first_lane(Mask m) { return __builtin_ctz(m); }

// The lanes of the group that a guard holds back go on behind the instruction.
void skip(Warp& w, Mask active) {
  w.split = true;
  for (Mask m = w.group & ~active; m != 0; m &= m - 1) w.pc[first_lane(m)] = w.at + 1;
}

void branch(Warp& w, const Instr& i, Mask active) {
  if (active == w.group) {
    w.at = i.target;
  } else if (active == 0) {
    ++w.at;
  } else {
    skip(w, active);
    for (; active != 0; active &= active - 1) w.pc[first_lane(active)] = i.target;
  }
}

void branch_indexed(Warp& w, const Instr& i, Mask active) {
  const auto& targets = *static_cast<const std::vector<uint32_t>*>(i.plan);
  const uint32_t* index = w.u32(i.s[0]);
  skip(w, active);
  for (; active != 0; active &= active - 1) {
    const int l = first_lane(active);
    w.pc[l] = w.at + 1;
    if (index[l] < targets.size()) {
      w.pc[l] = targets[index[l]];
      continue;
    }
    w.block->launch->report(
        Finding::kBadArgument, w, l,
        "the index of brx.idx must be below " + std::to_string(targets.size()) + ", got " + std::to_string(index[l]));
    w.block->launch->state->stop = true;
  }
}

void call_direct(Warp& w, const Instr& i, Mask active) {
  if (active == 0) {
    ++w.at;
    return;
  }
  skip(w, active);
  for (; active != 0; active &= active - 1) {
    const int l = first_lane(active);
    w.calls[l].push_back({w.at + 1});
    w.pc[l] = i.target;
  }
}

void call_indirect(Warp& w, const Instr& i, Mask active) {
  const auto& call = *static_cast<const Call*>(i.plan);
  const uint64_t* address = w.u64(i.s[0]);
  skip(w, active);
  for (; active != 0; active &= active - 1) {
    const int l = first_lane(active);
    w.pc[l] = w.at + 1;
    bool found = false;
    for (const Call::Entry& e : call.entries) {
      if (e.address != address[l]) continue;
      w.calls[l].push_back({w.at + 1});
      w.pc[l] = e.target;
      found = true;
      break;
    }
    if (found) continue;
    w.block->launch->report(Finding::kBadArgument, w, l,
                            "the address of an indirect call must be that of a function it names");
    w.block->launch->state->stop = true;
  }
}

void end_lanes(Warp& w, Mask lanes) {
  for (Mask m = lanes; m != 0; m &= m - 1) w.pc[first_lane(m)] = w.at;
  w.exited |= lanes;
  on_exit(w, lanes);
  release_waiting(w);
}

void exit_lanes(Warp& w, const Instr&, Mask active) {
  if (active == 0) {
    ++w.at;
    return;
  }
  skip(w, active);
  end_lanes(w, active);
}

// Back to the caller; in the kernel itself the end of the thread.
void ret(Warp& w, const Instr&, Mask active) {
  if (active == 0) {
    ++w.at;
    return;
  }
  skip(w, active);
  Mask ended = 0;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    if (w.calls[l].empty()) {
      ended |= Mask{1} << l;
      continue;
    }
    w.pc[l] = w.calls[l].back().return_pc;
    w.calls[l].pop_back();
  }
  if (ended != 0) end_lanes(w, ended);
}

void trap(Warp& w, const Instr&, Mask active) {
  if (active != 0) w.block->launch->report(Finding::kTrap, w, first_lane(active), "the program stopped itself");
  ++w.at;
}

// How long is left to the device; here the warp gives up its turn.
void nanosleep(Warp& w, const Instr&, Mask active) {
  ++w.at;
  w.yield = active != 0;
}

// Launches of a stream never overlap here, so what griddepcontrol.wait waits for has happened, and there is nobody whom
// launch_dependents could let start earlier.
void dependent_launch(Warp&, const Instr&, Mask) {}

void jump(Decoder& d, Instr::Handler run) {
  d.instr.flow = Flow::kJump;
  d.instr.cls = Class::kControl;
  d.instr.run = run;
}

void decode_bra(Decoder& d) {
  d.take("uni");
  d.label(0);
  jump(d, branch);
}

void decode_brx(Decoder& d) {
  if (!d.take("idx")) return d.fail("brx must be .idx");
  d.take("uni");
  d.source(0, ptx::Type::kU32);
  d.instr.plan = d.labels(1);
  jump(d, branch_indexed);
}

void decode_call(Decoder& d) {
  d.take("uni");
  const Call* call = d.call();
  if (call == nullptr) return;
  d.instr.plan = call;
  if (call->name.empty()) return jump(d, call_indirect);
  if (call->has_body) return jump(d, call_direct);
  const Instr::Handler system = find_system_call(call->name);
  if (system == nullptr) return d.fail("function " + call->name + " has no body and is none that the system provides");
  d.instr.run = system;
  d.instr.cls = Class::kControl;
}

void decode_ret(Decoder& d) {
  d.take("uni");
  jump(d, ret);
}

void decode_exit(Decoder& d) { jump(d, exit_lanes); }

void decode_trap(Decoder& d) { jump(d, trap); }

void decode_nanosleep(Decoder& d) {
  if (d.take_type() != ptx::Type::kU32) return d.fail("nanosleep must be .u32");
  d.source(0, ptx::Type::kU32);
  jump(d, nanosleep);
}

void decode_griddepcontrol(Decoder& d) {
  if (d.take_one_of({"launch_dependents", "wait"}) < 0) {
    return d.fail("griddepcontrol must be .launch_dependents or .wait");
  }
  d.instr.cls = Class::kControl;
  d.instr.run = dependent_launch;
}

}  // namespace

extern const InstructionRow kControlInstructions[] = {
    {"bra", decode_bra},
    {"brx", decode_brx},
    {"call", decode_call},
    {"ret", decode_ret},
    {"exit", decode_exit},
    {"trap", decode_trap},
    {"brkpt", decode_trap},
    {"nanosleep", decode_nanosleep},
    {"griddepcontrol", decode_griddepcontrol},
    {nullptr, nullptr},
};

}  // namespace emu
