// The int8 engine: weights as unsigned bytes u = value + offset, activations as signed ones, vpdpbusd into int32, as in
// cpu/avx512. Every product fits, so that it serves where AVX2 needs an engine of 16 bits too.
//
// Floors: those of cpu/avx2/int8_gemm.cpp for few rows; M large, two vpdpbusd a cycle, 64 products.
#include "cpu/avx2/byte_sums.h"

namespace lowbit::avx2 {

void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out);
cpu::GemmIsa gemm_isa(int64_t rows);

}  // namespace lowbit::avx2

namespace lowbit::avxvnni {
namespace {

struct Int8Math : ByteSums {
  static constexpr bool kPartials = false;
  static LOWBIT_INLINE Ints dot(Ints sum, Ints w, Ints x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
};

}  // namespace

const cpu::Engine kInt8Engine = engine<Int8Math>(128);

void unpack_quads(const Codes& codes, int64_t row, int64_t quad, int32_t quads, uint8_t* out) {
  avx2::unpack_quads(codes, row, quad, quads, out);
}

cpu::GemmIsa gemm_isa(int64_t rows) {
  cpu::GemmIsa isa = avx2::gemm_isa(rows);
  isa.engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
  isa.engines[static_cast<int>(cpu::Numbers::kInt16)] = nullptr;
  return isa;
}

}  // namespace lowbit::avxvnni
