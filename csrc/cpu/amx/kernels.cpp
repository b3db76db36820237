// The entries of the kernel table that differ from those of AVX-512, and whether there are tiles.
#include "cpu/simd/kernels.h"

#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/amx/engines.h"
#include "cpu/simd/gemm.h"
#include "cpu/simd/gemm_engines.h"

namespace lowbit::amx {
namespace {

constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBF16 = 1u << 22;  // edx of leaf 7

// The state of tiles is not part of a thread until its process asks for it.
bool ask_for_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Rows of x from which tiles are quicker than vpdpbusd: the sums are the same.
constexpr int64_t kLeastRows = 16;

// Rows of x to which FMA is quicker than tiles of bf16, with the same sums.
constexpr int64_t kMostVectorRows = 2;

}  // namespace

bool usable() {
  static const bool is_usable = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kAll = kTile | kInt8 | kBF16;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAll) == kAll && ask_for_tiles();
  }();
  return is_usable;
}

cpu::GemmIsa gemm_isa(int64_t rows) {
  cpu::GemmIsa isa = avx512::gemm_isa(rows);
  isa.engines[static_cast<int>(cpu::Numbers::kBF16)] =
      rows <= kMostVectorRows ? &avx512::kBF16StepEngine : &kBF16Engine;
  if (rows >= kLeastRows) {
    isa.engines[static_cast<int>(cpu::Numbers::kInt8)] = &kInt8Engine;
    for (int i = 0; i < cpu::kSegmentEngines; ++i) {
      isa.segments[0][i] = &kIntegerSegmentEngines[i];
      isa.segments[1][i] = &kFloatSegmentEngines[i];
    }
    for (int i = 0; i < 2; ++i) isa.scaled[i] = &kScaledEngines[i];
  }
  return isa;
}

void override_kernels(cpu::Kernels* table) {
  avx512::override_kernels(table);
  table->bitplane_gemm = bitplane_gemm;
  table->dequant_gemm = dequant_gemm;
  table->scaled_gemm = scaled_gemm;
}

}  // namespace lowbit::amx
