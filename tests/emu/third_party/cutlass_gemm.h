// A CUTLASS 2.x device GEMM behind one C function: D[m, n] = A[m, k] * B[n, k]^T, all on the device, densely packed.
#pragma once

#include <cuda_runtime.h>

#include "cutlass/epilogue/thread/linear_combination.h"
#include "cutlass/gemm/device/gemm.h"

template <class Element, class Accumulator, class Arch, class Threadblock, class Warp, class Instruction,
          class Operator, int kStages>
int run_gemm(int m, int n, int k, const void* a, const void* b, void* d) {
  using Row = cutlass::layout::RowMajor;
  using Column = cutlass::layout::ColumnMajor;
  constexpr int kAlignment = 128 / cutlass::sizeof_bits<Element>::value;
  using Epilogue =
      cutlass::epilogue::thread::LinearCombination<Accumulator, 128 / cutlass::sizeof_bits<Accumulator>::value,
                                                   Accumulator, Accumulator>;
  using Gemm = cutlass::gemm::device::Gemm<Element, Row, Element, Column, Accumulator, Row, Accumulator,
                                           cutlass::arch::OpClassTensorOp, Arch, Threadblock, Warp, Instruction,
                                           Epilogue, cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>,
                                           kStages, kAlignment, kAlignment, false, Operator>;
  auto* pa = static_cast<Element*>(const_cast<void*>(a));
  auto* pb = static_cast<Element*>(const_cast<void*>(b));
  auto* pd = static_cast<Accumulator*>(d);
  typename Gemm::Arguments arguments({m, n, k}, {pa, k}, {pb, k}, {pd, n}, {pd, n}, {Accumulator(1), Accumulator(0)});
  Gemm gemm;
  const cutlass::Status status = gemm(arguments);
  const int error = static_cast<int>(cudaDeviceSynchronize());
  return error != 0 ? error : status == cutlass::Status::kSuccess ? 0 : 1000 + static_cast<int>(status);
}

template <int m, int n, int k>
using Shape = cutlass::gemm::GemmShape<m, n, k>;
