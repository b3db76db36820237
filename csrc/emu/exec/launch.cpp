#include "emu/exec/launch.h"

#include <xmmintrin.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "emu/config.h"
#include "emu/memory/shared.h"
#include "emu/rt/device.h"

namespace emu {
namespace {

// Rounds over the warps of a block before its host thread turns to another block of the window: many while the block
// gets on, since its registers and shared memory are in the cache; few while it may be spinning.
constexpr int kRounds = 64;
constexpr int kIdleRounds = 2;

thread_local Worker* current_worker = nullptr;

bool is_fatal(Finding f) {
  return f == Finding::kDeadlock || f == Finding::kEndlessSpin || f == Finding::kTrap || f == Finding::kUnsupported ||
         f == Finding::kHostAccess;
}

uint64_t blocks_of(const Launch& l) { return uint64_t{l.grid[0]} * l.grid[1] * l.grid[2]; }

}  // namespace

uint64_t next_random(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

StartOrder::StartOrder(uint64_t blocks, bool random, uint64_t seed) : blocks_(blocks), random_(random), seed_(seed) {
  while ((uint64_t{1} << (2 * half_bits_)) < blocks) ++half_bits_;
}

// A Feistel network over the next power of four, walked until it meets an index of the grid: no table, any grid size.
uint64_t StartOrder::operator[](uint64_t position) const {
  if (!random_) return position;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t x = position;
  do {
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t key = seed_ + round * 0x2545f4914f6cdd1du + right;
      const uint64_t next = left ^ (next_random(&key) & mask);
      left = right;
      right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= blocks_);
  return x;
}

Launch::State::State(Launch& launch)
    : launch_(launch),
      order_(blocks_of(launch), config().order == BlockOrder::kRandom, config().seed ^ launch.id << 32) {
  const Code& code = *launch.code;
  blocks_ = blocks_of(launch);
  const uint32_t threads = launch.threads[0] * launch.threads[1] * launch.threads[2];
  const uint64_t on_one =
      static_cast<uint64_t>(std::max(1, resident_blocks(device(), code, threads, launch.dynamic_shared)));
  const uint64_t window = std::min(blocks_, on_one * static_cast<uint64_t>(config().sm_count));
  workers = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(config().workers), window));

  std::vector<uint8_t> constant(code.units, 0);
  for (const Filled& f : code.filled) constant[f.unit] = f.fill == Fill::kConstant;
  uniform_member.reserve(code.instrs.size());
  for (const Instr& i : code.instrs) uniform_member.push_back(i.member_mask == kNoUnit || constant[i.member_mask]);

  const uint32_t warps = (threads + kLanes - 1) / kLanes;
  const size_t warp_bytes = size_t{code.units} * 128;
  const uint64_t shared = std::max(code.shared_bytes, code.dynamic_offset + launch.dynamic_shared);
  for (uint64_t n = 0; n < window; ++n) {
    residents_.push_back(std::make_unique<Resident>());
    Resident& r = *residents_.back();
    r.registers.reset(static_cast<std::byte*>(std::aligned_alloc(128, std::max<size_t>(128, warps * warp_bytes))));
    if (!r.registers) throw std::bad_alloc();
    if (config().uninitialized == Uninitialized::kReportAtUse) r.poison.resize(size_t{warps} * code.units);
    Block& b = r.block;
    b.launch = &launch;
    b.threads = threads;
    b.shared = std::make_unique<SharedMemory>(shared);
    b.local.resize(threads * code.local_bytes);
    b.barriers.resize(kBarriers);
    for (Barrier& barrier : b.barriers) barrier.waiting.resize(warps);
    b.warps.resize(warps);
    for (uint32_t k = 0; k < warps; ++k) {
      Warp& w = b.warps[k];
      const uint32_t left = threads - k * kLanes;
      w.block = &b;
      w.code = &code;
      w.index = k;
      w.lanes = left >= kLanes ? ~Mask{0} : (Mask{1} << left) - 1;
      w.registers = r.registers.get() + k * warp_bytes;
      w.poison = r.poison.empty() ? nullptr : r.poison.data() + size_t{k} * code.units;
    }
    ready_.push_back(&r);
    start(&r, order_[started_++]);
  }
  waiting_ = resident_ = ready_.size();
}

Launch::State::~State() = default;

void Launch::State::start(Resident* r, uint64_t linear) {
  Block& b = r->block;
  b.linear = linear;
  b.index[0] = static_cast<uint32_t>(linear % launch_.grid[0]);
  b.index[1] = static_cast<uint32_t>(linear / launch_.grid[0] % launch_.grid[1]);
  b.index[2] = static_cast<uint32_t>(linear / launch_.grid[0] / launch_.grid[1]);
  b.living = b.threads;
  b.random = config().seed * 0x9e3779b97f4a7c15u + linear;
  for (Barrier& barrier : b.barriers) {
    barrier.arrived = barrier.expected = 0;
    barrier.arrivals.clear();
    std::fill(barrier.waiting.begin(), barrier.waiting.end(), Mask{0});
  }
  b.shared->reset();
  for (Warp& w : b.warps) start_warp(w);
  on_block_start(b);
}

Resident* Launch::State::take() {
  const std::lock_guard<std::mutex> lock(queue_);
  if (waiting_ == 0) return nullptr;
  Resident* r = ready_[head_];
  head_ = (head_ + 1) % ready_.size();
  --waiting_;
  return r;
}

void Launch::State::give_back(Resident* r) {
  const std::lock_guard<std::mutex> lock(queue_);
  ready_[(head_ + waiting_) % ready_.size()] = r;
  ++waiting_;
}

void Launch::State::replace(Resident* r) {
  uint64_t position;
  {
    const std::lock_guard<std::mutex> lock(queue_);
    if (started_ == blocks_) {
      --resident_;
      return;
    }
    position = started_++;
  }
  start(r, order_[position]);
  give_back(r);
}

bool Launch::State::is_endless(Resident* r, uint64_t steps, bool progress, bool passed) {
  const uint64_t limit = config().spin_limit;
  if (progress) {
    passed_at_.store(0, std::memory_order_relaxed);
    if (idle_.exchange(0, std::memory_order_relaxed) <= limit) return false;
    const std::lock_guard<std::mutex> lock(suspicions_);
    ++suspicion_;
    proved_ = 0;
    return false;
  }
  const uint64_t idle = idle_.fetch_add(steps, std::memory_order_relaxed) + steps;
  if (passed) passed_at_.store(idle, std::memory_order_relaxed);
  if (idle <= limit) return false;
  const uint64_t passed_at = passed_at_.load(std::memory_order_relaxed);
  if (idle > passed_at && (idle - passed_at) / kCertainSpin > limit) return true;
  const std::lock_guard<std::mutex> lock(suspicions_);
  if (r->proved != suspicion_ && r->watch.repeats(r->block, suspicion_)) {
    r->proved = suspicion_;
    ++proved_;
  }
  const std::lock_guard<std::mutex> queue(queue_);
  return proved_ == resident_ && idle_.load(std::memory_order_relaxed) > limit;
}

void Launch::State::add(Finding finding, const Site& site, std::string message, const Site* other) {
  const std::lock_guard<std::mutex> lock(findings_);
  const auto place = std::make_tuple(finding, site.line, other != nullptr ? other->line : 0);
  const auto known = places_.find(place);
  if (known != places_.end()) {
    ++reports[known->second].count;
  } else {
    places_.emplace(place, reports.size());
    Report r;
    r.finding = finding;
    r.site = site;
    if (other != nullptr) {
      r.has_other = true;
      r.other = *other;
    }
    r.message = std::move(message);
    reports.push_back(std::move(r));
  }
  if (is_fatal(finding) || reports.size() >= static_cast<size_t>(config().fatal_reports)) stop = true;
}

void Block::thread_index(uint32_t warp, uint32_t lane, uint32_t out[3]) const {
  const uint32_t* n = launch->threads;
  const uint32_t thread = warp * kLanes + lane;
  out[0] = thread % n[0];
  out[1] = thread / n[0] % n[1];
  out[2] = thread / n[0] / n[1];
}

Site Launch::site(const Warp& w, int lane, uint32_t instr) const {
  Site s;
  s.kernel = code->name;
  std::copy(w.block->index, w.block->index + 3, s.block);
  w.block->thread_index(w.index, static_cast<uint32_t>(lane), s.thread);
  if (instr < code->instrs.size()) {
    const ptx::Statement& st = *code->statements[code->instrs[instr].statement];
    s.line = st.line;
    s.text = st.text;
  }
  return s;
}

void Launch::report(Finding finding, const Warp& warp, int lane, std::string message, const Site* other) {
  state->add(finding, site(warp, lane, warp.at), std::move(message), other);
}

bool Launch::stopped() const { return state->stop.load(std::memory_order_relaxed); }

InstrCount* Launch::counts() { return current_worker->counts.data(); }

void Launch::progress() { ++current_worker->progress; }

void Launch::pass() { ++current_worker->passes; }

namespace {

// One turn of every warp of the block, in seeded order. Gives the steps made.
uint64_t run_round(Launch& launch, Block& b, Worker& worker) {
  const uint32_t n = static_cast<uint32_t>(b.warps.size());
  const uint64_t random = next_random(&b.random);
  const uint32_t first = static_cast<uint32_t>(random % n);
  const bool descending = random >> 63 != 0;
  const uint32_t slice = static_cast<uint32_t>(config().slice);
  uint64_t steps = 0;
  for (uint32_t k = 0; k < n && !launch.stopped(); ++k) {
    const uint32_t turn = first + k < n ? first + k : first + k - n;
    Warp& w = b.warps[descending ? n - 1 - turn : turn];
    if (w.runnable() != 0) {
      // Uneven turns, or two warps of equal code would always meet at the same instructions.
      const uint32_t budget = slice / 2 + static_cast<uint32_t>((random >> (k & 31)) % slice) + 1;
      steps += advance(w, budget, worker.counts.data(), launch.state->uniform_member.data());
    } else if (w.waiting != 0 && w.barred == 0) {
      report_stuck(b, &w);
      launch.state->stop = true;
    }
  }
  return steps;
}

void report_spin(Launch& launch, Block& b) {
  for (Warp& w : b.warps) {
    if (w.runnable() == 0) continue;
    const int lane = __builtin_ctz(w.runnable());
    w.at = w.pc[lane];
    launch.report(Finding::kEndlessSpin, w, lane,
                  "no thread of the launch has changed memory or exited for " + std::to_string(config().spin_limit) +
                      " warp steps, nor ever will; this thread is one of them");
    return;
  }
}

enum class Turn : uint8_t { kOver, kEnded };

Turn run_turn(Launch& launch, Resident& resident, Worker& worker) {
  Launch::State& state = *launch.state;
  Block& b = resident.block;
  const uint64_t progress = worker.progress, passes = worker.passes;
  uint64_t steps = 0, seen = progress + passes;
  int idle_rounds = 0;
  for (int round = 0; round < kRounds && idle_rounds < kIdleRounds && !launch.stopped(); ++round) {
    const uint64_t made = run_round(launch, b, worker);
    steps += made;
    if (b.living == 0) break;
    if (made == 0 && !launch.stopped()) {
      report_stuck(b, nullptr);
      state.stop = true;
      return Turn::kOver;
    }
    idle_rounds = worker.progress + worker.passes != seen ? 0 : idle_rounds + 1;
    seen = worker.progress + worker.passes;
  }
  const bool endless = state.is_endless(&resident, steps, worker.progress != progress, worker.passes != passes);
  if (endless && !launch.stopped()) report_spin(launch, b);
  return b.living == 0 ? Turn::kEnded : Turn::kOver;
}

// Kernels compute in the default floating-point environment, whatever the host program made of its own: threads inherit
// rounding and the flushing of subnormals, which a library built with -ffast-math turns on when it is loaded.
class DefaultFloats {
 public:
  DefaultFloats() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~DefaultFloats() { _mm_setcsr(before_); }
  DefaultFloats(const DefaultFloats&) = delete;
  DefaultFloats& operator=(const DefaultFloats&) = delete;

 private:
  const unsigned before_;
};

void work(Launch& launch, Worker& worker) {
  const DefaultFloats floats;
  current_worker = &worker;
  Launch::State& state = *launch.state;
  while (!launch.stopped()) {
    Resident* r = state.take();
    if (r == nullptr) break;
    try {
      if (run_turn(launch, *r, worker) == Turn::kEnded)
        state.replace(r);
      else
        state.give_back(r);
    } catch (const std::exception& e) {
      Site site;
      site.kernel = launch.code->name;
      std::copy(r->block.index, r->block.index + 3, site.block);
      state.add(Finding::kUnsupported, site, e.what(), nullptr);
    }
  }
  current_worker = nullptr;
}

}  // namespace

namespace {

void run_workers(Launch& launch, std::vector<Worker>& workers) {
  workers.resize(static_cast<size_t>(launch.state->workers));
  for (Worker& w : workers) w.counts.resize(launch.code->instrs.size());
  std::vector<std::thread> threads;
  try {
    for (size_t k = 1; k < workers.size(); ++k) threads.emplace_back([&, k] { work(launch, workers[k]); });
  } catch (const std::system_error&) {
    // The host grants no more threads: those that there are do the work.
  }
  work(launch, workers[0]);
  for (std::thread& t : threads) t.join();
}

void merge(const Worker& worker, std::vector<InstrCount>& counts) {
  for (size_t k = 0; k < counts.size(); ++k) {
    const InstrCount& from = worker.counts[k];
    InstrCount& to = counts[k];
    to.warps += from.warps;
    to.threads += from.threads;
    to.sectors += from.sectors;
    to.sectors_least += from.sectors_least;
    to.wavefronts += from.wavefronts;
    to.wavefronts_least += from.wavefronts_least;
  }
}

}  // namespace

LaunchResult run(Launch& launch) {
  LaunchResult result;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Worker> workers;
  try {
    Launch::State state(launch);
    launch.state = &state;
    run_workers(launch, workers);
    on_launch_end();
    result.reports = std::move(state.reports);
  } catch (const std::bad_alloc&) {
    Report r;
    r.finding = Finding::kUnsupported;
    r.site.kernel = launch.code->name;
    r.message =
        "the registers, shared and local memory of the resident blocks must fit the host's memory; lower "
        "LOWBIT_EMU_SMS";
    result.reports.push_back(std::move(r));
  }
  launch.state = nullptr;
  result.counts.resize(launch.code->instrs.size());
  for (const Worker& w : workers) merge(w, result.counts);
  for (const InstrCount& c : result.counts) result.thread_instructions += c.threads;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace emu
