#include "emu/exec/warp.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "emu/config.h"
#include "emu/exec/launch.h"
#include "emu/exec/mma.h"

namespace emu {
namespace {

constexpr uint32_t kNowhere = ~uint32_t{0};
// Steps that the lowest group of a warp may run, in slices, while lanes elsewhere could run too. Long enough that loops
// with different trip counts end together; after it the others have a slice, so that a lane may spin on another one. A
// group that may be spinning is cut short: its atomics and loads count as many steps.
constexpr uint32_t kPatience = 16;
constexpr uint32_t kStepsOfAtomic = 128;
constexpr uint32_t kStepsOfLoad = 16;

int first_lane(Mask m) { return __builtin_ctz(m); }

uint32_t population(Mask m) {
  m -= (m >> 1) & 0x55555555u;
  m = (m & 0x33333333u) + ((m >> 2) & 0x33333333u);
  return (((m + (m >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24;
}

Mask lanes_at(const Warp& w, uint32_t pc) {
  Mask m = 0;
  for (int l = 0; l < kLanes; ++l) m |= Mask{w.pc[l] == pc} << l;
  return m;
}

void send(Warp& w, Mask lanes, uint32_t pc) {
  if (lanes == ~Mask{0}) {
    std::fill(w.pc, w.pc + kLanes, pc);
    return;
  }
  for (; lanes != 0; lanes &= lanes - 1) w.pc[first_lane(lanes)] = pc;
}

// Chooses the lanes that run next and where they may meet others. Lanes in called functions go first: their code lies
// behind that of their callers, whose lanes would run past the call alone.
bool choose(Warp& w) {
  const Mask runnable = w.runnable();
  if (runnable == 0) return false;
  const uint32_t pc = w.pc[first_lane(runnable)];
  w.group = lanes_at(w, pc) & runnable;
  w.limit = kNowhere;
  if (w.group == runnable) {
    w.at = pc;
    w.starving = w.favour = 0;
    return true;
  }
  if (w.favour == 0 && w.starving >= kPatience * static_cast<uint32_t>(config().slice)) {
    w.starving = 0;
    const Mask others = runnable & ~w.last;
    const Mask behind = w.favoured == 31 ? 0 : others & (~Mask{0} << (w.favoured + 1));
    w.favoured = static_cast<uint32_t>(first_lane(behind != 0 ? behind : others != 0 ? others : runnable));
    w.favour = static_cast<uint32_t>(config().slice);
  }
  if (w.favour != 0 && (runnable >> w.favoured & 1) != 0) {
    w.at = w.pc[w.favoured];
    w.group = lanes_at(w, w.at) & runnable;
    return true;
  }
  w.favour = 0;
  size_t depth = 0;
  for (Mask m = runnable; m != 0; m &= m - 1) depth = std::max(depth, w.calls[first_lane(m)].size());
  w.at = kNowhere;
  for (Mask m = runnable; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    if (w.calls[l].size() != depth) continue;
    if (w.pc[l] < w.at) {
      w.limit = w.at;
      w.at = w.pc[l];
      w.group = 0;
    } else if (w.pc[l] > w.at) {
      w.limit = std::min(w.limit, w.pc[l]);
    }
    if (w.pc[l] == w.at) w.group |= Mask{1} << l;
  }
  w.last = w.group;
  return true;
}

// A value from unwritten memory makes what is computed from it unwritten too.
void propagate(Warp& w, const Instr& i, Mask active) {
  if (i.cls == Class::kTensor) return propagate_mma(w, i, active);
  Mask m = 0;
  for (int k = 0; k < i.ns; ++k) m |= w.poison[i.s[k]];
  m &= active;
  for (int k = 0; k < i.nd; ++k) {
    Mask& d = w.poison[i.d[k]];
    d = (d & ~active) | m;
  }
}

void report_poisoned_guard(Warp& w, const Instr& i) {
  const Mask lanes = w.poison[i.guard] & w.group;
  w.block->launch->report(Finding::kUninitialized, w, first_lane(lanes),
                          "the predicate of this instruction depends on memory that nobody wrote");
  w.poison[i.guard] &= ~lanes;
}

Mask guarded(Warp& w, const Instr& i) {
  const Mask p = w.pred(i.guard);
  if (w.poison != nullptr && (w.poison[i.guard] & w.group) != 0) report_poisoned_guard(w, i);
  return w.group & (i.guard_negated ? ~p : p);
}

void count(InstrCount& c, Mask active) {
  ++c.warps;
  c.threads += population(active);
}

// The lanes that may leave the instruction at which `lane` waits, or 0 while some are missing.
Mask meeting(const Warp& w, int lane) {
  const Instr* instrs = w.code->instrs.data();
  const Instr& i = instrs[w.pc[lane]];
  const Mask members = members_of(w, i, lane);
  const Mask needed = (members & w.living()) | Mask{1} << lane;
  if ((needed & ~w.waiting) != 0) return 0;
  for (Mask m = needed; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    const Instr& j = instrs[w.pc[l]];
    if (w.pc[l] != w.pc[lane] && !(is_warp_barrier(i) && is_warp_barrier(j))) return 0;
    if (members_of(w, j, l) != members) return 0;
  }
  return needed;
}

void run_together(Warp& w, Mask lanes, int lane) {
  const Instr& i = w.code->instrs[w.pc[lane]];
  w.waiting &= ~lanes;
  w.group = lanes;
  w.at = w.pc[lane];
  count(w.block->launch->counts()[w.at], lanes);
  if (i.flow == Flow::kBlockSync) {
    i.run(w, i, lanes);
    return;
  }
  if (w.poison != nullptr) propagate(w, i, lanes);
  i.run(w, i, lanes);
  for (Mask m = lanes; m != 0; m &= m - 1) ++w.pc[first_lane(m)];
}

// Lanes of the group stand at a synchronizing instruction and others are missing.
void park(Warp& w, const Instr& i, Mask active) {
  const uint32_t at = w.at;
  send(w, w.group & ~active, at + 1);
  send(w, active, at);
  Mask outside = 0;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    if ((members_of(w, i, l) >> l & 1) == 0) outside |= Mask{1} << l;
  }
  if (outside != 0) {
    w.block->launch->report(Finding::kBadArgument, w, first_lane(outside),
                            "the member mask must contain the thread that executes the instruction");
  }
  w.waiting |= active;
  release_waiting(w);
}

bool complete(const Warp& w, const Instr& i, Mask active, bool uniform) {
  const Mask living = w.living();
  if (i.member_mask == kNoUnit) return active == living;
  const Mask members = w.u32(i.member_mask)[first_lane(active)];
  if ((members & living) != active) return false;
  if (uniform) return true;
  for (Mask m = active; m != 0; m &= m - 1) {
    if (w.u32(i.member_mask)[first_lane(m)] != members) return false;
  }
  return true;
}

uint32_t waiting_steps(Class c) {
  switch (c) {
    case Class::kAtomic: return kStepsOfAtomic;
    case Class::kLoadGlobal:
    case Class::kLoadShared:
    case Class::kLoadOther: return kStepsOfLoad;
    default: return 0;
  }
}

// Runs the group until it splits, parks, reaches a pc where it may merge with others, or has used its budget. Between
// instructions the group's pc is in a register; it is stored when the loop ends. `alone`: no other lane could run.
template <bool alone>
uint32_t run_group(Warp& w, uint32_t budget, InstrCount* counts, const uint8_t* uniform_member) {
  const Instr* const instrs = w.code->instrs.data();
  const Mask group = w.group;
  const uint32_t size = population(group);
  const uint32_t limit = w.limit;
  uint32_t at = w.at;
  uint32_t left = budget;
  do {
    const Instr& i = instrs[at];
    --left;
    w.at = at;
    Mask active = group;
    if (i.guard != kNoUnit) active = guarded(w, i);
    InstrCount& c = counts[at];
    switch (i.flow) {
      case Flow::kNext:
        ++c.warps;
        c.threads += active == group ? size : population(active);
        if (active != 0) {
          if (w.poison != nullptr) propagate(w, i, active);
          i.run(w, i, active);
        }
        if constexpr (!alone) w.starving += waiting_steps(i.cls);
        ++at;
        break;
      case Flow::kJump:
        count(c, active);
        i.run(w, i, active);
        if (w.split) return budget - left;
        at = w.at;
        if (w.yield) {
          send(w, group, at);
          return budget - left;
        }
        break;
      case Flow::kWarpSync:
        if (active == 0) {
          ++c.warps;
          ++at;
        } else if (complete(w, i, active, uniform_member[at] != 0)) {
          count(c, active);
          if (w.poison != nullptr) propagate(w, i, active);
          i.run(w, i, active);
          ++at;
        } else {
          park(w, i, active);
          return budget - left;
        }
        break;
      case Flow::kBlockSync:
        if (active == 0) {
          ++c.warps;
          ++at;
        } else if (is_aligned(i) && active != w.living()) {
          park(w, i, active);
          return budget - left;
        } else {
          count(c, active);
          send(w, group & ~active, at + 1);
          i.run(w, i, active);
          return budget - left;
        }
        break;
    }
  } while (left != 0 && at < limit);
  send(w, group, at);
  return budget - left;
}

void fill_constant(Warp& w, const Filled& f, uint64_t bits) {
  if (f.width == 1) {
    w.pred(f.unit) = bits != 0 ? ~Mask{0} : 0;
  } else if (f.width == 64) {
    std::fill(w.u64(f.unit), w.u64(f.unit) + kLanes, bits);
  } else if (f.width == 128) {
    for (int l = 0; l < kLanes; ++l) w.u64(f.unit)[2 * l] = bits;
  } else {
    std::fill(w.u32(f.unit), w.u32(f.unit) + kLanes, static_cast<uint32_t>(bits));
  }
}

template <class F>
void fill_lanes(Warp& w, const Filled& f, F value) {
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t v = value(l);
    if (f.width == 64)
      w.u64(f.unit)[l] = v;
    else
      w.u32(f.unit)[l] = static_cast<uint32_t>(v);
  }
}

uint32_t lane_mask(int which, int lane) {
  const uint32_t eq = uint32_t{1} << lane;
  switch (which) {
    case 0: return eq;
    case 1: return eq | (eq - 1);
    case 2: return eq - 1;
    case 3: return ~(eq - 1);
    default: return ~(eq | (eq - 1));
  }
}

void fill(Warp& w, const Filled& f) {
  const Block& b = *w.block;
  const Launch& launch = *b.launch;
  const uint64_t shared = std::max(w.code->shared_bytes, w.code->dynamic_offset + launch.dynamic_shared);
  switch (f.fill) {
    case Fill::kConstant:
    case Fill::kSymbol: return fill_constant(w, f, f.bits);
    case Fill::kNtid: return fill_constant(w, f, launch.threads[f.axis]);
    case Fill::kCtaid: return fill_constant(w, f, b.index[f.axis]);
    case Fill::kNctaid: return fill_constant(w, f, launch.grid[f.axis]);
    case Fill::kWarpId: return fill_constant(w, f, w.index);
    case Fill::kNwarpid: return fill_constant(w, f, b.warps.size());
    case Fill::kSmid: return fill_constant(w, f, b.linear % static_cast<uint64_t>(config().sm_count));
    case Fill::kNsmid: return fill_constant(w, f, static_cast<uint64_t>(config().sm_count));
    case Fill::kGridId: return fill_constant(w, f, launch.id);
    case Fill::kSharedSize: return fill_constant(w, f, shared);
    case Fill::kDynamicSize: return fill_constant(w, f, launch.dynamic_shared);
    case Fill::kLane: return fill_lanes(w, f, [](int l) { return static_cast<uint64_t>(l); });
    case Fill::kLaneMask: return fill_lanes(w, f, [&](int l) { return uint64_t{lane_mask(f.axis, l)}; });
    case Fill::kTid:
      return fill_lanes(w, f, [&](int l) {
        uint32_t index[3];
        b.thread_index(w.index, static_cast<uint32_t>(l), index);
        return uint64_t{index[f.axis]};
      });
  }
}

}  // namespace

Mask members_of(const Warp& w, const Instr& i, int lane) {
  return i.member_mask == kNoUnit ? ~Mask{0} : w.u32(i.member_mask)[lane];
}

void release_waiting(Warp& w) {
  for (Mask pending = w.waiting; pending != 0;) {
    const int lane = first_lane(pending);
    const Mask lanes = meeting(w, lane);
    pending &= ~(lanes | Mask{1} << lane);
    if (lanes != 0) run_together(w, lanes, lane);
  }
}

uint32_t advance(Warp& w, uint32_t budget, InstrCount* counts, const uint8_t* uniform_member) {
  uint32_t left = budget;
  w.yield = false;
  while (left != 0 && !w.yield && choose(w)) {
    const bool alone = w.group == w.runnable();
    uint32_t turn = left;
    if (!alone) {
      const uint32_t patience = kPatience * static_cast<uint32_t>(config().slice);
      const uint32_t slice = static_cast<uint32_t>(config().slice);
      turn = std::min(turn, w.favour != 0 ? w.favour : std::min(slice, patience - std::min(w.starving, patience - 1)));
    }
    w.split = false;
    const uint32_t steps =
        alone ? run_group<true>(w, turn, counts, uniform_member) : run_group<false>(w, turn, counts, uniform_member);
    left -= steps;
    if (!alone) {
      if (w.favour != 0)
        w.favour -= steps;
      else
        w.starving += steps;
    }
  }
  w.steps += budget - left;
  return budget - left;
}

void start_warp(Warp& w) {
  std::memset(w.registers, 0, std::size_t{w.code->units} * 128);
  if (w.poison != nullptr) std::fill(w.poison, w.poison + w.code->units, Mask{0});
  for (const Filled& f : w.code->filled) fill(w, f);
  std::fill(w.pc, w.pc + kLanes, 0u);
  for (auto& frames : w.calls) frames.clear();
  w.exited = w.waiting = w.barred = w.group = 0;
  w.at = w.starving = w.favour = w.favoured = 0;
  w.split = w.yield = false;
  w.steps = w.clock_reads = 0;
}

}  // namespace emu
