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

}  // namespace

void SpinWatch::keep(const Warp& w, State* s) {
  s->steps = w.steps;
  s->exited = w.exited;
  s->waiting = w.waiting;
  s->barred = w.barred;
  std::copy(w.pc, w.pc + kLanes, s->pc);
  s->bytes.resize(register_bytes(w) + frame_bytes(w));
  std::memcpy(s->bytes.data(), w.registers, register_bytes(w));
  if (frame_bytes(w) != 0) std::memcpy(s->bytes.data() + register_bytes(w), frames(w), frame_bytes(w));
}

bool SpinWatch::same(const Warp& w, const State& s) const {
  if (w.exited != s.exited || w.waiting != s.waiting || w.barred != s.barred) return false;
  if (!std::equal(w.pc, w.pc + kLanes, s.pc)) return false;
  if (is_diverged(w) && w.steps - s.steps < steps_of_all_groups()) return false;
  if (std::memcmp(s.bytes.data(), w.registers, register_bytes(w)) != 0) return false;
  return frame_bytes(w) == 0 || std::memcmp(s.bytes.data() + register_bytes(w), frames(w), frame_bytes(w)) == 0;
}

bool SpinWatch::repeats(const Block& block, uint64_t suspicion) {
  if (suspicion != suspicion_ || states_.size() != block.warps.size()) {
    suspicion_ = suspicion;
    states_.assign(block.warps.size(), State());
  }
  bool all = true;
  for (const Warp& w : block.warps) {
    State& s = states_[w.index];
    if (w.runnable() == 0 || s.repeats) continue;
    if (s.turns != 0 && w.steps != s.steps && same(w, s)) {
      s.repeats = true;
      continue;
    }
    all = false;
    if (++s.turns >= s.due) {
      s.due = 2 * s.turns + 32;
      keep(w, &s);
    }
  }
  return all;
}

}  // namespace emu
