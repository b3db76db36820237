// What the parts of the GEMM driver share: a call, and the memory that it works in.
#pragma once

#include <cstdlib>
#include <memory>

#include "cpu/gemm_driver.h"

namespace lowbit::cpu {

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<char, Free>;

inline Buffer allocate(int64_t bytes) {
  return Buffer(static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(round_up(bytes + 64, 64)))));
}

enum class Use : uint8_t { kTask, kRows };

// A buffer of this thread, one a use, kept between calls; at least `bytes`, or nullptr.
template <Use kUse>
char* thread_scratch(int64_t bytes) {
  thread_local Buffer buffer;
  thread_local int64_t size = 0;
  if (size < bytes) {
    buffer = allocate(bytes);
    size = buffer ? bytes : 0;
  }
  return buffer.get();
}

// Hands out consecutive 64-byte aligned parts of a buffer; first run with nullptr to measure.
struct Carver {
  char* base;
  int64_t used = 0;
  template <class T>
  T* take(int64_t count) {
    T* p = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return p;
  }
};

struct Call {
  const GemmArgs& args;
  const GemmIsa& isa;
  const Engine& engine;
  const Plan& plan;
  bool raw;                     // int32 output
  bool use_wsum;                // x has an offset or zero points, w integer codes
  float w_factor[2], x_factor;  // 2^-shift
  int32_t partial_quads;
  bool scaled;  // operands hold the scaled values
};

}  // namespace lowbit::cpu
