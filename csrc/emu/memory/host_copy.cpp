// The host's copies and fills of device memory, and what they do to the record of written bytes.
#include <algorithm>
#include <cstring>

#include "emu/memory/allocator.h"
#include "emu/memory/shadow.h"

namespace emu {
namespace {

// Calls f(page or null, offset in the page, bytes, address) for each page of the range.
template <class F>
void for_each_page(Allocation& a, uint64_t address, uint64_t bytes, const F& f) {
  while (bytes != 0) {
    const uint32_t at = static_cast<uint32_t>(address % Page::kBytes);
    const uint32_t n = static_cast<uint32_t>(std::min<uint64_t>(bytes, Page::kBytes - at));
    f(a.find_page(address), at, n, address);
    address += n;
    bytes -= n;
  }
}

void erase_range(std::map<uint64_t, uint64_t>& ranges, uint64_t begin, uint64_t end) {
  auto r = ranges.upper_bound(begin);
  if (r != ranges.begin()) --r;
  while (r != ranges.end() && r->first < end) {
    const uint64_t from = r->first, to = r->second;
    if (to <= begin) {
      ++r;
      continue;
    }
    r = ranges.erase(r);
    if (from < begin) ranges[from] = begin;
    if (to > end) r = ranges.emplace(end, to).first;
  }
}

void set_written_of(Allocation& a, uint64_t address, uint64_t bytes, bool written) {
  const std::lock_guard<std::mutex> lock(a.mutex);
  uint64_t begin = address, end = address + bytes;
  if (!written) {
    erase_range(a.written, begin, end);
  } else {
    auto r = a.written.upper_bound(begin);
    if (r != a.written.begin() && std::prev(r)->second >= begin) --r;
    while (r != a.written.end() && r->first <= end) {
      begin = std::min(begin, r->first);
      end = std::max(end, r->second);
      r = a.written.erase(r);
    }
    a.written[begin] = end;
  }
  for_each_page(a, address, bytes, [&](Page* p, uint32_t at, uint32_t n, uint64_t) {
    if (!p) return;  // made with what the ranges say
    PageLock page_lock;
    page_lock.hold(p, p->launch);
    p->shadow.set_written(at, n, written);
  });
}

// The record of bytes copied within device memory: page by page, byte by byte where a page is partly written.
void copy_written(Allocation& to, uint64_t to_address, Allocation& from, uint64_t from_address, uint64_t bytes) {
  uint64_t done = 0;
  while (done < bytes) {
    const uint64_t at = from_address + done;
    const uint64_t n = std::min<uint64_t>(bytes - done, Page::kBytes - at % Page::kBytes);
    Page* p = from.page(at);
    uint64_t k = 0;
    while (k < n) {
      const auto is_written = [&](uint64_t i) {
        return p->shadow.is_written(static_cast<uint32_t>(at % Page::kBytes + i), 1);
      };
      const bool first = is_written(k);
      uint64_t run = k + 1;
      while (run < n && is_written(run) == first) run++;
      set_written_of(to, to_address + done + k, run - k, first);
      k = run;
    }
    done += n;
  }
}

}  // namespace

void Allocator::set_written(uint64_t address, uint64_t bytes, bool written) {
  Allocation* a = find(address);
  if (a && a->holds(address, bytes)) set_written_of(*a, address, bytes, written);
}

bool Allocator::copy_in(uint64_t to, const void* from, uint64_t bytes) {
  if (bytes == 0) return true;
  Allocation* a = find(to);
  if (!a || !a->holds(to, bytes)) return false;
  std::memcpy(a->at(to), from, bytes);
  set_written_of(*a, to, bytes, true);
  return true;
}

bool Allocator::copy_out(void* to, uint64_t from, uint64_t bytes) {
  if (bytes == 0) return true;
  const Allocation* a = find(from);
  if (!a || !a->holds(from, bytes)) return false;
  std::memcpy(to, a->at(from), bytes);
  return true;
}

bool Allocator::copy(uint64_t to, uint64_t from, uint64_t bytes) {
  if (bytes == 0) return true;
  Allocation* target = find(to);
  Allocation* source = find(from);
  if (!target || !source || !target->holds(to, bytes) || !source->holds(from, bytes)) return false;
  std::memmove(target->at(to), source->at(from), bytes);
  copy_written(*target, to, *source, from, bytes);
  return true;
}

bool Allocator::fill(uint64_t to, uint8_t value, uint64_t bytes) {
  if (bytes == 0) return true;
  Allocation* a = find(to);
  if (!a || !a->holds(to, bytes)) return false;
  std::memset(a->at(to), value, bytes);
  set_written_of(*a, to, bytes, true);
  return true;
}

}  // namespace emu
