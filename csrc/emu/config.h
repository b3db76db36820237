// Settings of a process, read once from the environment (LOWBIT_EMU_*, table in HACKING.md) and changeable through the
// control interface (rt/control.h) between launches.
#pragma once

#include <cstdint>
#include <string>

namespace emu {

enum class MmaModel : uint8_t { kExact, kHardwareLike };
enum class Uninitialized : uint8_t { kIgnore, kReportAtLoad, kReportAtUse };
enum class BlockOrder : uint8_t { kRandom, kAscending };

struct Config {
  std::string arch = "80";  // LOWBIT_EMU_ARCH: "80", "86", "89", "90", "90a", "120", "120f", "121"
  int sm_count = 4;         // LOWBIT_EMU_SMS: with occupancy, the window of resident blocks
  int multiprocessors = 0;  // LOWBIT_EMU_MULTIPROCESSORS: what the device says to have, 0: its board's
  int workers = 2;          // LOWBIT_EMU_THREADS: host threads that run blocks
  uint64_t seed = 0;        // LOWBIT_EMU_SEED: start order, warp order, order of float atomics, approximate functions
  BlockOrder order = BlockOrder::kRandom;
  MmaModel mma = MmaModel::kExact;
  bool races = true;
  Uninitialized uninitialized = Uninitialized::kReportAtLoad;
  uint64_t spin_limit = 4'000'000;  // warp steps of a launch without progress before kEndlessSpin
  int slice = 64;                   // warp steps before the next runnable warp has its turn
  int fatal_reports = 16;           // a launch stops after so many different findings
};
Config& config();

// 80 for "80", 120 for "120f".
int arch_number(const std::string& arch);

}  // namespace emu
