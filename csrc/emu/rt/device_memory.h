// The host's side of device memory: allocations and copies as the runtime calls make them, over memory/allocator.h.
#pragma once

#include <cstdint>
#include <string>

namespace emu {

struct DeviceAllocation {
  uint64_t address = 0;
  uint64_t bytes = 0;
  bool is_host = false;  // host memory that kernels see at its own address
};

// 0: out of memory. Fresh memory is unwritten; `read_only` refuses stores of kernels (constants).
uint64_t allocate_device(uint64_t bytes, bool read_only);
// False: no allocation begins there.
bool free_device(uint64_t address);
uint64_t device_bytes_in_use();
// The allocation that holds `address`.
bool find_allocation(uint64_t address, DeviceAllocation* found);

// Makes host memory visible to kernels at its own address. False: it overlaps what is there.
bool map_host(void* host, uint64_t bytes, bool initialized);
bool unmap_host(void* host);

// Copies and fills; device ranges must lie within one allocation, else false. What is copied from unwritten device
// memory stays unwritten.
bool copy_to_device(uint64_t to, const void* from, uint64_t bytes);
bool copy_to_host(void* to, uint64_t from, uint64_t bytes);
bool copy_on_device(uint64_t to, uint64_t from, uint64_t bytes);
bool fill_device(uint64_t to, uint8_t value, uint64_t bytes);

}  // namespace emu
