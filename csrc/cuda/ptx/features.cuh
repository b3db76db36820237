// What the PTX being compiled has, as preprocessor conditions. They differ in multiplies alone, so that the machine
// code of several architectures is made from one PTX; a file that has such a multiply is compiled for those which have
// it (cuda/CMakeLists.txt), and launchers choose it on no other. A build for none of them compiles the kernel to
// nothing. (An emulated form is never used: b1 mma is one BMMA up to sm_90 and eight IMMA after it, s4 one IMMA up to
// sm_89, FP8 mma.sync one QMMA on sm_89 and sm_12x alone.)
#pragma once

#if defined(__CUDA_ARCH__)
#define LOWBIT_SM __CUDA_ARCH__
#else
#define LOWBIT_SM 0
#endif

#define LOWBIT_HAS_B1_MMA (LOWBIT_SM >= 800 && LOWBIT_SM < 1000)
#define LOWBIT_HAS_S4_MMA (LOWBIT_SM >= 800 && LOWBIT_SM < 900)
#define LOWBIT_HAS_FP8_MMA (LOWBIT_SM == 890 || (LOWBIT_SM >= 1200 && LOWBIT_SM < 1300))
// kind::f8f6f4 and the block-scaled kinds: sm_120a, sm_121a and the family 120f
#if defined(__CUDA_ARCH_FAMILY_SPECIFIC__) || defined(__CUDA_ARCH_SPECIFIC__)
#define LOWBIT_HAS_BLOCK_SCALED_MMA (LOWBIT_SM >= 1200 && LOWBIT_SM < 1300)
#else
#define LOWBIT_HAS_BLOCK_SCALED_MMA 0
#endif
