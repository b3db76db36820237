// dequantize: rows in runs of 512 codes, values looked up in registers.
#include <atomic>

#include "cpu/dispatch.h"
#include "cpu/simd/code_runs.h"
#include "cpu/simd/lookup.h"
#include "cpu/simd/quantize.h"
#include "cpu/simd/spread.h"
#include "cpu/simd/values.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

struct Job {
  const DequantizeArgs& a;
  Canonical kind;
  bool ternary;
};

// The values of 512 codes: four registers of floats for each register of bytes.
template <class Lookup>
bool dequantize_rows(const Job& job, const Lookup& lookup, int64_t begin, int64_t end) {
  const QMatrix& w = job.a.w;
  const Matrix& out = job.a.out;
  Spread scale(w.scale), zero(w.zero);
  bool good = true;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t r = job.a.ids == nullptr ? i : job.a.ids[i];
    for (int64_t c = 0; c < w.cols; c += kBlock) {
      const int64_t n = std::min(kBlock, w.cols - c);
      Run codes;
      load_run(w.codes, job.kind, r, c, codes);
      Steps s = {nullptr, nullptr, 0, 0};
      if (w.scale.data != nullptr) s.scale = scale.at(r, c, n, &s.scale_step);
      if (w.zero.data != nullptr) s.zero = zero.at(r, c, n, &s.zero_step);
      if (s.scale != nullptr) good &= all_finite(s.scale, s.scale_step == 0 ? 1 : n);
      for (int64_t j = 0; j < n; j += kChunk) {
        const Ints chunk = codes[j / kChunk];
        if (job.ternary) good &= !any_equal_bytes(chunk, bytes(2));
        Floats v[4];
        lookup(chunk, v);
        for (int q = 0; q < 4 && j + kLanes * q < n; ++q) {
          const int64_t at = j + kLanes * q;
          if (s.zero != nullptr) v[q] = sub(v[q], load(s.zero + at * s.zero_step));
          if (s.scale != nullptr) v[q] = mul(v[q], load(s.scale + at * s.scale_step));
          store_as(out.data, out.dtype, i * out.row_stride + c + at, n - at, v[q]);
        }
      }
    }
  }
  return good;
}

template <class Lookup>
bool run(const Job& job, const Lookup& lookup, const Parallel& parallel) {
  std::atomic<bool> good{true};
  parallel(job.a.rows, 1 + 32768 / (job.a.w.cols + 1), [&](int64_t begin, int64_t end) {
    if (!dequantize_rows(job, lookup, begin, end)) good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

}  // namespace

Status dequantize(const DequantizeArgs& a, const Parallel& parallel) {
  const QMatrix& w = a.w;
  const ElementFormat& f = *w.codes.format;
  if (w.high != nullptr || w.outliers.offsets != nullptr || a.out.col_stride != 1 ||
      (f.kind == Kind::kInt && f.rule == kComplex)) {
    return ref::dequantize(a, parallel);
  }
  const Job job = {a, layout_kind(f, w.codes.layout), f.kind == Kind::kInt && f.rule == kTernary};
  float values[256];
  ref::decode_table(f, w.codes.codebook, values);
  bool good = true;
  with_lookup(values, f.bits, [&](const auto& lookup) { good = run(job, lookup, parallel); });
  if (!good) return ref::dequantize(a, parallel);  // it says what is wrong
  cpu::ran(LOWBIT_KERNEL("dequantize"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
