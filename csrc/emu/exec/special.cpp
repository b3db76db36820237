#include "emu/exec/special.h"

#include <chrono>

#include "emu/exec/warp.h"

namespace emu {
namespace {

uint64_t nanoseconds() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
}

template <class Word>
void read(Warp& w, const Instr& i, Mask active, uint64_t value) {
  Word* d = reinterpret_cast<Word*>(w.u32(i.d[0]));
  for (int lane = 0; lane < kLanes; ++lane) {
    if (active >> lane & 1) d[lane] = static_cast<Word>(value);
  }
}

// The clock of a warp ticks with its own steps and with every look at it: it never stands still, and a run is
// repeatable.
uint64_t tick(Warp& w) { return w.steps + ++w.clock_reads; }

void read_clock_low(Warp& w, const Instr& i, Mask active) { read<uint32_t>(w, i, active, tick(w)); }
void read_clock_high(Warp& w, const Instr& i, Mask active) { read<uint32_t>(w, i, active, tick(w) >> 32); }
void read_clock_all(Warp& w, const Instr& i, Mask active) { read<uint64_t>(w, i, active, tick(w)); }
void read_timer_low(Warp& w, const Instr& i, Mask active) { read<uint32_t>(w, i, active, nanoseconds()); }
void read_timer_high(Warp& w, const Instr& i, Mask active) { read<uint32_t>(w, i, active, nanoseconds() >> 32); }
void read_timer_all(Warp& w, const Instr& i, Mask active) { read<uint64_t>(w, i, active, nanoseconds()); }

struct Row {
  const char* name;
  int width;
  Fill fill;
  int axis;  // kAxes: .x, .y, .z and .w of it are named
  uint64_t bits;
  Instr::Handler read;
};
constexpr int kAxes = -1;

// A block is a cluster of its own.
constexpr Row kSpecials[] = {
    {"%tid", 32, Fill::kTid, kAxes, 0, nullptr},
    {"%ntid", 32, Fill::kNtid, kAxes, 1, nullptr},
    {"%ctaid", 32, Fill::kCtaid, kAxes, 0, nullptr},
    {"%nctaid", 32, Fill::kNctaid, kAxes, 1, nullptr},
    {"%clusterid", 32, Fill::kCtaid, kAxes, 0, nullptr},
    {"%nclusterid", 32, Fill::kNctaid, kAxes, 1, nullptr},
    {"%cluster_ctaid", 32, Fill::kConstant, kAxes, 0, nullptr},
    {"%cluster_nctaid", 32, Fill::kConstant, kAxes, 1, nullptr},
    {"%cluster_ctarank", 32, Fill::kConstant, 0, 0, nullptr},
    {"%cluster_nctarank", 32, Fill::kConstant, 0, 1, nullptr},
    {"%is_explicit_cluster", 1, Fill::kConstant, 0, 0, nullptr},
    {"%laneid", 32, Fill::kLane, 0, 0, nullptr},
    {"%warpid", 32, Fill::kWarpId, 0, 0, nullptr},
    {"%nwarpid", 32, Fill::kNwarpid, 0, 0, nullptr},
    {"%smid", 32, Fill::kSmid, 0, 0, nullptr},
    {"%nsmid", 32, Fill::kNsmid, 0, 0, nullptr},
    {"%gridid", 64, Fill::kGridId, 0, 0, nullptr},
    {"%lanemask_eq", 32, Fill::kLaneMask, 0, 0, nullptr},
    {"%lanemask_le", 32, Fill::kLaneMask, 1, 0, nullptr},
    {"%lanemask_lt", 32, Fill::kLaneMask, 2, 0, nullptr},
    {"%lanemask_ge", 32, Fill::kLaneMask, 3, 0, nullptr},
    {"%lanemask_gt", 32, Fill::kLaneMask, 4, 0, nullptr},
    {"%total_smem_size", 32, Fill::kSharedSize, 0, 0, nullptr},
    {"%aggr_smem_size", 32, Fill::kSharedSize, 0, 0, nullptr},
    {"%dynamic_smem_size", 32, Fill::kDynamicSize, 0, 0, nullptr},
    {"%clock", 32, Fill::kConstant, 0, 0, read_clock_low},
    {"%clock_hi", 32, Fill::kConstant, 0, 0, read_clock_high},
    {"%clock64", 64, Fill::kConstant, 0, 0, read_clock_all},
    {"%globaltimer_lo", 32, Fill::kConstant, 0, 0, read_timer_low},
    {"%globaltimer_hi", 32, Fill::kConstant, 0, 0, read_timer_high},
    {"%globaltimer", 64, Fill::kConstant, 0, 0, read_timer_all},
};

bool is_envreg(const std::string& name) {
  if (name.compare(0, 7, "%envreg") != 0 || name.size() < 8 || name.size() > 9) return false;
  for (std::size_t i = 7; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return false;
  }
  return std::stoi(name.substr(7)) < 32;
}

}  // namespace

SpecialRegister find_special(const std::string& name) {
  const std::size_t dot = name.find('.');
  const std::string stem = name.substr(0, dot);
  const std::string part = dot == std::string::npos ? "" : name.substr(dot + 1);
  for (const Row& r : kSpecials) {
    if (stem != r.name || part.empty() == (r.axis == kAxes)) continue;
    if (r.axis != kAxes) return {r.width, r.fill, r.axis, r.bits, r.read};
    // .w is 0 of an index and of a count alike
    if (part == "w") return {r.width, Fill::kConstant, 0, 0, nullptr};
    if (part != "x" && part != "y" && part != "z") return {};
    return {r.width, r.fill, part[0] - 'x', r.fill == Fill::kConstant ? r.bits : 0, nullptr};
  }
  if (is_envreg(name)) return {32, Fill::kConstant, 0, 0, nullptr};  // the driver leaves them zero for CUDA
  return {};
}

void complement_predicate(Warp& w, const Instr& i, Mask active) {
  Mask& d = w.pred(i.d[0]);
  d = (d & ~active) | (~w.pred(i.s[0]) & active);
}

void narrow_register(Warp& w, const Instr& i, Mask active) {
  const uint64_t* s = w.u64(i.s[0]);
  uint32_t* d = w.u32(i.d[0]);
  const uint32_t keep = static_cast<uint32_t>(i.imm);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (active >> lane & 1) d[lane] = static_cast<uint32_t>(s[lane]) & keep;
  }
}

void widen_register(Warp& w, const Instr& i, Mask active) {
  const uint32_t* s = w.u32(i.s[0]);
  uint64_t* d = w.u64(i.d[0]);
  const int shift = 64 - ptx::bits_of(i.type);
  const bool is_signed = ptx::is_signed(i.type);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(active >> lane & 1)) continue;
    const uint64_t high = static_cast<uint64_t>(s[lane]) << shift;
    d[lane] = is_signed ? static_cast<uint64_t>(static_cast<int64_t>(high) >> shift) : high >> shift;
  }
}

}  // namespace emu
