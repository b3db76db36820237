// The shared memory of one block: bytes and their shadow. Run by one host thread at a time, so nothing is locked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "emu/memory/shadow.h"

namespace emu {

struct AsyncQueue;

class SharedMemory {
 public:
  explicit SharedMemory(uint64_t bytes);  // static and dynamic
  ~SharedMemory();
  void reset();  // for the next block: unwritten, nothing in flight

  uint64_t size() const { return bytes_; }
  std::byte* data() { return data_.get(); }
  Shadow& shadow() { return shadow_; }
  AsyncQueue& async(uint32_t warp);  // unfinished cp.async of that warp

 private:
  uint64_t bytes_;
  std::unique_ptr<std::byte[]> data_;
  Shadow shadow_;
  std::vector<std::unique_ptr<AsyncQueue>> async_;
};

}  // namespace emu
