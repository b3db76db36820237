#include "emu/memory/shared.h"

#include <cstring>

#include "emu/memory/async.h"

namespace emu {

SharedMemory::SharedMemory(uint64_t bytes)
    : bytes_(bytes), data_(new std::byte[bytes + 16]), shadow_(static_cast<uint32_t>((bytes + 3) / 4), true) {
  reset();
}

SharedMemory::~SharedMemory() = default;

void SharedMemory::reset() {
  std::memset(data_.get(), 0xa5, bytes_);  // what an unwritten value looks like, where it is carried
  shadow_.clear_races();
  shadow_.clear_written();
  for (auto& queue : async_) {
    if (queue) queue->clear();
  }
}

AsyncQueue& SharedMemory::async(uint32_t warp) {
  if (warp >= async_.size()) async_.resize(warp + 1);
  if (!async_[warp]) async_[warp] = std::make_unique<AsyncQueue>();
  return *async_[warp];
}

}  // namespace emu
