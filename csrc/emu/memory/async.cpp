// cp.async: a write of its destination over the whole time from issue to the wait of its own thread, and a read of its
// source over the same time (PTX ISA 9.0, 9.7.9.25.3). The source's bytes are taken at issue. The destination is filled
// with kPoison and marked in flight; the wait puts the bytes there and stamps them as written by this thread then, so
// that other threads still need a barrier behind the wait.
#include "emu/memory/async.h"

#include <string>

#include "emu/memory/access.h"

namespace emu {
namespace {

using ptx::Space;

constexpr int kPoison = 0xa5;

void land(Warp& warp, AsyncCopy& copy, Mask lanes) {
  SharedMemory& shared = *warp.block->shared;
  const Actor now(warp, Strength::kWeak, Space::kShared);
  for (Mask m = lanes; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const Words words(copy.shared[lane], copy.bytes);
    copy_bytes(shared.data() + copy.shared[lane], copy.data[lane], copy.bytes);
    shared.shadow().end_flight(now, lane, words.first, words.count, copy.instr);
    if (!copy.page[lane]) continue;
    Touch writer;
    const uint32_t at = static_cast<uint32_t>(copy.global[lane] % Page::kBytes);
    bool overwritten;
    {
      PageLock lock;
      lock.hold(copy.page[lane], warp.block->launch->id);
      overwritten =
          copy.page[lane]->shadow.written_since(at / 4, (copy.source_bytes[lane] + 3u) / 4, copy.serial[lane], &writer);
    }
    if (overwritten) {
      Actor source(warp, Strength::kWeak, Space::kGlobal);
      report_source_overwritten(source, lane, writer, copy.instr, copy.global[lane], copy.source_bytes[lane]);
    }
  }
  copy.lanes &= ~lanes;
}

void land_groups(Warp& warp, Mask active, uint32_t groups_left) {
  AsyncQueue& queue = warp.block->shared->async(warp.index);
  if (queue.copies.empty()) return;
  size_t kept = 0;
  for (size_t k = 0; k < queue.copies.size(); k++) {
    AsyncCopy& copy = queue.copies[k];
    Mask done = 0;
    for (Mask m = active & copy.lanes; m != 0; m &= m - 1) {
      const int lane = __builtin_ctz(m);
      if (uint64_t{copy.group[lane]} + groups_left <= queue.committed[lane]) done |= Mask{1} << lane;
    }
    if (done) land(warp, copy, done);
    if (copy.lanes == 0) continue;
    if (kept != k) queue.copies[kept] = copy;
    kept++;
  }
  queue.copies.resize(kept);
  warp.block->launch->progress();
}

}  // namespace

void async_copy(Warp& warp, Mask active, const uint64_t shared_address[kLanes], const uint64_t global_address[kLanes],
                uint32_t bytes, const uint32_t source_bytes[kLanes]) {
  AsyncQueue& queue = warp.block->shared->async(warp.index);
  SharedMemory& shared = *warp.block->shared;
  AsyncCopy copy;
  copy.bytes = bytes;
  copy.instr = warp.at;
  std::memset(copy.data, 0, sizeof copy.data);
  Mask reading = 0, unwritten = 0;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    copy.page[lane] = nullptr;
    copy.global[lane] = global_address[lane];
    copy.source_bytes[lane] = static_cast<uint8_t>(source_bytes[lane] < bytes ? source_bytes[lane] : bytes);
    copy.group[lane] = queue.committed[lane] + 1;
    if (copy.source_bytes[lane] != 0) {
      reading |= Mask{1} << lane;
    } else if (global_address[lane] & (bytes - 1)) {
      report_misaligned(warp, lane, Space::kGlobal, "cp.async read of the source", global_address[lane], bytes, bytes);
    }
  }
  const Actor reader(warp, Strength::kWeak, Space::kGlobal);
  const bool races = config().races;
  const auto read = [&](Mask lanes, uint32_t n) {
    for_each_global(
        warp, lanes, global_address, n, bytes, "cp.async read of the source",
        [&](int lane, Allocation& a, Page& page, uint32_t at) {
          copy_bytes(copy.data[lane], a.at(global_address[lane]), n);
          if (!page.shadow.is_written(at, n)) {
            unwritten |= Mask{1} << lane;
            report_unwritten(warp, lane, Space::kGlobal, "cp.async read of the source", global_address[lane], n);
          }
          const bool quick = races && !a.read_only && n % 4 == 0 &&
                             page.shadow.quick_read(page.shadow.reading(reader), reader, lane, at / 4, n / 4);
          if (races && !a.read_only && !quick) {
            for (uint32_t done = 0; done < n;) {  // a tail of less than a word is an access of its own
              const uint32_t part = n - done >= 4 ? (n - done) / 4 * 4 : 1;
              check_read(reader, lane, page.shadow, at + done, global_address[lane] + done, part,
                         "cp.async read of the source");
              done += part;
            }
          }
          copy.page[lane] = &page;
          copy.serial[lane] = page.shadow.serial();
        });
  };
  Mask whole = 0;
  for (Mask m = reading; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    if (copy.source_bytes[lane] == bytes)
      whole |= Mask{1} << lane;
    else
      read(Mask{1} << lane, copy.source_bytes[lane]);
  }
  if (whole) read(whole, bytes);

  Actor writer(warp, Strength::kWeak, Space::kShared);
  for_each_shared(warp, active, shared_address, bytes, bytes, "cp.async write of the destination",
                  [&](int lane, uint32_t at) {
                    const Words words(at, bytes);
                    check_write(writer, lane, shared.shadow(), at, at, bytes, "cp.async write of the destination");
                    shared.shadow().begin_flight(writer, lane, words.first, words.count);
                    shared.shadow().forget_published(words.first, words.count);
                    shared.shadow().set_written(at, bytes, !(unwritten >> lane & 1));
                    std::memset(shared.data() + at, kPoison, bytes);
                    copy.shared[lane] = at;
                    copy.lanes |= Mask{1} << lane;
                  });
  if (copy.lanes) queue.copies.push_back(copy);
  count_sectors(warp, reading, global_address, bytes);
  count_wavefronts(warp, active, shared_address, bytes);
}

void async_commit(Warp& warp, Mask active) {
  AsyncQueue& queue = warp.block->shared->async(warp.index);
  for (Mask m = active; m != 0; m &= m - 1) queue.committed[__builtin_ctz(m)]++;
}

void async_wait(Warp& warp, Mask active, uint32_t groups_left) { land_groups(warp, active, groups_left); }

void async_wait_all(Warp& warp, Mask active) {
  async_commit(warp, active);
  land_groups(warp, active, 0);
}

}  // namespace emu
