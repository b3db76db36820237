// One launch in flight: its findings, its window of resident blocks, and the host threads that run them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "emu/exec/spin.h"
#include "emu/exec/warp.h"

namespace emu {

// The linear indices of the grid in the order in which they start: ascending, or a permutation drawn from the seed.
class StartOrder {
 public:
  StartOrder(uint64_t blocks, bool random, uint64_t seed);
  uint64_t operator[](uint64_t position) const;

 private:
  uint64_t blocks_;
  bool random_;
  uint64_t seed_;
  int half_bits_ = 1;
};

// A block of the window and the storage of its warps, which the next block reuses.
struct Resident {
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  Block block;
  std::unique_ptr<std::byte[], Free> registers;  // warps * units * 128 bytes
  std::vector<Mask> poison;                      // warps * units
  SpinWatch watch;
  uint64_t proved = 0;  // the suspicion under which all its warps came back to an earlier state
};

// What one host thread gathers.
struct Worker {
  std::vector<InstrCount> counts;     // one an Instr
  uint64_t progress = 0, passes = 0;  // see Launch::progress and Launch::pass
};

struct Launch::State {
  explicit State(Launch& launch);
  ~State();

  // Takes a block that may run, or null when there is none left for this worker.
  Resident* take();
  void give_back(Resident* resident);
  // The block has ended: the next one of the grid takes its place.
  void replace(Resident* resident);
  // Accounts for a turn of `steps` warp steps, with progress or without, and whether it passed a barrier. True: nobody
  // will ever make progress again.
  bool is_endless(Resident* resident, uint64_t steps, bool progress, bool passed);
  void add(Finding finding, const Site& site, std::string message, const Site* other);

  std::atomic<bool> stop{false};
  std::vector<uint8_t> uniform_member;  // an Instr: its member mask is the same in all lanes
  std::vector<Report> reports;
  int workers = 1;

 private:
  void start(Resident* resident, uint64_t linear);

  Launch& launch_;
  StartOrder order_;
  uint64_t blocks_ = 0, started_ = 0;
  uint64_t resident_ = 0;  // blocks of the window that have not ended
  std::mutex queue_;
  std::vector<std::unique_ptr<Resident>> residents_;
  std::vector<Resident*> ready_;  // a ring
  size_t head_ = 0, waiting_ = 0;
  std::atomic<uint64_t> idle_{0};       // warp steps of all workers since the last progress
  std::atomic<uint64_t> passed_at_{0};  // idle_ when a barrier was passed last
  std::mutex suspicions_;
  uint64_t suspicion_ = 1;  // grows when one has come to nothing
  uint64_t proved_ = 0;     // blocks of the window that keep coming back to the same state
  std::mutex findings_;
  std::map<std::tuple<Finding, int, int>, size_t> places_;
};

// ---- exec/warp.cpp
// Fills the registers of a warp whose block, code, index, lanes and storage are set, and sends all lanes to the start.
void start_warp(Warp& warp);
// Advances the warp by about `budget` steps, fewer where it parks; gives the steps made.
uint32_t advance(Warp& warp, uint32_t budget, InstrCount* counts, const uint8_t* uniform_member);
// Lets parked lanes go that nobody is missing from any more. To be called when lanes have exited.
void release_waiting(Warp& warp);
// The lanes that instruction `i`, at which `lane` waits, wants together (exited ones included).
Mask members_of(const Warp& warp, const Instr& i, int lane);

// ---- exec/barrier.cpp
bool is_warp_barrier(const Instr& i);  // bar.warp.sync: lanes may meet there from different places
bool is_aligned(const Instr& i);       // of kBlockSync: all living lanes of the warp come together
void on_exit(Warp& warp, Mask lanes);  // barriers that waited for no other threads complete

// ---- exec/deadlock.cpp
// Says why no thread of the block (of `only`, where given) can advance.
void report_stuck(Block& block, const Warp* only);

uint64_t next_random(uint64_t* state);  // splitmix64

}  // namespace emu
