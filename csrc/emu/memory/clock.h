// Happens-before between the threads of a launch.
//
// Each warp counts its epochs: a number that grows with every synchronizing instruction of one of its lanes. An access
// is stamped (thread, epoch of its warp). Thread u knows of thread t everything up to an epoch K_u[t]; the access (t,
// e) is ordered before what u does now when e < K_u[t], or t == u. Knowledge grows
//   at bar.sync       all participants learn what every participant knows and did
//   at bar.warp.sync  (and no other .sync instruction: shfl, vote and mma.sync order nothing in memory) the lanes of
//   the mask
//                     do so among each other
//   at an acquire     (ld.acquire, or a strong read followed by a fence) of what a release (st.release, or a fence
//                     followed by a strong write or atomic) of the same address published, at a scope that holds both
//   at the start of a launch of all launches before it
// A barrier passes on, besides knowledge, what its participants have fenced and what they have read but not fenced yet:
// "write, __threadfence, __syncthreads, one thread's atomic" is a release of all of them, as the hardware makes it. A
// thread that has exited takes part in no barrier: what it did last is ordered only by what it synchronized with
// before.
//
// Representation: a bar.sync of all threads brings every warp of the block to one epoch, BlockClock::base, and
// everything of the block before it is known to all its threads: one comparison a check, one word a warp to move.
// Within a converged warp `common` is the same; a diverged warp has a 32 x 32 matrix. All else (named barriers,
// acquires) is sparse, a lane: LaneSync.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace emu {

struct Warp;
struct Block;
using Mask = uint32_t;

struct Stamp {         // an access
  uint64_t block = 0;  // linear index in the grid
  uint16_t warp = 0;
  uint8_t lane = 0;
  uint32_t epoch = 0;
  uint32_t instr = 0;  // where, for the report
};

// Epochs known of the threads of one block.
struct Knowledge {
  struct Row {
    uint32_t warp;
    std::array<uint32_t, 32> lanes;
  };
  uint32_t floor = 0;     // known of every thread
  std::vector<Row> rows;  // ascending; more than that, of some warps
  uint32_t of(uint32_t warp, int lane) const;
};

// Epochs known of the threads of some blocks, ascending; immutable, shared.
struct Known {
  std::vector<std::pair<uint64_t, std::shared_ptr<const Knowledge>>> blocks;
  const Knowledge* of(uint64_t block) const;
};
using KnownPtr = std::shared_ptr<const Known>;
KnownPtr join(const KnownPtr& a, const KnownPtr& b);

// What the value now at an address makes known to who acquires it: the release sequence that ends there.
struct Publication {
  KnownPtr wide;                     // released at gpu or sys scope
  std::map<uint64_t, KnownPtr> cta;  // to threads of that block alone
};

struct LaneSync {
  KnownPtr known;  // beyond BlockClock::base and the own warp
  KnownPtr
      released[2];      // at the last fence of cta scope or wider, and of gpu scope or wider: what later writes publish
  KnownPtr pending[2];  // read by strong operations, known at the next fence of cta or wider, and of gpu or wider
  void join(const LaneSync& other);
  bool is_empty() const;
};

struct BlockClock {
  uint32_t base = 1;    // every thread knows every epoch of the block below this
  bool sparse = false;  // some lane has a LaneSync
};

struct WarpClock {
  uint32_t epoch = 1;
  bool converged = true;               // all lanes know the same of each other: within[][] is not looked at
  uint32_t common = 0;                 // then: the epoch below which they know each other
  std::unique_ptr<uint32_t[]> within;  // [reader lane][lane], when not converged
  std::unique_ptr<LaneSync> sync[32];
};

// True when `before` happens before what `lane` of `warp` does now.
bool ordered(const Stamp& before, const Warp& warp, int lane);
Stamp stamp(const Warp& warp, int lane);

// Edges. `lanes` are those that take part.
void on_warp_barrier(Warp& warp, Mask lanes);
void on_block_barrier(Block& block, const std::vector<Mask>& lanes_of_warp);
void on_block_start(Block& block);
// bar.arrive: what these lanes know and did up to now is learnt by the lanes that leave the barrier later on; the
// arriving lanes learn nothing. on_arrival_release is called after on_block_barrier for the lanes that waited.
struct BarrierArrival {
  uint16_t warp = 0;
  Mask lanes = 0;
  std::shared_ptr<const LaneSync> sync;  // what the arriving lanes together had
};
BarrierArrival on_block_arrive(Warp& warp, Mask lanes);
void on_arrival_release(Block& block, const std::vector<BarrierArrival>& arrivals,
                        const std::vector<Mask>& lanes_of_warp);
void on_launch_end();  // forgets what addresses published

// Fences and strong operations (memory/sync.cpp); scope 1 cta, 2 gpu, 3 sys. The caller holds what guards `at`, the
// publication of the word, so that a value and what it publishes are one.
void on_fence(Warp& warp, Mask lanes, int scope, bool acquire = true, bool release = true);
void on_strong_read(Warp& warp, int lane, const Publication& at, int scope, bool acquire);
void on_strong_write(Warp& warp, int lane, Publication& at, int scope, bool release, bool read_modify_write);

}  // namespace emu
