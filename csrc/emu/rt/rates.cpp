#include "emu/rt/rates.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace emu {
namespace {

// Ordinary instructions: the table "Throughput of Native Arithmetic Instructions" of the CUDA C++ Programming Guide
// (12.6 for 8.x and 9.0), results of one SM and clock. `cvt` is its row "all other type conversions", 16; those that
// ptxas makes ALU instructions of count as integers, 64 (exec/convert.cpp). `f16` counts lanes of two halves: where
// that table and the whitepapers differ (8.6: 256 results, against 35.6 TFLOPS of the RTX 3090), the whitepaper's,
// which microbenchmarks confirm. Of 12.x, for which no such table was found:
//   f32 f16 f64   RTX Blackwell GPU Architecture (2025), appendix A: 104.8 TFLOPS f32 and f16, f64 at 1/64 of f32
//   int           the same: 104.8 TOPS, twice Ada's. Multiply-adds were measured at half of that (IMAD on an RTX 5080,
//                 NVIDIA developer forum, thread 320578), so that the bound is a low one where they prevail
//   cvt sfu shfl  no document: those of 8.9
// Tensor rates, from the peak of the named board divided by its SMs and boost clock:
//   80   A100 whitepaper (2020), table of peak rates: 312 TFLOPS f16, 156 tf32, 624 TOPS s8, 1248 s4, 19.5 f64; b1 is
//        four times s4 (4992), which that table leaves out: its document was not found again
//   86   GA102 whitepaper (2021), appendix A, RTX 3090: 71 TFLOPS f16 with f32 sums, 142 with f16 sums, 35.6 tf32,
//        284 TOPS s8, 568 s4; b1: no document
//   89   Ada whitepaper (2023, v2.1), appendix A, RTX 4090: 165.2 / 330.3 TFLOPS f16, 82.6 tf32, 660.6 TOPS s8,
//        1321.2 s4, FP8 330.3 with f32 sums (its note 4 corrects 660.6 of older versions) and 660.6 with f16 sums;
//        b1: no document
//   90   H100 whitepaper (2023), table 2, SXM5, reached by wgmma: 989.4 TFLOPS f16, 494.7 tf32, 1978.9 s8, 66.9 f64.
//        mma.sync reached 62.9 % of them on average in "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture
//        via Microbenchmarking" (Luo et al., 2024); the row is what mma.sync reaches. FP8 mma.sync becomes f16 there
//   120  RTX Blackwell whitepaper (2025), appendix A, RTX 5090: 209.5 / 419 TFLOPS f16, 104.8 tf32, 838 TOPS s8,
//        FP8 419 with f32 sums and 838 with f16 sums, FP4 1676 (3352 with sparsity, the "AI TOPS" of the data sheet)
//   121  no document but "1 PFLOP FP4" with sparsity: 500 TFLOPS of 48 SMs are 2048 multiply-adds at 2540 MHz, so the
//        row of 120
constexpr double kMmaSyncOnHopper = 0.629;
constexpr int hopper(int wgmma) { return static_cast<int>(wgmma * kMmaSyncOnHopper); }
constexpr Rates kRates[] = {
    //    f32 f16  f64 int cvt sfu shfl | f16_f32 f16_f16 tf32 f64 s8 s4 b1 fp8_f32 fp8_f16 fp4_f32
    {80, 64, 128, 32, 64, 16, 16, 32, 1024, 1024, 512, 64, 2048, 4096, 16384, 0, 0, 0},
    {86, 128, 64, 2, 64, 16, 16, 32, 256, 512, 128, 0, 1024, 2048, 0, 0, 0, 0},
    {89, 128, 64, 2, 64, 16, 16, 32, 256, 512, 128, 0, 1024, 2048, 0, 512, 1024, 0},
    {90, 128, 128, 64, 64, 16, 16, 32, hopper(2048), hopper(2048), hopper(1024), hopper(128), hopper(4096), 0, 0,
     hopper(2048), hopper(2048), 0},
    {120, 128, 64, 2, 128, 16, 16, 32, 256, 512, 128, 0, 1024, 0, 0, 512, 1024, 2048},
    {121, 128, 64, 2, 128, 16, 16, 32, 256, 512, 128, 0, 1024, 0, 0, 512, 1024, 2048},
};

}  // namespace

const Rates& rates(int arch) {
  for (const Rates& r : kRates) {
    if (r.arch == arch) return r;
  }
  return kRates[0];
}

int lanes_per_clock(const Rates& r, Class c) {
  switch (c) {
    case Class::kFloat32: return r.float32;
    case Class::kFloat16: return r.float16;
    case Class::kFloat64: return r.float64;
    case Class::kInteger:
    case Class::kLogic: return r.integer;
    case Class::kConvert: return r.convert;
    case Class::kSpecial: return r.special;
    case Class::kShuffle: return r.shuffle;
    default: return 0;
  }
}

TensorRate tensor_rate(const Rates& r, const std::string& tensor_name) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= tensor_name.size()) {
    const size_t end = std::min(tensor_name.find('.', begin), tensor_name.size());
    parts.push_back(tensor_name.substr(begin, end - begin));
    begin = end + 1;
  }
  TensorRate rate;
  unsigned m = 0, n = 0, k = 0;
  if (parts.size() < 4 || std::sscanf(parts[0].c_str(), "m%un%uk%u", &m, &n, &k) != 3) return rate;
  rate.multiply_adds = static_cast<double>(m) * n * k;
  const std::string &a = parts[1], &d = parts[3];
  bool fp4_kind = false, narrow_kind = false;
  for (const std::string& p : parts) {
    fp4_kind |= p.rfind("mxf4", 0) == 0;
    narrow_kind |= p.find("f8f6f4") != std::string::npos;
  }
  const bool half_sums = d == "f16";
  if (fp4_kind) {
    rate.per_clock = r.fp4_f32;
  } else if (narrow_kind || a == "e4m3" || a == "e5m2") {
    rate.per_clock = half_sums ? r.fp8_f16 : r.fp8_f32;
  } else if (a == "f16" || a == "bf16") {
    rate.per_clock = half_sums ? r.f16_f16 : r.f16_f32;
  } else if (a == "tf32") {
    rate.per_clock = r.tf32;
  } else if (a == "f64") {
    rate.per_clock = r.f64;
  } else if (a == "s8" || a == "u8") {
    rate.per_clock = r.s8;
  } else if (a == "s4" || a == "u4") {
    rate.per_clock = r.s4;
  } else if (a == "b1") {
    rate.per_clock = r.b1;
  }
  return rate;
}

}  // namespace emu
