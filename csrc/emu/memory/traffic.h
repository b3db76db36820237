// What a warp instruction costs the memory system, and the least that its bytes could cost.
#pragma once

#include <cstdint>

#include "emu/memory/memory.h"

namespace emu {

struct Traffic {
  uint32_t actual = 0, least = 0;
};

// Global memory moves sectors of 32 bytes. Actual: distinct sectors that the instruction touches. Least: distinct bytes
// asked for / 32, rounded up: what the same bytes would need packed. A lane asks for `bytes` at its address.
Traffic global_sectors(Mask active, const uint64_t address[kLanes], uint32_t bytes);

// Shared memory serves one 4-byte word of each of its 32 banks in one wavefront; all lanes that want the same word get
// it. An instruction of up to 4 bytes a lane is one phase; of 8 bytes two phases of 16 lanes; of 16 bytes (and the 8
// rows of each matrix of ldmatrix) four of 8 lanes; 32 bytes a lane count as two of 16. A phase takes as many
// wavefronts as the most distinct words it wants of one bank; consecutive phases that together want one word of each
// bank at most share one wavefront (so a vector that all lanes read is one). Least: distinct bytes / 128, rounded up: a
// kernel that reaches it has no bank conflict, fetches no word twice, and leaves no bank idle but in its last
// wavefront.
Traffic shared_wavefronts(Mask active, const uint64_t address[kLanes], uint32_t bytes);

}  // namespace emu
