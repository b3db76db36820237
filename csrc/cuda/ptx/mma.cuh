// mma.sync (9.7.15.5 mma), one instruction a function: d = a * b + c with c = d. Fragments are those of the PTX ISA
// (tile/fragments.cuh states the maps). Where an architecture has no such instruction (features.cuh), there is no
// function.
#pragma once

#include <cstdint>

#include "cuda/ptx/features.cuh"

namespace lowbit::cuda::ptx {

#define LOWBIT_MMA_FLOAT(name, instruction)                                                             \
  __device__ __forceinline__ void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"         \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                   \
  }
#define LOWBIT_MMA_INT(name, instruction)                                                                 \
  __device__ __forceinline__ void name(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"           \
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                     \
  }
// Block-scaled: one 32-bit register of scales for a and one for b, with the (byte, thread) selectors of the ISA at 0.
#define LOWBIT_MMA_SCALED(name, instruction)                                                                      \
  __device__ __forceinline__ void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],             \
                                       uint32_t a_scale, uint32_t b_scale) {                                      \
    asm volatile(instruction                                                                                      \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, "                              \
                 "{%10}, {0, 0}, {%11}, {0, 0};"                                                                  \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(a_scale), "r"(b_scale)); \
  }

LOWBIT_MMA_FLOAT(mma_m16n8k16_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
LOWBIT_MMA_FLOAT(mma_m16n8k16_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
LOWBIT_MMA_FLOAT(mma_m16n8k8_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")

LOWBIT_MMA_INT(mma_m16n8k32_s8s8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32")
LOWBIT_MMA_INT(mma_m16n8k32_s8u8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32")
LOWBIT_MMA_INT(mma_m16n8k32_u8s8, "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32")
LOWBIT_MMA_INT(mma_m16n8k32_u8u8, "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32")

#if LOWBIT_HAS_S4_MMA
LOWBIT_MMA_INT(mma_m16n8k64_s4s4, "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32")
LOWBIT_MMA_INT(mma_m16n8k64_s4u4, "mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32")
LOWBIT_MMA_INT(mma_m16n8k64_u4s4, "mma.sync.aligned.m16n8k64.row.col.s32.u4.s4.s32")
LOWBIT_MMA_INT(mma_m16n8k64_u4u4, "mma.sync.aligned.m16n8k64.row.col.s32.u4.u4.s32")
#endif

#if LOWBIT_HAS_B1_MMA
LOWBIT_MMA_INT(mma_m16n8k256_b1_and_popc, "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc")
#endif

#if LOWBIT_HAS_FP8_MMA
LOWBIT_MMA_FLOAT(mma_m16n8k32_e4m3e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32")
LOWBIT_MMA_FLOAT(mma_m16n8k32_e4m3e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32")
LOWBIT_MMA_FLOAT(mma_m16n8k32_e5m2e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e4m3.f32")
LOWBIT_MMA_FLOAT(mma_m16n8k32_e5m2e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32")
#endif

#if LOWBIT_HAS_BLOCK_SCALED_MMA
// One byte a code, whatever its width; E8M0 scales of 32.
#define LOWBIT_MMA_MX(a, b)                                                                                     \
  LOWBIT_MMA_SCALED(mma_m16n8k32_mxf8f6f4_##a##_##b,                                                            \
                    "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32." #a "." #b \
                    ".f32.ue8m0")
LOWBIT_MMA_MX(e4m3, e4m3)
LOWBIT_MMA_MX(e4m3, e5m2)
LOWBIT_MMA_MX(e5m2, e4m3)
LOWBIT_MMA_MX(e5m2, e5m2)
LOWBIT_MMA_MX(e2m3, e2m3)
LOWBIT_MMA_MX(e3m2, e3m2)
LOWBIT_MMA_MX(e2m1, e2m1)
#undef LOWBIT_MMA_MX
// Two codes a byte; scales of 32 (E8M0) or 16 (E4M3).
LOWBIT_MMA_SCALED(mma_m16n8k64_mxf4,
                  "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0")
LOWBIT_MMA_SCALED(mma_m16n8k64_nvf4,
                  "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")
#endif

#undef LOWBIT_MMA_FLOAT
#undef LOWBIT_MMA_INT
#undef LOWBIT_MMA_SCALED

}  // namespace lowbit::cuda::ptx
