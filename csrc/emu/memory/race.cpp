// Which two accesses race, and how that is said.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "emu/memory/allocator.h"
#include "emu/memory/shadow.h"
#include "emu/memory/shared.h"

namespace emu {
namespace {

Site site_of(const Launch& launch, const Touch& touch) {
  Site s;
  s.kernel = launch.code->name;
  s.block[0] = touch.block % launch.grid[0];
  s.block[1] = touch.block / launch.grid[0] % launch.grid[1];
  s.block[2] = touch.block / launch.grid[0] / launch.grid[1];
  const uint32_t thread = touch.warp * kLanes + static_cast<uint32_t>(__builtin_ctz(touch.lanes));
  s.thread[0] = thread % launch.threads[0];
  s.thread[1] = thread / launch.threads[0] % launch.threads[1];
  s.thread[2] = thread / launch.threads[0] / launch.threads[1];
  if (touch.instr < launch.code->instrs.size()) {
    const ptx::Statement& statement = *launch.code->statements[launch.code->instrs[touch.instr].statement];
    s.line = statement.line;
    s.text = statement.text;
  }
  return s;
}

// Lanes of one store that write the same bytes: one of the values stands, so that equal ones are no race.
bool same_store(const Touch& before, const Actor& now, int lane) {
  if (!now.values || before.warp != now.index || before.block != now.block || before.instr != now.instr ||
      before.epoch != now.epoch || !before.is_write || (before.lanes & now.active) != before.lanes) {
    return false;
  }
  for (int other = 0; other < kLanes; other++) {
    if (!(before.lanes >> other & 1)) continue;
    const uint64_t begin = std::max(now.address[lane], now.address[other]);
    const uint64_t end = std::min(now.address[lane], now.address[other]) + now.bytes;
    if (begin >= end) return false;
    const std::byte* mine = now.values + size_t{now.stride} * static_cast<unsigned>(lane) + (begin - now.address[lane]);
    const std::byte* theirs =
        now.values + size_t{now.stride} * static_cast<unsigned>(other) + (begin - now.address[other]);
    if (std::memcmp(mine, theirs, end - begin) != 0) return false;
  }
  return true;
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

Strength strength_of(Order order, Scope scope) {
  if (order == Order::kWeak) return Strength::kWeak;
  return scope == Scope::kCta ? Strength::kCta : Strength::kGpu;
}

bool ordered(const Touch& before, const Actor& now, int lane) {
  Mask others = before.lanes;
  if (before.block == now.block) {
    if (before.epoch < now.base) return true;
    if (before.warp == now.index) {
      if (before.epoch < now.common) return true;
      others &= ~(Mask{1} << lane);
    }
  }
  Stamp s;
  s.block = before.block;
  s.warp = before.warp;
  s.epoch = before.epoch;
  for (; others != 0; others &= others - 1) {
    s.lane = static_cast<uint8_t>(__builtin_ctz(others));
    if (!ordered(s, now.warp, lane)) return false;
  }
  return true;
}

bool in_conflict(const Touch& before, const Actor& now, int lane, uint32_t bytes, bool is_write) {
  if (!before.is_write && !is_write) return false;
  if ((before.bytes & bytes) == 0) return false;
  if (before.strength != Strength::kWeak && now.strength != Strength::kWeak &&
      (before.block == now.block || (before.strength == Strength::kGpu && now.strength == Strength::kGpu))) {
    return false;
  }
  return !ordered(before, now, lane) && !same_store(before, now, lane);
}

bool Cell::touch(const Actor& now, int lane, uint32_t bytes, bool is_write, Touch* conflict) {
  bool bad = false;
  size_t kept = 0;
  for (const Touch& before : touches_) {
    const bool races = in_conflict(before, now, lane, bytes, is_write);
    if (races && !bad) {
      bad = true;
      *conflict = before;
    }
    // Whoever conflicts with `before` and is ordered after this access is ordered after `before` too; who is not
    // conflicts with this one as well, if it is as much of an access.
    const bool covered = (before.bytes & ~bytes) == 0 && (is_write || !before.is_write) &&
                         now.strength <= before.strength && (races || ordered(before, now, lane));
    // Strong writes of different threads to one word (a counter): the last one stands for all.
    const bool replaced = is_write && before.is_write && before.strength != Strength::kWeak && before.bytes == bytes &&
                          before.strength == now.strength;
    if (!covered && !replaced) touches_[kept++] = before;
  }
  touches_.resize(kept);
  for (Touch& before : touches_) {
    if (before.block == now.block && before.warp == now.index && before.epoch == now.epoch && before.bytes == bytes &&
        before.is_write == is_write && before.strength == now.strength && !is_write) {
      before.lanes |= Mask{1} << lane;
      return bad;
    }
  }
  Touch t;
  t.block = now.block;
  t.warp = static_cast<uint16_t>(now.index);
  t.bytes = static_cast<uint8_t>(bytes);
  t.strength = now.strength;
  t.is_write = is_write;
  t.lanes = Mask{1} << lane;
  t.epoch = now.epoch;
  t.instr = now.instr;
  // A word that many threads read by strong operations (a flag all poll): a bounded number of them is kept.
  constexpr size_t kMost = 64;
  if (touches_.size() >= kMost)
    touches_[(now.block * 31 + now.index + now.epoch) % kMost] = t;
  else
    touches_.push_back(t);
  return bad;
}

bool Cell::is_plain() const {
  return touches_.size() == 1 && touches_[0].is_write && touches_[0].strength == Strength::kWeak &&
         touches_[0].bytes == 15;
}

std::string describe(ptx::Space space, uint64_t address, const Block& block) {
  if (space == ptx::Space::kShared) {
    return "shared address " + hex(address) + " (of " + std::to_string(block.shared->size()) + " bytes)";
  }
  return "global address " + hex(address) + ", " + allocator().describe(address);
}

void report_conflict(const Actor& now, int lane, const Touch& other, bool in_flight, const char* what, uint64_t address,
                     uint32_t bytes) {
  const Site site = site_of(now.launch, other);
  const std::string where = std::to_string(bytes) + " bytes at " + describe(now.space, address, *now.warp.block);
  if (in_flight) {
    now.launch.report(Finding::kAsyncInFlight, now.warp, lane,
                      std::string(what) + " of " + where +
                          ": a cp.async that nobody has waited for is writing there; wait "
                          "with cp.async.wait_group, and with a barrier where other threads issued it",
                      &site);
    return;
  }
  const bool own_warp = other.block == now.block && other.warp == now.index;
  const char* how = own_warp ? "lanes of one warp are ordered by bar.warp.sync (__syncwarp) alone"
                    : other.block == now.block
                        ? "threads of one block are ordered by a barrier between the two"
                        : "blocks are ordered by release and acquire (a fence and an atomic flag)";
  now.launch.report(Finding::kRace, now.warp, lane,
                    std::string(what) + " of " + where + " is not ordered after the " +
                        (other.is_write ? "write" : "read") + " of the other thread; " + how,
                    &site);
}

void report_source_overwritten(const Actor& now, int lane, const Touch& writer, uint32_t copy, uint64_t address,
                               uint32_t bytes) {
  const Site site = site_of(now.launch, writer);
  now.launch.report(Finding::kAsyncInFlight, now.warp, lane,
                    "the source of the cp.async of line " +
                        std::to_string(now.launch.code->line(now.launch.code->instrs[copy])) + ", " +
                        std::to_string(bytes) + " bytes at " + describe(now.space, address, *now.warp.block) +
                        ", was written by the other thread before this wait",
                    &site);
}

}  // namespace emu
