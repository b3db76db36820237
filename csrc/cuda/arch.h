// The architectures that were built, and the one whose machine code a device runs. Launchers ask here before they
// launch anything: a device that none of the code was built for is refused by a sentence, and the driver never compiles
// embedded PTX for one that was not meant.
#pragma once

#include <cstdint>

#include "common/status.h"

namespace lowbit::cuda {

// sm_<sm><suffix>: suffix 0 runs on this and higher minor versions of its major one, 'f' within its family (a major
// version, from its minor one on), 'a' on exactly this one.
struct Arch {
  int sm = 0;  // 10 * major + minor
  char suffix = 0;
};

struct BuiltArchs {
  const Arch* rows;
  int count;
};
BuiltArchs built_archs();  // as LOWBIT_CUDA_ARCHS lists them

// The row of `built` that a device of compute capability `sm` runs: the highest that fits, 'a' before 'f' before plain;
// nullptr: none.
const Arch* select_arch(BuiltArchs built, int sm);

// Refuses, in the name of `op`, a device that no built architecture fits; else gives the code that it runs.
Status require_arch(const char* op, int sm, Arch* code);

struct Device {
  int index = 0;
  int sm = 0;  // compute capability, 10 * major + minor
  Arch code;   // what it runs; engines are chosen by code.sm
  int multiprocessors = 0;
  int64_t shared_per_block = 0;  // with opt-in
  int64_t shared_per_multiprocessor = 0;
};

// The current device, by require_arch.
Status current_device(const char* op, Device* device);

}  // namespace lowbit::cuda
