// CUTLASS 2.x device GEMMs behind C functions: D[m, n] = A[m, k] * B[n, k]^T, all on the device, densely packed. One
// file for all of them: most of a compilation is reading the headers.
#include <cuda_runtime.h>

#include "cutlass/epilogue/thread/linear_combination.h"
#include "cutlass/gemm/device/gemm.h"

namespace {

using cutlass::arch::OpAndPopc;
using cutlass::arch::OpMultiplyAdd;
using cutlass::arch::OpMultiplyAddSaturate;
using cutlass::arch::Sm80;
using cutlass::arch::Sm89;

template <int m, int n, int k>
using Shape = cutlass::gemm::GemmShape<m, n, k>;

// Blocks of 64 x 64 outputs in four warps; kTileK columns a stage, kMmaK an instruction.
template <class Element, class Accumulator, class Arch, class Operator, int kTileK, int kMmaK>
int run(int m, int n, int k, const void* a, const void* b, void* d) {
  using Row = cutlass::layout::RowMajor;
  using Column = cutlass::layout::ColumnMajor;
  constexpr int kStages = 3;
  constexpr int kAlignment = 128 / cutlass::sizeof_bits<Element>::value;
  using Epilogue =
      cutlass::epilogue::thread::LinearCombination<Accumulator, 128 / cutlass::sizeof_bits<Accumulator>::value,
                                                   Accumulator, Accumulator>;
  using Gemm = cutlass::gemm::device::Gemm<
      Element, Row, Element, Column, Accumulator, Row, Accumulator, cutlass::arch::OpClassTensorOp, Arch,
      Shape<64, 64, kTileK>, Shape<32, 32, kTileK>, Shape<16, 8, kMmaK>, Epilogue,
      cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, kStages, kAlignment, kAlignment, false, Operator>;
  auto* pa = static_cast<Element*>(const_cast<void*>(a));
  auto* pb = static_cast<Element*>(const_cast<void*>(b));
  auto* pd = static_cast<Accumulator*>(d);
  typename Gemm::Arguments arguments({m, n, k}, {pa, k}, {pb, k}, {pd, n}, {pd, n}, {Accumulator(1), Accumulator(0)});
  Gemm gemm;
  const cutlass::Status status = gemm(arguments);
  const int error = static_cast<int>(cudaDeviceSynchronize());
  return error != 0 ? error : status == cutlass::Status::kSuccess ? 0 : 1000 + static_cast<int>(status);
}

}  // namespace

#define GEMM(name, ...)                                                                    \
  extern "C" int gemm_##name(int m, int n, int k, const void* a, const void* b, void* d) { \
    return run<__VA_ARGS__>(m, n, k, a, b, d);                                             \
  }
GEMM(s8, int8_t, int, Sm80, OpMultiplyAddSaturate, 64, 32)
GEMM(s4, cutlass::int4b_t, int, Sm80, OpMultiplyAddSaturate, 128, 64)
GEMM(b1, cutlass::uint1b_t, int, Sm80, OpAndPopc, 512, 256)
GEMM(f16, cutlass::half_t, float, Sm80, OpMultiplyAdd, 32, 16)
GEMM(bf16, cutlass::bfloat16_t, float, Sm80, OpMultiplyAdd, 32, 16)
GEMM(tf32, cutlass::tfloat32_t, float, Sm80, OpMultiplyAdd, 16, 8)
GEMM(e4m3, cutlass::float_e4m3_t, float, Sm89, OpMultiplyAdd, 64, 32)
