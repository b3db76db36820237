// dequantize: rows in runs of 512 codes, values looked up in registers.
#include <atomic>

#include "cpu/avx512/code_runs.h"
#include "cpu/avx512/lookup.h"
#include "cpu/avx512/quantize.h"
#include "cpu/avx512/spread.h"
#include "cpu/avx512/values.h"
#include "cpu/dispatch.h"

namespace lowbit::avx512 {
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
        const __m512i chunk = codes[j / kChunk];
        if (job.ternary) good &= _mm512_cmpeq_epi8_mask(chunk, _mm512_set1_epi8(2)) == 0;
        __m512 v[4];
        lookup(chunk, v);
        for (int q = 0; q < 4 && j + 16 * q < n; ++q) {
          const int64_t at = j + 16 * q;
          if (s.zero != nullptr) v[q] = _mm512_sub_ps(v[q], _mm512_loadu_ps(s.zero + at * s.zero_step));
          if (s.scale != nullptr) v[q] = _mm512_mul_ps(v[q], _mm512_loadu_ps(s.scale + at * s.scale_step));
          store16(out.data, out.dtype, i * out.row_stride + c + at, lanes(at, n), v[q]);
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
  cpu::ran("dequantize:avx512");
  return Status();
}

}  // namespace lowbit::avx512
