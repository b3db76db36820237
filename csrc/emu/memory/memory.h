// Memory of the device as the program sees it, with every check. Addresses are those of the program:
//   global   device allocations (memory/allocator.h) and host ranges mapped in by control calls
//   shared   offsets from 0 within the block; generic: kSharedWindow + offset
//   local    offsets within the thread's frame; generic: kLocalWindow + offset
//   const    module constants lie in device allocations of their own, read only
//   param    offsets: of the kernel's parameters; generic: kParamWindow + offset. The .param space of calls is local.
// A lane's access that is refused is reported and skipped (a load gives zero); the launch stops where the finding is
// fatal.
#pragma once

#include <cstdint>

#include "emu/exec/program.h"

namespace emu {

inline constexpr uint64_t kSharedWindow = uint64_t{1} << 56;
inline constexpr uint64_t kLocalWindow = uint64_t{2} << 56;
inline constexpr uint64_t kParamWindow = uint64_t{3} << 56;
inline constexpr uint64_t kWindowSize = uint64_t{1} << 32;

// Order of a memory operation, as its modifiers say. Weak is the default of ld and st.
enum class Order : uint8_t { kWeak, kVolatile, kRelaxed, kAcquire, kRelease, kAcquireRelease };
enum class Scope : uint8_t { kNone, kCta, kGpu, kSys };

struct Access {
  ptx::Space space = ptx::Space::kNone;  // kNone: generic, resolved lane by lane
  uint32_t bytes = 0;                    // of one lane: 1, 2, 4, 8, 16 (32 for v8.b32)
  uint32_t align = 0;                    // what the address must be a multiple of (the whole vector)
  Order order = Order::kWeak;
  Scope scope = Scope::kNone;
  bool read_only = false;  // ld.global.nc, ld.const
};

// Reads `bytes` for every active lane into out + lane * stride; writes likewise. `address` is per lane. Checks bounds,
// alignment, initialization, races; counts sectors and wavefronts for Warp::at. load() returns the lanes whose data
// came (in whole or part) from memory nobody wrote.
Mask load(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], void* out, uint32_t stride);
// `poisoned`: lanes whose value is itself poison (carried), so that memory stays "unwritten" there.
void store(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], const void* in,
           uint32_t stride, Mask poisoned = 0);

// One read-modify-write a lane, atomic, lanes in seeded order: update(old, lane, context) gives the new value. old
// values go to out (may be null). bytes 2, 4, 8 or 16.
using Update = void (*)(const void* old_value, void* new_value, int lane, const void* context);
void atomic(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], Update update,
            const void* context, void* out, uint32_t stride);

// Global bytes that the program gives up: a write that leaves them unwritten.
void discard(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes);

// cp.async: global -> shared, `bytes` (4, 8, 16) of which the first `source_bytes` are copied and the rest zero. In
// flight from here to the wait that covers it: the destination may not be touched at all, the source not be written.
void async_copy(Warp& warp, Mask active, const uint64_t shared_address[kLanes], const uint64_t global_address[kLanes],
                uint32_t bytes, const uint32_t source_bytes[kLanes]);
void async_commit(Warp& warp, Mask active);
void async_wait(Warp& warp, Mask active, uint32_t groups_left);  // wait_all: commits and waits for all
void async_wait_all(Warp& warp, Mask active);

// ldmatrix and stmatrix: rows of 16 bytes at the addresses of `rows` lanes (8 a matrix), counted as one shared access.
// The reader of a row, for races, is the lane that gave its address.
Mask load_rows(Warp& warp, Mask address_lanes, const uint64_t address[kLanes], uint32_t row_bytes,
               void* out /*[32][16]*/);
void store_rows(Warp& warp, Mask address_lanes, const uint64_t address[kLanes], uint32_t row_bytes, const void* in);

}  // namespace emu
