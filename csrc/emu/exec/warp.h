// The state of one warp and of one block in flight. A block is run by one host thread at a time; nothing here is shared
// between host threads but through Launch and Memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "emu/exec/program.h"
#include "emu/memory/clock.h"
#include "emu/report.h"

namespace emu {

struct Block;
struct Launch;

struct Warp {
  Block* block = nullptr;
  const Code* code = nullptr;
  uint32_t index = 0;  // in the block
  Mask lanes = 0;      // lanes that exist (the last warp may be partial)
  Mask exited = 0;
  Mask waiting = 0;  // parked at a kWarpSync instruction
  Mask barred = 0;   // parked at a block barrier
  uint32_t pc[kLanes] = {};
  Mask group = 0;   // lanes that run the current instruction together, guard not applied
  uint32_t at = 0;  // its index
  // Written by kJump and kBlockSync handlers. A handler that sends the whole group to one place sets `at`; one that
  // sends its lanes to different places, parks or ends them sets their pc and `split`.
  bool split = false;
  bool yield = false;              // the rest of this warp's turn is given up (nanosleep)
  uint32_t limit = 0;              // the lowest pc of runnable lanes outside the group: there groups may merge
  uint32_t starving = 0;           // steps since runnable lanes outside the group had a turn
  Mask last = 0;                   // the group that had the lowest pc when it was last chosen
  uint32_t favour = 0;             // steps left of such a turn
  uint32_t favoured = 0;           // lane that had the last one
  std::byte* registers = nullptr;  // code->units * 128 bytes, 128-byte aligned
  Mask carry = 0;                  // CC.CF of each lane (add.cc, addc, ...)
  Mask* poison =
      nullptr;  // one word a unit: lanes whose value came from unwritten memory (Uninitialized::kReportAtUse)
  WarpClock clock;
  struct Frame {
    uint32_t return_pc;
  };
  std::vector<Frame> calls[kLanes];
  uint64_t steps = 0;        // of earlier turns
  uint64_t clock_reads = 0;  // %clock adds them, so that it moves within a turn

  Mask living() const { return lanes & ~exited; }
  Mask runnable() const { return lanes & ~(exited | waiting | barred); }
  uint32_t* u32(Unit u) const { return reinterpret_cast<uint32_t*>(registers + std::size_t{u} * 128); }
  uint64_t* u64(Unit u) const { return reinterpret_cast<uint64_t*>(registers + std::size_t{u} * 128); }
  float* f32(Unit u) const { return reinterpret_cast<float*>(registers + std::size_t{u} * 128); }
  double* f64(Unit u) const { return reinterpret_cast<double*>(registers + std::size_t{u} * 128); }
  Mask& pred(Unit u) const { return *reinterpret_cast<Mask*>(registers + std::size_t{u} * 128); }
};

struct Barrier {          // one of the 16 of a block
  uint32_t arrived = 0;   // threads; 0: the barrier is free
  uint32_t expected = 0;  // threads; kAllThreads: those of the block that have not exited
  uint32_t instr = 0;     // first to arrive, for reports
  uint32_t warp = 0, lane = 0;
  std::vector<Mask> waiting;             // a warp: lanes to be released
  std::vector<BarrierArrival> arrivals;  // of lanes that did not wait (bar.arrive)
  bool reduction_and = true, reduction_or = false;
  uint32_t reduction_count = 0;
  uint32_t result = 0;  // of the last reduction
};
inline constexpr uint32_t kAllThreads = ~uint32_t{0};
inline constexpr uint32_t kBarriers = 16;

struct Block {
  Launch* launch = nullptr;
  uint32_t index[3] = {0, 0, 0};
  uint64_t linear = 0;  // x + nx * (y + ny * z)
  uint32_t threads = 0;
  uint32_t living = 0;  // threads that have not exited
  std::vector<Warp> warps;
  std::vector<Barrier> barriers;
  std::unique_ptr<class SharedMemory> shared;  // memory/shared.h
  std::vector<std::byte> local;                // threads * code->local_bytes
  BlockClock clock;
  uint64_t random = 0;  // state of the block's own seeded generator
  void thread_index(uint32_t warp, uint32_t lane, uint32_t out[3]) const;
};

// The counts of one instruction over one launch.
struct InstrCount {
  uint64_t warps = 0;    // times it was issued
  uint64_t threads = 0;  // lanes that ran it
  uint64_t sectors = 0;  // 32-byte global sectors touched, and the least that the bytes asked for need
  uint64_t sectors_least = 0;
  uint64_t wavefronts = 0;  // shared memory: 128-byte passes over the 32 banks, and the least possible
  uint64_t wavefronts_least = 0;
};

struct Launch {
  const Code* code = nullptr;
  uint64_t id = 0;  // ascending: accesses of earlier launches are ordered before those of this one
  uint32_t grid[3] = {1, 1, 1}, threads[3] = {1, 1, 1};
  uint64_t dynamic_shared = 0;
  std::vector<std::byte> parameters;
  // Called by any host thread; merges equal findings, and stops the launch where it is fatal or there are too many.
  void report(Finding finding, const Warp& warp, int lane, std::string message, const Site* other = nullptr);
  bool stopped() const;  // every loop of the scheduler looks here
  Site site(const Warp& warp, int lane, uint32_t instr) const;
  // The counters of the host thread that runs this block; merged when the launch ends.
  InstrCount* counts();
  void progress();  // something happened that a spinning thread may have waited for
  void pass();      // threads of a block got past a barrier, which a spin may do for ever

  struct State;
  State* state = nullptr;  // exec/launch.cpp
};

// Runs the launch to its end over config().workers host threads; the findings are in state.
struct LaunchResult {
  std::vector<Report> reports;
  std::vector<InstrCount> counts;  // one an Instr
  uint64_t thread_instructions = 0;
  double seconds = 0.0;
};
LaunchResult run(Launch& launch);

// Device printf and other text of the program.
void device_print(const std::string& text);

}  // namespace emu
