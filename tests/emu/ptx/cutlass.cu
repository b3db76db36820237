// A tensor core GEMM of CUTLASS with its multistage pipeline.
#include <cutlass/gemm/device/gemm.h>

using Gemm = cutlass::gemm::device::Gemm<int8_t, cutlass::layout::RowMajor, int8_t, cutlass::layout::ColumnMajor,
                                         int32_t, cutlass::layout::RowMajor, int32_t, cutlass::arch::OpClassTensorOp,
                                         cutlass::arch::Sm80, cutlass::gemm::GemmShape<128, 128, 64>,
                                         cutlass::gemm::GemmShape<64, 64, 64>, cutlass::gemm::GemmShape<16, 8, 32>>;

int run(const Gemm::Arguments& arguments) {
  Gemm gemm;
  return static_cast<int>(gemm(arguments));
}
