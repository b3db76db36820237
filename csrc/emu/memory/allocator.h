// Memory that kernels can reach at global addresses: device allocations, and host memory that was mapped in.
//
// Device addresses come from one reserved range without access rights, so that a host dereference faults; the bytes lie
// in a second range at a fixed distance. Both are reserved without backing store: an allocation of many GiB costs what
// is written of it. Addresses are multiples of 256 and of nothing more, at least kGuard bytes apart, and not used again
// before the range is used up, so that an access behind the end or after the free is known as what it is.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace emu {

struct Page;

struct Allocation {
  uint64_t begin = 0, end = 0;
  std::byte* data = nullptr;  // of `begin`; for mapped host memory the address itself
  bool is_host = false;
  bool read_only = false;   // constants
  uint64_t first_page = 0;  // begin rounded down to a page
  std::unique_ptr<std::atomic<Page*>, void (*)(std::atomic<Page*>*)> pages{nullptr, nullptr};
  uint64_t page_count = 0;
  std::mutex mutex;
  std::map<uint64_t, uint64_t> written;  // what the host wrote: begin -> end, disjoint

  Page* page(uint64_t address);  // made when first asked for
  Page* find_page(uint64_t address) const {
    return pages.get()[(address - first_page) / 4096].load(std::memory_order_acquire);
  }
  std::byte* at(uint64_t address) const { return data + (address - begin); }
  bool holds(uint64_t address, uint64_t bytes) const {
    return address >= begin && address < end && bytes <= end - address;
  }
  Allocation() = default;
  ~Allocation();
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
};

class Allocator {
 public:
  static constexpr uint64_t kGuard = uint64_t{1} << 16;

  // 0: out of memory. Nothing of it is written.
  uint64_t allocate(uint64_t bytes, bool read_only);
  bool free(uint64_t address);
  // Host memory at its own address. False: it overlaps what is there.
  bool map(void* host, uint64_t bytes, bool written);
  bool unmap(void* host);

  // The allocation that holds the address, or null. Valid until it is freed; the host may not free while kernels run.
  Allocation* find(uint64_t address);
  // Where an address lies: "byte 8 of the allocation of 4096 bytes at 0x...", or what it is next to.
  std::string describe(uint64_t address);
  uint64_t bytes_in_use();

  // The host's copies and fills; a range must lie within one allocation. What is copied from unwritten device memory
  // stays unwritten.
  bool copy_in(uint64_t to, const void* from, uint64_t bytes);
  bool copy_out(void* to, uint64_t from, uint64_t bytes);
  bool copy(uint64_t to, uint64_t from, uint64_t bytes);
  bool fill(uint64_t to, uint8_t value, uint64_t bytes);
  void set_written(uint64_t address, uint64_t bytes, bool written);

 private:
  friend void on_fault_address(uint64_t address);
  bool reserve();
  void insert(std::unique_ptr<Allocation> a);
  std::unique_ptr<Allocation> remove(uint64_t begin);
  Allocation* find_slow(uint64_t address);
  uint64_t place(uint64_t bytes);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Allocation>> live_;  // ascending
  struct Freed {
    uint64_t begin, end;
  };
  std::vector<Freed> freed_;
  std::atomic<uint64_t> generation_{1};
  uint64_t device_ = 0, private_ = 0, reserved_ = 0, next_ = 0, in_use_ = 0;
};
Allocator& allocator();

}  // namespace emu
