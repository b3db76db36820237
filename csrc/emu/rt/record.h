// What launches leave behind for the control interface: findings and counts.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "emu/exec/warp.h"
#include "emu/report.h"
#include "emu/rt/launch.h"

namespace emu {

struct LaunchRecord {
  std::string kernel, arch;
  abi::Dim3 grid, block;
  uint64_t static_shared = 0, dynamic_shared = 0;
  uint32_t registers = 0;
  int resident_blocks = 0;
  double seconds = 0.0;
  uint64_t thread_instructions = 0;
  struct OfClass {
    uint64_t warps = 0, threads = 0, sectors = 0, sectors_least = 0, wavefronts = 0, wavefronts_least = 0;
  };
  OfClass classes[static_cast<int>(Class::kCount)];
  std::map<std::string, uint64_t> tensor;  // "m16n8k32.s8.s8.s32": warps
  struct Row {
    int line;
    std::string text;
    InstrCount count;
  };
  std::vector<Row> instructions;
};
const char* name_of(Class c);

struct Records {
  std::vector<Report> reports;
  std::vector<LaunchRecord> launches;
  bool list_instructions = false;
  uint64_t waits = 0;
};
Records& records();

void add_report(const Report& report);  // also to stderr: a finding is never silent
void add_launch(const Kernel& kernel, const LaunchShape& shape, const LaunchResult& result);

// A call of the host that returns when the device is done with what stands before it.
void add_wait();

std::string reports_json();
std::string counts_json();

}  // namespace emu
