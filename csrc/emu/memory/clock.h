// Happens-before between the threads of a launch.
//
// Each warp counts its epochs: a number that grows with every synchronizing instruction of one of its lanes. An access
// is stamped (thread, epoch of its warp). Thread u knows of thread t everything up to an epoch K_u[t]; the access (t, e)
// is ordered before what u does now when e < K_u[t], or t == u. Knowledge grows
//   at bar.sync       all participants learn what every participant knows and did
//   at bar.warp.sync  (and no other .sync instruction: shfl, vote and mma.sync order nothing in memory) the lanes of the mask
//                     do so among each other
//   at an acquire     (ld.acquire, or a strong read followed by a fence) of what a release (st.release, or a fence
//                     followed by a strong write or atomic) of the same address published, at a scope that holds both
//   at the start of a launch of all launches before it
// Representation: what a whole block learnt at a full bar.sync is one vector shared by its threads; within a warp a
// 32 x 32 matrix; all else (named barriers, acquires) is sparse. So bar.sync costs one word a thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace emu {

struct Warp;
struct Block;
using Mask = uint32_t;

struct Stamp {  // an access
  uint64_t block = 0;   // linear index in the grid
  uint16_t warp = 0;
  uint8_t lane = 0;
  uint32_t epoch = 0;
  uint32_t instr = 0;   // where, for the report
};

// Epochs known of every thread of a block, immutable once shared: [warp * 32 + lane].
using Knowledge = std::vector<uint32_t>;

struct BlockClock {
  std::shared_ptr<const Knowledge> base;  // what all threads of the block know of it since the last full barrier
};

struct WarpClock {
  uint32_t epoch = 1;
  bool converged = true;             // all lanes know the same of each other: within[][] is not looked at
  uint32_t common = 0;               // then: the epoch up to which they know each other
  std::unique_ptr<uint32_t[]> within;  // [reader lane][lane], when not converged
  // knowledge beyond base and the own warp, a lane: block (own one included) -> epochs
  struct Foreign {
    std::map<uint64_t, std::shared_ptr<const Knowledge>> blocks;
  };
  std::unique_ptr<Foreign> foreign[32];
  // strong operations before a fence, not yet ordered: addresses read (to acquire at the next fence)
  std::vector<uint64_t> pending_reads[32];
  uint8_t fenced[32] = {};           // scope of the last fence of the lane: 0 none, 1 cta, 2 gpu, 3 sys
  std::shared_ptr<const Foreign> released[32];  // snapshot at that fence
};

// True when `before` happens before what `lane` of `warp` does now.
bool ordered(const Stamp& before, const Warp& warp, int lane);
Stamp stamp(const Warp& warp, int lane);

// Edges. `lanes` are those that take part.
void on_warp_barrier(Warp& warp, Mask lanes);
void on_block_barrier(Block& block, const std::vector<Mask>& lanes_of_warp);
void on_block_start(Block& block);
// bar.arrive: what these lanes know and did up to now is learnt by the lanes that leave the barrier later on; the arriving
// lanes learn nothing. on_arrival_release is called after on_block_barrier for the lanes that waited.
struct BarrierArrival {
  uint16_t warp = 0;
  Mask lanes = 0;
  std::shared_ptr<const Knowledge> knowledge;  // of the block's threads, as the arriving lanes together had it
};
BarrierArrival on_block_arrive(Warp& warp, Mask lanes);
void on_arrival_release(Block& block, const std::vector<BarrierArrival>& arrivals, const std::vector<Mask>& lanes_of_warp);
// Fences and strong operations (memory/sync.cpp keeps what addresses published; scope 1 cta, 2 gpu, 3 sys).
void on_fence(Warp& warp, Mask lanes, int scope);
void on_strong_read(Warp& warp, int lane, uint64_t address, int scope, bool acquire);
void on_strong_write(Warp& warp, int lane, uint64_t address, int scope, bool release, bool read_modify_write);
void on_launch_end();  // forgets what addresses published

}  // namespace emu
