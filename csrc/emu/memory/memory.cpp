#include "emu/memory/memory.h"

#include <cstdio>
#include <string>

#include "emu/memory/access.h"
#include "emu/memory/traffic.h"

namespace emu {
namespace {

using ptx::Space;

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string describe_any(Warp& warp, Space space, uint64_t address) {
  switch (space) {
    case Space::kLocal:
      return "local address " + hex(address) + " (of " + std::to_string(warp.code->local_bytes) + " bytes a thread)";
    case Space::kParam:
      return "parameter address " + hex(address) + " (of " + std::to_string(warp.block->launch->parameters.size()) +
             " bytes)";
    default: return describe(space, address, *warp.block);
  }
}

Space space_of(uint64_t address) {
  switch (address >> 56) {
    case kSharedWindow >> 56: return Space::kShared;
    case kLocalWindow >> 56: return Space::kLocal;
    case kParamWindow >> 56: return Space::kParam;
    default: return Space::kGlobal;
  }
}

// The lanes of a generic access by the space they point to, with addresses of that space.
template <class F>
void for_each_space(const Access& access, Mask active, const uint64_t address[kLanes], const F& f) {
  if (access.space != Space::kNone) {
    f(access.space == Space::kConst ? Space::kGlobal : access.space, active, address);
    return;
  }
  Mask of_space[4] = {};
  for (Mask m = active; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t window = address[lane] >> 56;
    of_space[window <= 3 ? window : 0] |= Mask{1} << lane;
  }
  if (of_space[0]) f(Space::kGlobal, of_space[0], address);
  for (int window = 1; window < 4; window++) {
    if (!of_space[window]) continue;
    uint64_t offsets[kLanes] = {};
    for (Mask m = of_space[window]; m != 0; m &= m - 1) {
      const int lane = __builtin_ctz(m);
      offsets[lane] = address[lane] & (kSharedWindow - 1);
    }
    f(space_of(uint64_t(window) << 56), of_space[window], offsets);
  }
}

// The bytes of a thread's own frame or of the parameters; null and reported when the access is bad.
std::byte* own_bytes(Warp& warp, int lane, Space space, const char* what, uint64_t address, const Access& access) {
  Block& block = *warp.block;
  const uint64_t size = space == Space::kLocal ? warp.code->local_bytes : block.launch->parameters.size();
  if (address & (access.align - 1)) {
    report_misaligned(warp, lane, space, what, address, access.bytes, access.align);
    return nullptr;
  }
  if (address > size || access.bytes > size - address) {
    report_bounds(warp, lane, space, what, address, access.bytes);
    return nullptr;
  }
  if (space == Space::kParam) return block.launch->parameters.data() + address;
  return block.local.data() + (uint64_t{warp.index} * kLanes + static_cast<unsigned>(lane)) * size + address;
}

// A strong load learns what the store behind its value has released.
inline void observe(const Actor& now, int lane, const Shadow& shadow, uint32_t at, const Access& access) {
  if (now.strength == Strength::kWeak) return;
  if (const Publication* published = shadow.find_published(at / 4)) {
    on_strong_read(now.warp, lane, *published, scope_level(access.scope), is_acquire(access.order));
  }
}

// The bytes of a store and what is remembered of them. True: they were others before.
inline bool put(const Actor& now, int lane, std::byte* to, Shadow& shadow, uint32_t at, const Access& access,
                Mask poisoned) {
  const std::byte* value = now.values + size_t{now.stride} * static_cast<unsigned>(lane);
  const bool changed = std::memcmp(to, value, now.bytes) != 0;
  copy_bytes(to, value, now.bytes);
  shadow.set_written(at, now.bytes, !(poisoned >> lane & 1));
  if (now.strength != Strength::kWeak) {
    on_strong_write(now.warp, lane, shadow.published(at / 4), scope_level(access.scope), is_release(access.order),
                    false);
  } else {
    shadow.forget_published(at / 4, (now.bytes + 3) / 4);
  }
  return changed;
}

using Touching = bool (Shadow::*)(const Actor&, int, uint32_t, uint32_t, uint32_t, Touch*, uint32_t*);

bool check(Touching touch, const Actor& now, int lane, Shadow& shadow, uint32_t offset, uint64_t address,
           uint32_t bytes, const char* what) {
  const Words words(offset, bytes);
  if (!now.races) {
    for (uint32_t k = 0; k < words.count; k++) {
      if (!shadow.is_in_flight(words.first + k)) continue;
      report_conflict(now, lane, shadow.in_flight_by(words.first + k), true, what, address, bytes);
      return false;
    }
    return true;
  }
  Touch other;
  uint32_t word = 0;
  if (!(shadow.*touch)(now, lane, words.first, words.count, words.bytes, &other, &word)) return true;
  const bool in_flight = shadow.is_in_flight(word);
  report_conflict(now, lane, other, in_flight, what, address, bytes);
  return !in_flight;
}

Mask load_global(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], std::byte* out,
                 uint32_t stride) {
  Mask unwritten = 0;
  const Actor now(warp, strength_of(access.order, access.scope), Space::kGlobal);
  const bool races = now.races;
  const uint32_t bytes = access.bytes;
  const bool quick = bytes >= 4 && now.strength == Strength::kWeak;
  for_each_global(warp, active, address, bytes, access.align, "load",
                  [&](int lane, Allocation& a, Page& page, uint32_t at) {
                    copy_bytes(out + size_t{stride} * static_cast<unsigned>(lane), a.at(address[lane]), bytes);
                    if (!page.shadow.is_written(at, bytes)) unwritten |= Mask{1} << lane;
                    observe(now, lane, page.shadow, at, access);
                    if (!races || a.read_only) return;
                    if (quick && page.shadow.quick_read(page.shadow.reading(now), now, lane, at / 4, bytes / 4)) return;
                    check_read(now, lane, page.shadow, at, address[lane], bytes, "load");
                  });
  for (Mask m = unwritten; m != 0; m &= m - 1) {
    report_unwritten(warp, __builtin_ctz(m), Space::kGlobal, "load", address[__builtin_ctz(m)], bytes);
  }
  count_sectors(warp, active, address, bytes);
  return unwritten;
}

Mask load_shared(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], std::byte* out,
                 uint32_t stride) {
  Mask unwritten = 0;
  const Actor now(warp, strength_of(access.order, access.scope), Space::kShared);
  SharedMemory& shared = *warp.block->shared;
  Shadow& shadow = shared.shadow();
  const uint32_t bytes = access.bytes;
  const bool quick = now.races && bytes >= 4 && now.strength == Strength::kWeak;
  const Shadow::Reading reading = shadow.reading(now);
  for_each_shared(warp, active, address, bytes, access.align, "load", [&](int lane, uint32_t at) {
    copy_bytes(out + size_t{stride} * static_cast<unsigned>(lane), shared.data() + at, bytes);
    observe(now, lane, shadow, at, access);
    if (((quick && shadow.quick_read(reading, now, lane, at / 4, bytes / 4)) ||
         check_read(now, lane, shadow, at, at, bytes, "load")) &&
        !shadow.is_written(at, bytes)) {
      unwritten |= Mask{1} << lane;
      report_unwritten(warp, lane, Space::kShared, "load", at, bytes);
    }
  });
  count_wavefronts(warp, active, address, bytes);
  return unwritten;
}

void store_global(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], const std::byte* in,
                  uint32_t stride, Mask poisoned) {
  const Actor now(warp, strength_of(access.order, access.scope), Space::kGlobal, active, address, access.bytes, in,
                  stride);
  const bool races = config().races;
  const uint32_t bytes = access.bytes;
  bool changed = false;
  for_each_global(warp, active, address, bytes, access.align, "store",
                  [&](int lane, Allocation& a, Page& page, uint32_t at) {
                    if (a.read_only) {
                      report_bounds(warp, lane, Space::kGlobal, "store to constant memory", address[lane], bytes);
                      return;
                    }
                    if (races) check_write(now, lane, page.shadow, at, address[lane], bytes, "store");
                    changed |= put(now, lane, a.at(address[lane]), page.shadow, at, access, poisoned);
                  });
  if (changed) warp.block->launch->progress();
  for (Mask m = poisoned & active; m != 0; m &= m - 1) {
    report_poison_store(warp, __builtin_ctz(m), address[__builtin_ctz(m)], bytes);
  }
  count_sectors(warp, active, address, bytes);
}

void store_shared(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], const std::byte* in,
                  uint32_t stride, Mask poisoned) {
  const Actor now(warp, strength_of(access.order, access.scope), Space::kShared, active, address, access.bytes, in,
                  stride);
  SharedMemory& shared = *warp.block->shared;
  Shadow& shadow = shared.shadow();
  const uint32_t bytes = access.bytes;
  bool changed = false;
  for_each_shared(warp, active, address, bytes, access.align, "store", [&](int lane, uint32_t at) {
    if (!check_write(now, lane, shadow, at, at, bytes, "store")) return;
    changed |= put(now, lane, shared.data() + at, shadow, at, access, poisoned);
  });
  if (changed) warp.block->launch->progress();
  count_wavefronts(warp, active, address, bytes);
}

}  // namespace

void report_misaligned(Warp& warp, int lane, Space space, const char* what, uint64_t address, uint32_t bytes,
                       uint32_t align) {
  warp.block->launch->report(Finding::kMisaligned, warp, lane,
                             std::string(what) + " of " + std::to_string(bytes) + " bytes must be at a multiple of " +
                                 std::to_string(align) + ", got " + describe_any(warp, space, address));
}

void report_bounds(Warp& warp, int lane, Space space, const char* what, uint64_t address, uint32_t bytes) {
  warp.block->launch->report(
      Finding::kOutOfBounds, warp, lane,
      std::string(what) + " of " + std::to_string(bytes) + " bytes at " + describe_any(warp, space, address));
}

void report_unwritten(Warp& warp, int lane, Space space, const char* what, uint64_t address, uint32_t bytes) {
  if (config().uninitialized != Uninitialized::kReportAtLoad) return;
  warp.block->launch->report(Finding::kUninitialized, warp, lane,
                             std::string(what) + " of " + std::to_string(bytes) + " bytes that nobody wrote, at " +
                                 describe_any(warp, space, address));
}

void report_poison_store(Warp& warp, int lane, uint64_t address, uint32_t bytes) {
  if (config().uninitialized != Uninitialized::kReportAtUse) return;
  warp.block->launch->report(Finding::kUninitialized, warp, lane,
                             "store of " + std::to_string(bytes) +
                                 " bytes whose value came from memory that nobody wrote, to " +
                                 describe_any(warp, Space::kGlobal, address));
}

bool check_read(const Actor& now, int lane, Shadow& shadow, uint32_t offset, uint64_t address, uint32_t bytes,
                const char* what) {
  return check(&Shadow::read, now, lane, shadow, offset, address, bytes, what);
}

bool check_write(const Actor& now, int lane, Shadow& shadow, uint32_t offset, uint64_t address, uint32_t bytes,
                 const char* what) {
  return check(&Shadow::write, now, lane, shadow, offset, address, bytes, what);
}

void count_sectors(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes) {
  const Traffic t = global_sectors(active, address, bytes);
  InstrCount& c = warp.block->launch->counts()[warp.at];
  c.sectors += t.actual;
  c.sectors_least += t.least;
}

void count_wavefronts(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes) {
  const Traffic t = shared_wavefronts(active, address, bytes);
  InstrCount& c = warp.block->launch->counts()[warp.at];
  c.wavefronts += t.actual;
  c.wavefronts_least += t.least;
}

Mask load(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], void* out, uint32_t stride) {
  Mask unwritten = 0;
  auto* to = static_cast<std::byte*>(out);
  std::memset(to, 0, size_t{stride} * kLanes);  // what a refused lane gets
  for_each_space(access, active, address, [&](Space space, Mask lanes, const uint64_t* at) {
    switch (space) {
      case Space::kGlobal: unwritten |= load_global(warp, lanes, access, at, to, stride); break;
      case Space::kShared: unwritten |= load_shared(warp, lanes, access, at, to, stride); break;
      default:
        for (Mask m = lanes; m != 0; m &= m - 1) {
          const int lane = __builtin_ctz(m);
          const std::byte* from = own_bytes(warp, lane, space, "load", at[lane], access);
          if (from) copy_bytes(to + size_t{stride} * static_cast<unsigned>(lane), from, access.bytes);
        }
    }
  });
  return unwritten;
}

void store(Warp& warp, Mask active, const Access& access, const uint64_t address[kLanes], const void* in,
           uint32_t stride, Mask poisoned) {
  const auto* from = static_cast<const std::byte*>(in);
  for_each_space(access, active, address, [&](Space space, Mask lanes, const uint64_t* at) {
    switch (space) {
      case Space::kGlobal: store_global(warp, lanes, access, at, from, stride, poisoned); break;
      case Space::kShared: store_shared(warp, lanes, access, at, from, stride, poisoned); break;
      default:
        for (Mask m = lanes; m != 0; m &= m - 1) {
          const int lane = __builtin_ctz(m);
          if (space == Space::kParam) {
            report_bounds(warp, lane, space, "store to a kernel parameter", at[lane], access.bytes);
            continue;
          }
          std::byte* to = own_bytes(warp, lane, space, "store", at[lane], access);
          if (to) copy_bytes(to, from + size_t{stride} * static_cast<unsigned>(lane), access.bytes);
        }
    }
  });
}

void discard(Warp& warp, Mask active, const uint64_t address[kLanes], uint32_t bytes) {
  const Actor now(warp, Strength::kWeak, Space::kGlobal);
  for_each_global(warp, active, address, bytes, bytes, "discard",
                  [&](int lane, Allocation& a, Page& page, uint32_t at) {
                    if (a.read_only) {
                      report_bounds(warp, lane, Space::kGlobal, "discard of constant memory", address[lane], bytes);
                      return;
                    }
                    std::memset(a.at(address[lane]), 0xa5, bytes);
                    page.shadow.set_written(at, bytes, false);
                    if (config().races) check_write(now, lane, page.shadow, at, address[lane], bytes, "discard");
                    page.shadow.forget_published(at / 4, bytes / 4);
                  });
}

}  // namespace emu
