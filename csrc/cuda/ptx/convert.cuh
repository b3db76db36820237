// Conversions. Each function is one instruction of that name (9.7.9.21 cvt, 9.7.9.22 cvt.pack).
#pragma once

#include <cstdint>

namespace lowbit::cuda::ptx {

// Two floats to two 16-bit ones, `low` in the low half; ties to even.
__device__ __forceinline__ uint32_t cvt_rn_f16x2_f32(float high, float low) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}
__device__ __forceinline__ uint32_t cvt_rn_bf16x2_f32(float high, float low) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}
__device__ __forceinline__ uint16_t cvt_rn_f16_f32(float x) {
  uint16_t d;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(d) : "f"(x));
  return d;
}
__device__ __forceinline__ float cvt_f32_f16(uint16_t h) {
  float d;
  asm("cvt.f32.f16 %0, %1;" : "=f"(d) : "h"(h));
  return d;
}
// The nearest tf32, ties away from zero.
__device__ __forceinline__ uint32_t cvt_rna_tf32_f32(float x) {
  uint32_t d;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(x));
  return d;
}
// The nearest integer, ties to even.
__device__ __forceinline__ int32_t cvt_rni_s32_f32(float x) {
  int32_t d;
  asm("cvt.rni.s32.f32 %0, %1;" : "=r"(d) : "f"(x));
  return d;
}
// Two integers to two saturated signed bytes over the low half of `c`: (a, b, c.low16) from the top.
__device__ __forceinline__ uint32_t cvt_pack_sat_s8_s32(int32_t a, int32_t b, uint32_t c) {
  uint32_t d;
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

}  // namespace lowbit::cuda::ptx
