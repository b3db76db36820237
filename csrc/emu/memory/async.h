// Unfinished cp.async of one warp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu/exec/program.h"

namespace emu {

struct Page;

// One cp.async instruction of a warp. The bytes are read at issue and land at the wait; until then the destination
// holds a pattern and is in flight.
struct AsyncCopy {
  Mask lanes = 0;  // not yet landed
  uint32_t bytes = 0;
  uint32_t instr = 0;
  uint32_t group[kLanes];  // by which it is waited for
  uint32_t shared[kLanes];
  uint64_t global[kLanes];
  Page* page[kLanes];       // of the source; null: nothing is read
  uint32_t serial[kLanes];  // Shadow::serial of the page at issue
  uint8_t source_bytes[kLanes];
  alignas(16) std::byte data[kLanes][16];
};

struct AsyncQueue {
  uint32_t committed[kLanes] = {};  // groups a thread closed; what it issues now belongs to the next
  std::vector<AsyncCopy> copies;    // in order of issue
  void clear() {
    copies.clear();
    for (uint32_t& c : committed) c = 0;
  }
};

}  // namespace emu
