// What the emulator finds wrong with a program, said once for each place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emu {

enum class Finding : uint8_t {
  kOutOfBounds,       // an access outside every allocation, or beyond the shared memory of the block
  kMisaligned,        // an address that is no multiple of the access size
  kUninitialized,     // a load of memory that nobody wrote (our kernels), or a use of what such a load gave (carried)
  kRace,              // two accesses of different threads, one a write, not ordered by happens-before
  kAsyncInFlight,     // memory of an unfinished cp.async read, or its source or destination written
  kDivergentBarrier,  // a barrier that some threads can never reach
  kDeadlock,          // no thread can advance
  kEndlessSpin,       // threads that advance without any progress
  kTrap,              // trap, failed device assert
  kUnsupported,       // the program reached what the emulator does not model
  kHostAccess,        // the host dereferenced device memory
  kBadArgument,       // an operand outside what PTX allows (shfl from a lane outside the mask, ...)
};
const char* name_of(Finding f);

// Where a finding happened: one thread at one PTX line.
struct Site {
  std::string kernel;
  uint32_t block[3] = {0, 0, 0};
  uint32_t thread[3] = {0, 0, 0};
  int line = 0;
  std::string text;  // the statement
};

struct Report {
  Finding finding = Finding::kTrap;
  Site site;
  bool has_other = false;
  Site other;                    // the second party of a race or of a divergent barrier
  std::string message;           // one sentence, with address, space and size
  uint64_t count = 1;            // how often this (finding, line, other line) came up
  std::string sentence() const;  // everything above as one line
};

}  // namespace emu
