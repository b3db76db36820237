// dequantize: rows in runs of 512 codes, values looked up in registers. Floor: a copy of the bytes read and written. A
// result larger than what a core has of the caches goes past them, which saves the read of its lines.
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
  bool past;
};

// The values of a chunk of codes, scaled; n of them are there.
template <DType T, class Lookup>
LOWBIT_INLINE void write_chunk(const Lookup& lookup, Ints codes, const Steps& s, int64_t at, int64_t n, void* out,
                               bool past) {
  Floats v[4];
  lookup(codes, v);
  if (n >= kChunk) {
    LOWBIT_UNROLL
    for (int q = 0; q < 4; ++q) {
      const int64_t i = at + kLanes * q;
      if (s.zero != nullptr) v[q] = sub(v[q], load(s.zero + i * s.zero_step));
      if (s.scale != nullptr) v[q] = mul(v[q], load(s.scale + i * s.scale_step));
    }
    if constexpr (T == DType::kF32) {
      auto* p = static_cast<float*>(out);
      LOWBIT_UNROLL
      for (int q = 0; q < 4; ++q) past ? stream(p + kLanes * q, v[q]) : store(p + kLanes * q, v[q]);
    } else {
      auto* p = static_cast<uint16_t*>(out);
      LOWBIT_UNROLL
      for (int q = 0; q < 4; ++q) store_halves(p + kLanes * q, T == DType::kBF16 ? to_bf16(v[q]) : to_f16(v[q]));
    }
    return;
  }
  for (int q = 0; q < 4 && kLanes * q < n; ++q) {
    const int64_t i = at + kLanes * q;
    if (s.zero != nullptr) v[q] = sub(v[q], load(s.zero + i * s.zero_step));
    if (s.scale != nullptr) v[q] = mul(v[q], load(s.scale + i * s.scale_step));
    store_as(out, T, kLanes * q, n - kLanes * q, v[q]);
  }
}

template <DType T, class Lookup>
bool dequantize_rows(const Job& job, const Lookup& lookup, int64_t begin, int64_t end) {
  constexpr int64_t kSize = T == DType::kF32 ? 4 : 2;
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
      char* to = static_cast<char*>(out.data) + (i * out.row_stride + c) * kSize;
      for (int64_t j = 0; j < n; j += kChunk) {
        const Ints chunk = codes[j / kChunk];
        if (job.ternary) good &= !any_equal_bytes(chunk, bytes(2));
        write_chunk<T>(lookup, chunk, s, j, n - j, to + j * kSize, job.past);
      }
    }
  }
  if (job.past) stream_fence();
  return good;
}

template <class Lookup>
bool dequantize_rows(const Job& job, const Lookup& lookup, int64_t begin, int64_t end) {
  switch (job.a.out.dtype) {
    case DType::kF32: return dequantize_rows<DType::kF32>(job, lookup, begin, end);
    case DType::kBF16: return dequantize_rows<DType::kBF16>(job, lookup, begin, end);
    default: return dequantize_rows<DType::kF16>(job, lookup, begin, end);
  }
}

// Whether a result goes past the caches: vectors begin at multiples of a line.
bool goes_past(const Matrix& out) {
  constexpr int64_t kCached = int64_t{1} << 25;  // bytes
  return out.dtype == DType::kF32 && out.rows * out.cols * 4 >= kCached &&
         reinterpret_cast<uintptr_t>(out.data) % 64 == 0 && out.row_stride % 16 == 0;
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
  const Job job = {a, layout_kind(f, w.codes.layout), f.kind == Kind::kInt && f.rule == kTernary, goes_past(a.out)};
  float values[256];
  ref::decode_table(f, w.codes.codebook, values);
  bool good = true;
  with_lookup(values, f.bits, [&](const auto& lookup) { good = run(job, lookup, parallel); });
  if (!good) return ref::dequantize(a, parallel);  // it says what is wrong
  cpu::ran(LOWBIT_KERNEL("dequantize"));
  return Status();
}

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
