#include "emu/exec/spin.h"

#include <algorithm>
#include <cstring>

#include "emu/config.h"

namespace emu {
namespace {

// Steps within which every group of a diverged warp has had a turn; see kPatience in exec/warp.cpp.
uint64_t steps_of_all_groups() { return uint64_t{kLanes} * 32 * static_cast<uint64_t>(config().slice); }

size_t register_bytes(const Warp& w) { return size_t{w.code->units} * 128; }

const std::byte* frames(const Warp& w) {
  return w.block->local.data() + size_t{w.index} * kLanes * w.code->local_bytes;
}

size_t frame_bytes(const Warp& w) { return static_cast<size_t>(__builtin_popcount(w.lanes)) * w.code->local_bytes; }

bool is_diverged(const Warp& w) {
  const Mask runnable = w.runnable();
  for (Mask m = runnable; m != 0; m &= m - 1) {
    if (w.pc[__builtin_ctz(m)] != w.pc[__builtin_ctz(runnable)]) return true;
  }
  return false;
}

// Threads that have arrived where lanes of the warp wait.
uint64_t arrivals(const Block& block, const Warp& w) {
  uint64_t arrived = 0;
  for (const Barrier& barrier : block.barriers) {
    if (barrier.waiting[w.index] != 0) arrived += barrier.arrived;
  }
  return arrived;
}

// The registers that decide where the lanes of the warp go from here are those of `before`.
bool same_decisions(const Warp& w, const std::byte* before) {
  const auto* now = reinterpret_cast<const std::byte*>(w.registers);
  uint32_t last = kNoLoop;
  for (Mask m = w.living(); m != 0; m &= m - 1) {
    const uint32_t of = w.code->loop_of[w.pc[__builtin_ctz(m)]];
    if (of == kNoLoop || of == last) continue;
    last = of;
    const Loop& loop = w.code->loops[of];
    if (loop.has_clock) return false;
    for (const Unit u : loop.decisive) {
      if (std::memcmp(now + size_t{u} * 128, before + size_t{u} * 128, 128) != 0) return false;
    }
  }
  return true;
}

bool same_calls(const std::vector<Warp::Frame>& a, const std::vector<Warp::Frame>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](Warp::Frame x, Warp::Frame y) { return x.return_pc == y.return_pc; });
}

}  // namespace

void SpinWatch::keep(const Warp& w, State* s) {
  s->steps = w.steps;
  s->kept = looks_;
  s->exited = w.exited;
  s->waiting = w.waiting;
  s->barred = w.barred;
  s->carry = w.carry;
  std::copy(w.pc, w.pc + kLanes, s->pc);
  std::copy(w.calls, w.calls + kLanes, s->calls);
  s->bytes.resize(register_bytes(w) + frame_bytes(w));
  std::memcpy(s->bytes.data(), w.registers, register_bytes(w));
  if (frame_bytes(w) != 0) std::memcpy(s->bytes.data() + register_bytes(w), frames(w), frame_bytes(w));
}

bool SpinWatch::same(const Warp& w, const State& s) const {
  if (w.exited != s.exited || w.waiting != s.waiting || w.barred != s.barred || w.carry != s.carry) {
    return false;
  }
  if (!std::equal(w.pc, w.pc + kLanes, s.pc) || !std::equal(w.calls, w.calls + kLanes, s.calls, same_calls)) {
    return false;
  }
  if (is_diverged(w) && w.steps - s.steps < steps_of_all_groups()) return false;
  if (!same_decisions(w, s.bytes.data())) return false;
  return frame_bytes(w) == 0 || std::memcmp(s.bytes.data() + register_bytes(w), frames(w), frame_bytes(w)) == 0;
}

bool SpinWatch::repeats(const Block& block, uint64_t suspicion) {
  if (suspicion != suspicion_ || states_.size() != block.warps.size()) {
    suspicion_ = suspicion;
    looks_ = 0;
    states_.assign(block.warps.size(), State());
  }
  ++looks_;
  bool all = true;
  uint64_t standing = 0;  // the look since which all warps stand that do
  for (const Warp& w : block.warps) {
    State& s = states_[w.index];
    if (w.living() == 0) continue;
    if (!s.repeats) s.repeats = s.turns != 0 && w.steps != s.steps && same(w, s);
    if (s.repeats) continue;
    const uint64_t arrived = arrivals(block, w);
    if (w.runnable() != 0 || w.steps != s.stood_steps || arrived != s.arrived) {
      all = false;
      s.stood_steps = w.runnable() != 0 ? ~uint64_t{0} : w.steps;
      s.arrived = arrived;
      s.stands_since = looks_;
      if (++s.turns >= s.due) {
        s.due = 2 * s.turns + 32;
        keep(w, &s);
      }
    } else {
      standing = std::max(standing, s.stands_since);
    }
  }
  if (!all) return false;
  for (State& s : states_) {
    if (!s.repeats || s.kept >= standing) continue;  // else its way round may have led past those that stand
    s.repeats = all = false;
    s.turns = 0;
    s.due = 1;
  }
  return all;
}

}  // namespace emu
