#include "emu/memory/allocator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "emu/memory/shadow.h"

namespace emu {
namespace {

constexpr uint64_t kPage = Page::kBytes;
constexpr uint64_t kAlign = 256;

uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

void* reserve_range(uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

// ---- the host dereferences a device address

struct sigaction previous_action;
std::atomic<uint64_t> fault_begin{0}, fault_end{0};

char* put(char* to, const char* text) {
  while (*text) *to++ = *text++;
  return to;
}

char* put_hex(char* to, uint64_t value) {
  to = put(to, "0x");
  int shift = 60;
  while (shift > 0 && (value >> shift) == 0) shift -= 4;
  for (; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[value >> shift & 15];
  return to;
}

// Says what happened and lets the instruction fault again under the action that was there before.
void on_fault(int signal, siginfo_t* info, void*) {
  const uint64_t address = reinterpret_cast<uint64_t>(info->si_addr);
  if (address >= fault_begin.load() && address < fault_end.load()) {
    char text[256];
    char* end = put(text, "host access: the host dereferenced device address ");
    end = put_hex(end, address);
    end = put(end, "; copy with cudaMemcpy, or let the kernel see host memory by emu_map\n");
    const ssize_t ignored = write(2, text, static_cast<size_t>(end - text));
    (void)ignored;
  }
  sigaction(signal, &previous_action, nullptr);
}

void install_fault_handler(uint64_t begin, uint64_t bytes) {
  fault_begin = begin;
  fault_end = begin + bytes;
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_action);
}

std::atomic<Page*>* make_pages(uint64_t count) {
  void* at = mmap(nullptr, count * sizeof(std::atomic<Page*>), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<std::atomic<Page*>*>(at);
}

std::unique_ptr<Allocation> make_allocation(uint64_t begin, uint64_t bytes, std::byte* data) {
  auto a = std::make_unique<Allocation>();
  a->begin = begin;
  a->end = begin + bytes;
  a->data = data;
  a->first_page = begin / kPage * kPage;
  a->page_count = (a->end - a->first_page + kPage - 1) / kPage;
  a->pages = {make_pages(a->page_count), [](std::atomic<Page*>*) {}};
  return a->pages ? std::move(a) : nullptr;
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// The last allocations that this thread asked for.
struct Recent {
  static constexpr int kSize = 4;
  uint64_t generation = 0;
  Allocation* entries[kSize] = {};
  int next = 0;
};
__attribute__((tls_model("initial-exec"))) thread_local Recent recent;

}  // namespace

Allocation::~Allocation() {
  if (!pages) return;
  for (uint64_t k = 0; k < page_count;) {
    // Sparse: whole pages of the table that were never written read as zero, at no cost but the look.
    if (Page* p = pages.get()[k].load(std::memory_order_relaxed)) delete p;
    k++;
  }
  munmap(static_cast<void*>(pages.get()), page_count * sizeof(std::atomic<Page*>));
}

Page* Allocation::page(uint64_t address) {
  std::atomic<Page*>& slot = pages.get()[(address - first_page) / kPage];
  if (Page* p = slot.load(std::memory_order_acquire)) return p;
  const std::lock_guard<std::mutex> lock(mutex);
  if (Page* p = slot.load(std::memory_order_acquire)) return p;
  auto* p = new Page(false);
  const uint64_t first = address / kPage * kPage;
  auto range = written.upper_bound(first);
  if (range != written.begin()) --range;
  for (; range != written.end() && range->first < first + kPage; ++range) {
    const uint64_t from = std::max(range->first, first), to = std::min(range->second, first + kPage);
    if (from < to) p->shadow.set_written(static_cast<uint32_t>(from - first), static_cast<uint32_t>(to - from), true);
  }
  slot.store(p, std::memory_order_release);
  return p;
}

Allocator& allocator() {
  static Allocator* const one = new Allocator;  // kernels of other static objects' destructors may still run
  return *one;
}

bool Allocator::reserve() {
  if (reserved_) return true;
  for (uint64_t bytes = uint64_t{1} << 42; bytes >= uint64_t{1} << 32; bytes >>= 1) {
    void* device = reserve_range(bytes);
    void* data = device ? reserve_range(bytes) : nullptr;
    if (device && data) {
      device_ = reinterpret_cast<uint64_t>(device);
      private_ = reinterpret_cast<uint64_t>(data);
      reserved_ = bytes;
      next_ = kGuard;
      install_fault_handler(device_, bytes);
      return true;
    }
    if (device) munmap(device, bytes);
  }
  return false;
}

// An offset into the range with guards on both sides, or 0.
uint64_t Allocator::place(uint64_t bytes) {
  const uint64_t need = round_up(bytes + kAlign, kPage) + kGuard;
  if (need > reserved_ || bytes > reserved_) return 0;
  if (next_ + need <= reserved_) {
    const uint64_t at = next_;
    next_ += need;
    return at + kAlign;
  }
  // Used up: the first gap between what lives; what was freed there is forgotten.
  uint64_t at = kGuard;
  for (const auto& a : live_) {
    if (a->is_host) continue;
    const uint64_t begin = a->begin - device_;
    if (at + need <= begin) break;
    at = round_up(a->end - device_, kPage) + kGuard;
  }
  if (at + need > reserved_) return 0;
  const uint64_t from = device_ + at, to = from + need;
  freed_.erase(
      std::remove_if(freed_.begin(), freed_.end(), [&](const Freed& f) { return f.begin < to && f.end > from; }),
      freed_.end());
  return at + kAlign;
}

void Allocator::insert(std::unique_ptr<Allocation> a) {
  const auto at = std::upper_bound(live_.begin(), live_.end(), a->begin,
                                   [](uint64_t begin, const auto& other) { return begin < other->begin; });
  in_use_ += a->is_host ? 0 : a->end - a->begin;
  live_.insert(at, std::move(a));
  generation_++;
}

std::unique_ptr<Allocation> Allocator::remove(uint64_t begin) {
  const auto at = std::lower_bound(live_.begin(), live_.end(), begin,
                                   [](const auto& other, uint64_t b) { return other->begin < b; });
  if (at == live_.end() || (*at)->begin != begin) return nullptr;
  std::unique_ptr<Allocation> a = std::move(*at);
  live_.erase(at);
  in_use_ -= a->is_host ? 0 : a->end - a->begin;
  generation_++;
  return a;
}

uint64_t Allocator::allocate(uint64_t bytes, bool read_only) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes == 0 || !reserve()) return 0;
  const uint64_t offset = place(bytes);
  if (!offset) return 0;
  const uint64_t page = offset / kPage * kPage;
  void* data = mmap(reinterpret_cast<void*>(private_ + page), round_up(offset + bytes, kPage) - page,
                    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (data == MAP_FAILED) return 0;
  auto a = make_allocation(device_ + offset, bytes, reinterpret_cast<std::byte*>(private_ + offset));
  if (!a) return 0;
  a->read_only = read_only;
  insert(std::move(a));
  return device_ + offset;
}

bool Allocator::free(uint64_t address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Allocation> a = remove(address);
  if (!a) return false;
  if (a->is_host) {
    insert(std::move(a));
    return false;
  }
  const uint64_t offset = a->begin - device_, page = offset / kPage * kPage;
  mmap(reinterpret_cast<void*>(private_ + page), round_up(offset + (a->end - a->begin), kPage) - page, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  freed_.push_back({a->begin, a->end});
  return true;
}

bool Allocator::map(void* host, uint64_t bytes, bool written) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t begin = reinterpret_cast<uint64_t>(host);
  if (begin == 0 || bytes == 0 || begin + bytes < begin) return false;
  if (reserved_ && begin < device_ + reserved_ && begin + bytes > device_) return false;
  for (const auto& a : live_) {
    if (begin < a->end && begin + bytes > a->begin) return false;
  }
  auto a = make_allocation(begin, bytes, static_cast<std::byte*>(host));
  if (!a) return false;
  a->is_host = true;
  if (written) a->written[begin] = begin + bytes;
  insert(std::move(a));
  return true;
}

bool Allocator::unmap(void* host) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Allocation> a = remove(reinterpret_cast<uint64_t>(host));
  if (!a) return false;
  if (a->is_host) return true;
  insert(std::move(a));
  return false;
}

Allocation* Allocator::find(uint64_t address) {
  Recent& r = recent;
  if (r.generation == generation_.load(std::memory_order_acquire)) {
    for (Allocation* a : r.entries) {
      if (a && address >= a->begin && address < a->end) return a;
    }
  }
  return find_slow(address);
}

Allocation* Allocator::find_slow(uint64_t address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto at = std::upper_bound(live_.begin(), live_.end(), address,
                                   [](uint64_t a, const auto& other) { return a < other->begin; });
  if (at == live_.begin() || address >= (*(at - 1))->end) return nullptr;
  Allocation* const a = (at - 1)->get();
  Recent& r = recent;
  if (r.generation != generation_.load()) r = Recent();
  r.generation = generation_.load();
  r.entries[r.next] = a;
  r.next = (r.next + 1) % Recent::kSize;
  return a;
}

std::string Allocator::describe(uint64_t address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto above = std::upper_bound(live_.begin(), live_.end(), address,
                                      [](uint64_t a, const auto& other) { return a < other->begin; });
  const auto name = [](const Allocation& a) {
    return std::string(a.is_host     ? "the mapped host memory of "
                       : a.read_only ? "the constants of "
                                     : "the allocation of ") +
           std::to_string(a.end - a.begin) + " bytes at " + hex(a.begin);
  };
  const Allocation* below = above == live_.begin() ? nullptr : (above - 1)->get();
  if (below && address < below->end) return "byte " + std::to_string(address - below->begin) + " of " + name(*below);
  for (auto f = freed_.rbegin(); f != freed_.rend(); ++f) {
    if (address >= f->begin && address < f->end) {
      return "byte " + std::to_string(address - f->begin) + " of memory that was freed (" +
             std::to_string(f->end - f->begin) + " bytes at " + hex(f->begin) + ")";
    }
  }
  const uint64_t from_below = below ? address - below->end : ~uint64_t{0};
  const uint64_t to_above = above == live_.end() ? ~uint64_t{0} : (*above)->begin - address;
  constexpr uint64_t kNear = uint64_t{1} << 32;
  if (from_below <= to_above && from_below < kNear)
    return std::to_string(from_below) + " bytes behind the end of " + name(*below);
  if (to_above < kNear) return std::to_string(to_above) + " bytes before " + name(**above);
  return address < kPage ? "a null pointer" : "near no allocation; host memory must be mapped by emu_map";
}

uint64_t Allocator::bytes_in_use() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return in_use_;
}

}  // namespace emu
