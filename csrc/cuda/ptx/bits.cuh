// Logic, permutation and warp reductions. Each function is one instruction of that name.
#pragma once

#include <cstdint>

namespace lowbit::cuda::ptx {

// 9.7.8.6 lop3: the three-input truth table `kTable` of (0xf0, 0xcc, 0xaa).
template <int kTable>
__device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return d;
}

// 9.7.9.7 prmt: nibble i of `selector` picks byte i of the result from the bytes of (b, a).
__device__ __forceinline__ uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}

// No instruction: v as a value that nothing is known of, so that what is computed from it in a loop is not kept in
// registers from before the loop.
__device__ __forceinline__ int opaque(int v) {
  asm volatile("" : "+r"(v));
  return v;
}

// 9.7.13.10 redux.sync: over all 32 lanes.
__device__ __forceinline__ uint32_t redux_max_u32(uint32_t v) {
  uint32_t d;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(d) : "r"(v));
  return d;
}
__device__ __forceinline__ int32_t redux_add_s32(int32_t v) {
  int32_t d;
  asm volatile("redux.sync.add.s32 %0, %1, 0xffffffff;" : "=r"(d) : "r"(v));
  return d;
}
__device__ __forceinline__ uint32_t redux_or_b32(uint32_t v) {
  uint32_t d;
  asm volatile("redux.sync.or.b32 %0, %1, 0xffffffff;" : "=r"(d) : "r"(v));
  return d;
}

}  // namespace lowbit::cuda::ptx
