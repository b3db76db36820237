// The devices that the emulator can be: one row an architecture, a board that is common for it. What a program sees of
// the device (properties, attributes, limits, occupancy) and the clock and bandwidth of a prediction come from here.
#pragma once

#include <cstdint>
#include <string>

#include "emu/exec/program.h"

namespace emu {

struct Device {
  int arch;           // 80
  const char* board;  // whose figures these are
  int sms;
  int clock_mhz;   // boost
  int memory_mhz;  // of the memory clock; two transfers a clock
  int bus_bits;
  double memory_gbs;  // peak of the global memory, 1e9 bytes a second
  int l2_kb;
  int64_t memory_mb;
  int shared_per_sm;  // bytes
  int shared_opt_in;  // most of one block
  int threads_per_sm;
  int blocks_per_sm;
};
inline constexpr int kSharedPerBlock = 49152;  // without opt-in
inline constexpr int kSharedReserved = 1024;   // of each block, for the system (8.0 and later)
inline constexpr int kRegistersPerSm = 65536;  // and per block
inline constexpr int kThreadsPerBlock = 1024;

// The row of config().arch ("120f" is that of 120).
const Device& device();
const Device* find_device(int arch);
// What programs are told that it has: those of its board, where config().multiprocessors says nothing else.
int multiprocessors(const Device& d);

// Blocks of that size that one SM holds at the same time; 0: not even one fits.
int resident_blocks(const Device& d, uint32_t threads, uint64_t shared_bytes, uint32_t registers);
// The same for a kernel: its registers (as ptxas counted them where the fat binary has machine code for the
// architecture) and its static shared memory.
int resident_blocks(const Device& d, const Code& code, uint32_t threads, uint64_t dynamic_shared);

}  // namespace emu
