#include "emu/memory/clock.h"

#include <algorithm>

#include "emu/exec/warp.h"
#include "emu/memory/sync.h"

namespace emu {
namespace {

std::shared_ptr<const Knowledge> join(const std::shared_ptr<const Knowledge>& a,
                                      const std::shared_ptr<const Knowledge>& b) {
  if (a == b) return a;
  auto result = std::make_shared<Knowledge>();
  result->floor = std::max(a->floor, b->floor);
  auto i = a->rows.begin(), j = b->rows.begin();
  while (i != a->rows.end() || j != b->rows.end()) {
    Knowledge::Row row;
    if (j == b->rows.end() || (i != a->rows.end() && i->warp < j->warp)) {
      row = *i++;
    } else if (i == a->rows.end() || j->warp < i->warp) {
      row = *j++;
    } else {
      row = *i++;
      for (int l = 0; l < kLanes; l++) row.lanes[l] = std::max(row.lanes[l], j->lanes[l]);
      j++;
    }
    const bool more = std::any_of(row.lanes.begin(), row.lanes.end(), [&](uint32_t e) { return e > result->floor; });
    if (more) result->rows.push_back(row);
  }
  return result;
}

uint32_t known_within(const WarpClock& clock, int reader, int lane) {
  return clock.converged ? clock.common : clock.within[reader * kLanes + lane];
}

void diverge(WarpClock& clock) {
  if (!clock.converged) return;
  if (!clock.within) clock.within = std::make_unique<uint32_t[]>(kLanes * kLanes);
  std::fill_n(clock.within.get(), kLanes * kLanes, clock.common);
  clock.converged = false;
}

// What is known in common after a meeting: own-block entries below `base` say nothing more.
void drop_block(KnownPtr& known, uint64_t block) {
  if (!known || !known->of(block)) return;
  if (known->blocks.size() == 1) {
    known = nullptr;
    return;
  }
  auto rest = std::make_shared<Known>();
  for (const auto& entry : known->blocks) {
    if (entry.first != block) rest->blocks.push_back(entry);
  }
  known = rest;
}

LaneSync joined_sync(const Warp& warp, Mask lanes, LaneSync all, bool* any) {
  for (int l = 0; l < kLanes; l++) {
    if (!(lanes >> l & 1) || !warp.clock.sync[l]) continue;
    all.join(*warp.clock.sync[l]);
    *any = true;
  }
  return all;
}

void give_sync(Warp& warp, Mask lanes, const LaneSync& all) {
  for (int l = 0; l < kLanes; l++) {
    if (!(lanes >> l & 1)) continue;
    if (!warp.clock.sync[l]) warp.clock.sync[l] = std::make_unique<LaneSync>();
    *warp.clock.sync[l] = all;
  }
}

void on_full_barrier(Block& block) {
  uint32_t epoch = block.clock.base;
  for (const Warp& warp : block.warps) epoch = std::max(epoch, warp.clock.epoch);
  epoch++;
  block.clock.base = epoch;
  for (Warp& warp : block.warps) {
    warp.clock.epoch = epoch;
    warp.clock.common = epoch;
    warp.clock.converged = true;
  }
  if (!block.clock.sparse) return;
  LaneSync all;
  bool any = false;
  for (const Warp& warp : block.warps) all = joined_sync(warp, warp.lanes, std::move(all), &any);
  drop_block(all.known, block.linear);
  if (all.is_empty()) {
    for (Warp& warp : block.warps) {
      for (auto& sync : warp.clock.sync) sync.reset();
    }
    block.clock.sparse = false;
    return;
  }
  for (Warp& warp : block.warps) give_sync(warp, warp.lanes, all);
}

}  // namespace

uint32_t Knowledge::of(uint32_t warp, int lane) const {
  for (const Row& row : rows) {
    if (row.warp == warp) return std::max(floor, row.lanes[lane]);
  }
  return floor;
}

const Knowledge* Known::of(uint64_t block) const {
  const auto i = std::lower_bound(blocks.begin(), blocks.end(), block,
                                  [](const auto& entry, uint64_t b) { return entry.first < b; });
  return i != blocks.end() && i->first == block ? i->second.get() : nullptr;
}

KnownPtr join(const KnownPtr& a, const KnownPtr& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto result = std::make_shared<Known>();
  result->blocks.reserve(a->blocks.size() + b->blocks.size());
  auto i = a->blocks.begin(), j = b->blocks.begin();
  while (i != a->blocks.end() || j != b->blocks.end()) {
    if (j == b->blocks.end() || (i != a->blocks.end() && i->first < j->first)) {
      result->blocks.push_back(*i++);
    } else if (i == a->blocks.end() || j->first < i->first) {
      result->blocks.push_back(*j++);
    } else {
      result->blocks.emplace_back(i->first, join(i->second, j->second));
      i++;
      j++;
    }
  }
  return result;
}

bool LaneSync::is_empty() const { return !known && !released[0] && !released[1] && !pending[0] && !pending[1]; }

void LaneSync::join(const LaneSync& other) {
  known = emu::join(known, other.known);
  for (int wide = 0; wide < 2; wide++) {
    released[wide] = emu::join(released[wide], other.released[wide]);
    pending[wide] = emu::join(pending[wide], other.pending[wide]);
  }
}

Stamp stamp(const Warp& warp, int lane) {
  Stamp s;
  s.block = warp.block->linear;
  s.warp = static_cast<uint16_t>(warp.index);
  s.lane = static_cast<uint8_t>(lane);
  s.epoch = warp.clock.epoch;
  s.instr = warp.at;
  return s;
}

bool ordered(const Stamp& before, const Warp& warp, int lane) {
  const Block& block = *warp.block;
  if (before.block == block.linear) {
    if (before.epoch < block.clock.base) return true;
    if (before.warp == warp.index) {
      if (before.lane == lane) return true;
      if (before.epoch < known_within(warp.clock, lane, before.lane)) return true;
    }
  }
  const LaneSync* sync = warp.clock.sync[lane].get();
  if (!sync || !sync->known) return false;
  const Knowledge* knowledge = sync->known->of(before.block);
  return knowledge && before.epoch < knowledge->of(before.warp, before.lane);
}

KnownPtr snapshot(const Warp& warp, Mask lanes) {
  const Block& block = *warp.block;
  auto own = std::make_shared<Knowledge>();
  own->floor = block.clock.base;
  Knowledge::Row row;
  row.warp = warp.index;
  row.lanes.fill(0);
  KnownPtr rest;
  for (int reader = 0; reader < kLanes; reader++) {
    if (!(lanes >> reader & 1)) continue;
    for (int l = 0; l < kLanes; l++) row.lanes[l] = std::max(row.lanes[l], known_within(warp.clock, reader, l));
    row.lanes[reader] = warp.clock.epoch + 1;
    if (warp.clock.sync[reader]) rest = join(rest, warp.clock.sync[reader]->known);
  }
  own->rows.push_back(row);
  auto known = std::make_shared<Known>();
  known->blocks.emplace_back(block.linear, own);
  return join(known, rest);
}

LaneSync& sync_of(Warp& warp, int lane) {
  if (!warp.clock.sync[lane]) warp.clock.sync[lane] = std::make_unique<LaneSync>();
  warp.block->clock.sparse = true;
  return *warp.clock.sync[lane];
}

void on_warp_barrier(Warp& warp, Mask lanes) {
  WarpClock& clock = warp.clock;
  lanes &= warp.lanes;
  if (lanes == warp.lanes) {
    clock.epoch++;
    clock.common = clock.epoch;
    clock.converged = true;
  } else if ((lanes & (lanes - 1)) != 0) {
    diverge(clock);
    warp.block->clock.sparse = true;
    uint32_t all[kLanes] = {};
    for (int r = 0; r < kLanes; r++) {
      if (!(lanes >> r & 1)) continue;
      for (int l = 0; l < kLanes; l++) all[l] = std::max(all[l], clock.within[r * kLanes + l]);
    }
    clock.epoch++;
    for (int l = 0; l < kLanes; l++) {
      if (lanes >> l & 1) all[l] = clock.epoch;
    }
    for (int r = 0; r < kLanes; r++) {
      if (lanes >> r & 1) std::copy_n(all, kLanes, clock.within.get() + r * kLanes);
    }
  }
  if (!warp.block->clock.sparse) return;
  bool any = false;
  const LaneSync all = joined_sync(warp, lanes, LaneSync(), &any);
  if (any) give_sync(warp, lanes, all);
}

void on_block_barrier(Block& block, const std::vector<Mask>& lanes_of_warp) {
  bool full = true;
  for (const Warp& warp : block.warps) full = full && (warp.lanes & ~lanes_of_warp[warp.index]) == 0;
  if (full) {
    on_full_barrier(block);
    return;
  }
  LaneSync all;
  for (const Warp& warp : block.warps) {
    const Mask lanes = lanes_of_warp[warp.index] & warp.lanes;
    if (!lanes) continue;
    bool any = false;
    all = joined_sync(warp, lanes, std::move(all), &any);
    all.known = join(all.known, snapshot(warp, lanes));
  }
  block.clock.sparse = true;
  for (Warp& warp : block.warps) {
    const Mask lanes = lanes_of_warp[warp.index] & warp.lanes;
    if (!lanes) continue;
    warp.clock.epoch++;
    give_sync(warp, lanes, all);
  }
}

BarrierArrival on_block_arrive(Warp& warp, Mask lanes) {
  lanes &= warp.lanes;
  bool any = false;
  LaneSync all = joined_sync(warp, lanes, LaneSync(), &any);
  all.known = join(all.known, snapshot(warp, lanes));
  warp.clock.epoch++;
  BarrierArrival arrival;
  arrival.warp = static_cast<uint16_t>(warp.index);
  arrival.lanes = lanes;
  arrival.sync = std::make_shared<const LaneSync>(std::move(all));
  return arrival;
}

void on_arrival_release(Block& block, const std::vector<BarrierArrival>& arrivals,
                        const std::vector<Mask>& lanes_of_warp) {
  block.clock.sparse = true;
  for (Warp& warp : block.warps) {
    const Mask lanes = lanes_of_warp[warp.index] & warp.lanes;
    for (int l = 0; l < kLanes; l++) {
      if (!(lanes >> l & 1)) continue;
      LaneSync& sync = sync_of(warp, l);
      for (const BarrierArrival& arrival : arrivals) sync.join(*arrival.sync);
    }
  }
}

// Pages forget what their words published when the next launch first touches them (memory/shadow.h).
void on_launch_end() {}

void on_block_start(Block& block) {
  block.clock = BlockClock();
  for (Warp& warp : block.warps) warp.clock = WarpClock();
}

}  // namespace emu
