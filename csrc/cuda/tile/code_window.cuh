// Bit planes of weights on their way through shared memory. A step of 64 columns is two words of a row of a plane, a
// quarter of a sector of 32 bytes; so cp.async brings whole sectors, 256 columns of every row and plane, and the steps
// within them take their codes from there. A ring of two windows of `bits` planes, each as in value_window.cuh; of
// mixed widths a ring for either matrix.
#pragma once

#include <cstdint>

#include "cuda/tile/operand.cuh"

namespace lowbit::cuda {

template <int kRows>
struct CodeWindows {
  static constexpr int kColumns = 32 * kWindowWords, kPlane = ValueWindow::kWords<kRows>;

  static __host__ __device__ int64_t bytes(const Operand& o) {
    return int64_t{4} * kPlane * 2 * (o.low.format.row.bits + (o.high_groups != nullptr ? o.high.format.row.bits : 0));
  }
  static __device__ __forceinline__ uint32_t* window(const Operand& o, uint32_t* rings, int source, int32_t index) {
    const int bits = source != 0 ? o.high.format.row.bits : o.low.format.row.bits;
    return rings + kPlane * ((source != 0 ? 2 * o.low.format.row.bits : 0) + (index & 1) * bits);
  }

  // All threads bring window `index` of the rows from row0 on; those from row_end on are copies of the last. `step`:
  // bytes to the codes of an expert.
  template <int kThreads>
  static __device__ __forceinline__ void copy(const Operand& o, int64_t step, int source, int32_t index, int32_t row0,
                                              int32_t row_end, uint32_t* rings, int thread) {
    const CodeLayout& codes = source != 0 ? o.high.codes : o.low.codes;
    const int word = thread % kWindowWords;
    const int32_t at = index * kWindowWords + word;
    const int bytes = 32 * at < codes.cols ? 4 : 0;
    const auto* from =
        reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(codes.data) + step) + (bytes > 0 ? at : 0);
    uint32_t* to = window(o, rings, source, index) + word * (kRows + 4);
#pragma unroll 1
    for (int b = 0; b < codes.bits; ++b, from += codes.plane_stride, to += kPlane) {
#pragma unroll 1
      for (int row = thread / kWindowWords; row < kRows; row += kThreads / kWindowWords) {
        const int32_t r = min(row0 + row, row_end - 1);
        ptx::cp_async_ca_4(ptx::shared_address(to + row), from + r * codes.row_stride, bytes);
      }
    }
  }

  // As Operand::read, of row `row` of the windows.
  static __device__ __forceinline__ Codes16 read(const Operand& o, uint32_t* rings, int row, int32_t c, int n) {
    Codes16 out;
    if (o.high_groups != nullptr) {
      const Operand::Column at = o.column_of(c);
      c = at.column, out.source = at.source;
    }
    const int bits = out.source != 0 ? o.high.format.row.bits : o.low.format.row.bits;
    const int32_t first = c / 32, second = (c + n - 1) / 32;
    const int shift = c % 32;
    const uint32_t* from = word(o, rings, out.source, first) + row;
    const uint32_t* next = word(o, rings, out.source, second) + row;
#pragma unroll 1
    for (int b = 0; b < bits; ++b, from += kPlane, next += kPlane) {
      uint32_t plane = *from >> shift;
      if (second != first) plane |= *next << (32 - shift);
      out.push_plane(plane, n);
    }
    return out;
  }

 private:
  static __device__ __forceinline__ const uint32_t* word(const Operand& o, uint32_t* rings, int source, int32_t at) {
    return window(o, rings, source, at / kWindowWords) + at % kWindowWords * (kRows + 4);
  }
};

}  // namespace lowbit::cuda
