// Barriers of a block (bar, barrier) and of a warp (bar.warp.sync). PTX ISA 9.0, 9.7.13.1 and 9.7.13.2.
//
// An aligned barrier is for the whole warp: the engine lets its living lanes come together first and runs the handler
// for all of them, and it counts as a warp's worth of threads even where the warp is partial. The others count each
// thread. Without a thread count a barrier waits for all threads that have not exited, as devices since sm_70 do; since
// that is seldom meant, it is reported.
#include <algorithm>
#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/launch.h"

namespace emu {
namespace {

enum Flag : uint16_t { kAligned = 1, kHasCount = 2 };
enum Kind : int64_t { kSync, kArrive, kPopc, kAnd, kOr };

int first_lane(Mask m) { return __builtin_ctz(m); }

bool is_reduction(const Instr& i) { return i.imm >= kPopc; }

// The exit of some thread of the block.
Site exited_site(const Block& b) {
  for (const Warp& w : b.warps) {
    if (w.exited == 0) continue;
    const int lane = first_lane(w.exited);
    return b.launch->site(w, lane, w.pc[lane]);
  }
  return {};
}

void release(Block& b, Barrier& barrier) {
  if (barrier.expected == kAllThreads && b.living < b.threads) {
    Warp& w = b.warps[barrier.warp];
    const Site other = exited_site(b);
    b.launch->state->add(Finding::kDivergentBarrier, b.launch->site(w, static_cast<int>(barrier.lane), barrier.instr),
                         std::to_string(b.threads - b.living) + " of the " + std::to_string(b.threads) +
                             " threads that this barrier is for have exited",
                         &other);
  }
  bool news = false;  // the result of a reduction, from which the threads may learn something
  for (Warp& w : b.warps) {
    const Mask lanes = barrier.waiting[w.index];
    w.barred &= ~lanes;
    for (Mask m = lanes; m != 0; m &= m - 1) {
      const int l = first_lane(m);
      const Instr& i = w.code->instrs[w.pc[l]++];
      if (!is_reduction(i)) continue;
      const Mask bit = Mask{1} << l;
      const uint32_t value = i.imm == kPopc  ? barrier.reduction_count
                             : i.imm == kAnd ? uint32_t{barrier.reduction_and}
                                             : uint32_t{barrier.reduction_or};
      if (i.imm == kPopc) {
        w.u32(i.d[0])[l] = value;
      } else {
        w.pred(i.d[0]) = (w.pred(i.d[0]) & ~bit) | (value != 0 ? bit : 0);
      }
      news |= value != barrier.result;
      barrier.result = value;
    }
  }
  on_block_barrier(b, barrier.waiting);
  if (!barrier.arrivals.empty()) on_arrival_release(b, barrier.arrivals, barrier.waiting);
  barrier.arrived = barrier.expected = 0;
  barrier.arrivals.clear();
  std::fill(barrier.waiting.begin(), barrier.waiting.end(), Mask{0});
  if (news) {
    b.launch->progress();
  } else {
    b.launch->pass();
  }
}

bool is_full(const Block& b, const Barrier& barrier) {
  return barrier.arrived != 0 && barrier.arrived >= (barrier.expected == kAllThreads ? b.living : barrier.expected);
}

// Lanes that name the same barrier and the same count arrive at it.
void arrive(Warp& w, const Instr& i, Mask lanes, uint32_t id, uint32_t count) {
  Block& b = *w.block;
  const int lane = first_lane(lanes);
  if (id >= kBarriers) {
    b.launch->report(Finding::kBadArgument, w, lane, "the barrier must be 0 to 15, got " + std::to_string(id));
    b.launch->state->stop = true;
    return;
  }
  if (count != kAllThreads && (count == 0 || count % kLanes != 0)) {
    b.launch->report(Finding::kBadArgument, w, lane,
                     "the thread count of a barrier must be a multiple of 32 above 0, got " + std::to_string(count));
    b.launch->state->stop = true;
    return;
  }
  Barrier& barrier = b.barriers[id];
  if (barrier.arrived == 0) {
    barrier.expected = count;
    barrier.warp = w.index;
    barrier.lane = static_cast<uint32_t>(lane);
    barrier.instr = w.at;
    barrier.reduction_and = true;
    barrier.reduction_or = false;
    barrier.reduction_count = 0;
  } else if (barrier.expected != count) {
    const Site other = b.launch->site(b.warps[barrier.warp], static_cast<int>(barrier.lane), barrier.instr);
    b.launch->report(Finding::kBadArgument, w, lane,
                     "barrier " + std::to_string(id) + " is in use for another number of threads", &other);
    b.launch->state->stop = true;
    return;
  }
  const bool whole_warp = (i.flags & kAligned) != 0 && count != kAllThreads;
  barrier.arrived += whole_warp ? kLanes : static_cast<uint32_t>(__builtin_popcount(lanes));
  if (is_reduction(i)) {
    const Mask p = w.pred(i.s[i.ns - 1]) & lanes;
    barrier.reduction_and &= p == lanes;
    barrier.reduction_or |= p != 0;
    barrier.reduction_count += static_cast<uint32_t>(__builtin_popcount(p));
  }
  if (i.imm == kArrive) {
    barrier.arrivals.push_back(on_block_arrive(w, lanes));
    for (Mask m = lanes; m != 0; m &= m - 1) w.pc[first_lane(m)] = w.at + 1;
  } else {
    barrier.waiting[w.index] |= lanes;
    w.barred |= lanes;
    for (Mask m = lanes; m != 0; m &= m - 1) w.pc[first_lane(m)] = w.at;
  }
  if (is_full(b, barrier)) release(b, barrier);
}

void block_barrier(Warp& w, const Instr& i, Mask active) {
  w.split = true;
  const uint32_t* id = w.u32(i.s[0]);
  const uint32_t* count = (i.flags & kHasCount) != 0 ? w.u32(i.s[1]) : nullptr;
  while (active != 0) {
    const int first = first_lane(active);
    Mask same = 0;
    for (Mask m = active; m != 0; m &= m - 1) {
      const int l = first_lane(m);
      if (id[l] == id[first] && (count == nullptr || count[l] == count[first])) same |= Mask{1} << l;
    }
    arrive(w, i, same, id[first], count != nullptr ? count[first] : kAllThreads);
    active &= ~same;
  }
}

void warp_barrier(Warp& w, const Instr&, Mask active) { on_warp_barrier(w, active); }

void decode_block_barrier(Decoder& d, bool aligned) {
  d.take("cta");
  const int kind = d.take_one_of({"sync", "arrive", "red"});
  if (kind < 0) return d.fail("a barrier must be .sync, .arrive or .red");
  int operand = 0;
  Instr& i = d.instr;
  i.imm = kind;
  if (kind == 2) {
    const int op = d.take_one_of({"popc", "and", "or"});
    if (op < 0) return d.fail("the operation of a barrier reduction must be .popc, .and or .or");
    i.imm = kPopc + op;
  }
  if (d.take_anywhere("aligned")) aligned = true;
  if (kind == 2) {
    const ptx::Type type = i.imm == kPopc ? ptx::Type::kU32 : ptx::Type::kPred;
    if (d.take_type() != type) return d.fail(i.imm == kPopc ? ".popc must be .u32" : ".and and .or must be .pred");
    d.destination(operand++, type);
  }
  const int sources = d.operands() - operand - (kind == 2 ? 1 : 0);
  if (sources < 1 || sources > 2) return d.fail("a barrier must have an index and at most one thread count");
  d.source(operand++, ptx::Type::kU32);
  if (sources == 2) {
    d.source(operand++, ptx::Type::kU32);
    i.flags |= kHasCount;
  } else if (kind == 1) {
    return d.fail("barrier.arrive must have a thread count");
  }
  if (kind == 2) d.source(operand, ptx::Type::kPred);
  if (aligned) i.flags |= kAligned;
  i.flow = Flow::kBlockSync;
  i.cls = Class::kBarrier;
  i.run = block_barrier;
}

void decode_bar(Decoder& d) {
  if (d.take("warp")) {
    if (!d.take("sync")) return d.fail("bar.warp must be .sync");
    d.member_mask(0);
    d.instr.flow = Flow::kWarpSync;
    d.instr.cls = Class::kBarrier;
    d.instr.run = warp_barrier;
    return;
  }
  decode_block_barrier(d, true);
}

void decode_barrier(Decoder& d) {
  if (d.peek() == "cluster") return d.fail("barriers of a cluster are not modelled");
  decode_block_barrier(d, false);
}

}  // namespace

bool is_warp_barrier(const Instr& i) { return i.run == warp_barrier; }

bool is_aligned(const Instr& i) { return (i.flags & kAligned) != 0; }

void on_exit(Warp& warp, Mask lanes) {
  Block& b = *warp.block;
  b.living -= static_cast<uint32_t>(__builtin_popcount(lanes));
  b.launch->progress();
  for (Barrier& barrier : b.barriers) {
    if (barrier.expected == kAllThreads && b.living != 0 && is_full(b, barrier)) release(b, barrier);
  }
}

extern const InstructionRow kBarrierInstructions[] = {
    {"bar", decode_bar}, {"barrier", decode_barrier}, {nullptr, nullptr}};

}  // namespace emu
