// What the files of memory/ share: checks of one lane's access and the way to its bytes.
#pragma once

#include <cstring>

#include "emu/config.h"
#include "emu/memory/allocator.h"
#include "emu/memory/memory.h"
#include "emu/memory/shadow.h"
#include "emu/memory/shared.h"

namespace emu {

inline void copy_bytes(void* to, const void* from, uint32_t bytes) {
  switch (bytes) {
    case 1: std::memcpy(to, from, 1); break;
    case 2: std::memcpy(to, from, 2); break;
    case 4: std::memcpy(to, from, 4); break;
    case 8: std::memcpy(to, from, 8); break;
    case 16: std::memcpy(to, from, 16); break;
    default: std::memcpy(to, from, bytes);
  }
}

// Words and bytes of them that an aligned access covers.
struct Words {
  uint32_t first, count, bytes;
  Words(uint32_t offset, uint32_t size)
      : first(offset / 4), count((size + 3) / 4), bytes(size >= 4 ? 15u : ((1u << size) - 1) << (offset & 3)) {}
};

inline int scope_level(Scope s) { return s == Scope::kCta ? 1 : s == Scope::kGpu ? 2 : 3; }
inline bool is_acquire(Order o) { return o == Order::kAcquire || o == Order::kAcquireRelease; }
inline bool is_release(Order o) { return o == Order::kRelease || o == Order::kAcquireRelease; }

void report_misaligned(Warp& warp, int lane, ptx::Space space, const char* what, uint64_t address, uint32_t bytes,
                       uint32_t align);
void report_bounds(Warp& warp, int lane, ptx::Space space, const char* what, uint64_t address, uint32_t bytes);
// A load of bytes that nobody wrote; says nothing where the setting is to carry or to ignore it.
void report_unwritten(Warp& warp, int lane, ptx::Space space, const char* what, uint64_t address, uint32_t bytes);
void report_poison_store(Warp& warp, int lane, uint64_t address, uint32_t bytes);

// Runs f(lane, allocation, page, offset in page) for each lane whose access to global memory is aligned and within one
// allocation, with the page locked.
template <class F>
void for_each_global(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes, uint32_t align,
                     const char* what, const F& f) {
  PageLock lock;
  Allocation* a = nullptr;
  const uint64_t launch = warp.block->launch->id;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t at = address[lane];
    if (at & (align - 1)) {
      lock.release();
      report_misaligned(warp, lane, ptx::Space::kGlobal, what, at, bytes, align);
      continue;
    }
    if (!a || !a->holds(at, bytes)) {
      a = allocator().find(at);
      if (!a || !a->holds(at, bytes)) {
        lock.release();
        a = nullptr;
        report_bounds(warp, lane, ptx::Space::kGlobal, what, at, bytes);
        continue;
      }
    }
    Page* page = a->find_page(at);
    if (!page) {
      lock.release();
      page = a->page(at);
    }
    lock.hold(page, launch);
    f(lane, *a, *page, static_cast<uint32_t>(at % Page::kBytes));
  }
}

// The same for shared memory: f(lane, offset).
template <class F>
void for_each_shared(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes, uint32_t align,
                     const char* what, const F& f) {
  const uint64_t size = warp.block->shared->size();
  for (Mask m = active; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t at = address[lane];
    if (at & (align - 1)) {
      report_misaligned(warp, lane, ptx::Space::kShared, what, at, bytes, align);
    } else if (at > size || bytes > size - at) {
      report_bounds(warp, lane, ptx::Space::kShared, what, at, bytes);
    } else {
      f(lane, static_cast<uint32_t>(at));
    }
  }
}

// Race checks of one lane's access; what is found is reported. False: the bytes are in flight.
bool check_read(const Actor& now, int lane, Shadow& shadow, uint32_t offset, uint64_t address, uint32_t bytes,
                const char* what);
bool check_write(const Actor& now, int lane, Shadow& shadow, uint32_t offset, uint64_t address, uint32_t bytes,
                 const char* what);

void count_sectors(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes);
void count_wavefronts(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes);

}  // namespace emu
