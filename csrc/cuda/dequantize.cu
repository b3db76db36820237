// dequantize of quantize.h.
#include "cuda/quantize.h"
#include "cuda/quantize_complex.h"
#include "cuda/tile/blocks.cuh"
#include "cuda/tile/row_ids.cuh"
#include "cuda/tile/vectors.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

struct DequantizeJob {
  CodeLayout codes;
  DeviceFormat format;
  const float* codebook = nullptr;
  bool is_ternary = false;
  DeviceValues scale, zero;
  const int64_t* ids = nullptr;
  Matrix out;
  bool aligned = false;
  int32_t rows = 0, cols = 0, w_rows = 0;
  Tiling tiling;
  int32_t* findings = nullptr;
  // mixed widths (qmatrix.h)
  CodeLayout high;
  DeviceFormat high_format;
  const float* high_codebook = nullptr;
  const int32_t* high_groups = nullptr;
  int32_t high_count = 0;
  Divisor group_of;

  __device__ __forceinline__ RowId row_of(int32_t out_row, bool valid) const {
    return row_id(ids, out_row, valid, w_rows, findings);
  }
  // decode(code) of one element.
  __device__ __forceinline__ float raw(int32_t r, int32_t c) const {
    if (high_groups == nullptr) return decode_one(format, codes.get(r, c), codebook);
    const int32_t group = group_of(c);
    int32_t before = 0, n = high_count;  // high groups below this one
    while (n > 0) {
      const int32_t half = n / 2;
      if (high_groups[before + half] < group) {
        before += half + 1;
        n -= half + 1;
      } else {
        n = half;
      }
    }
    const bool is_high = before < high_count && high_groups[before] == group;
    const int32_t col = c + ((is_high ? before : group - before) - group) * group_of.size;
    return is_high ? decode_one(high_format, high.get(r, col), high_codebook)
                   : decode_one(format, codes.get(r, col), codebook);
  }
  __device__ __forceinline__ float value(int32_t r, int32_t c) const {
    float v = raw(r, c);
    if (zero) v -= zero.at(r, c);
    if (scale) {
      const float s = scale.at(r, c);
      if (!is_finite(s)) report(findings, kBadScale);
      v *= s;
    }
    return v;
  }
};

template <class Coder>
__global__ void __launch_bounds__(kThreads, 4) dequantize(const DequantizeJob job, const Coder given) {
  __shared__ float table[kCoderTable<Coder> + 1];
  Coder coder = given;
  fill(coder, table);
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < job.rows;
  const RowId id = job.row_of(p.r, valid);
  const int32_t r = id.row;
  const bool there = id.valid && p.c < job.cols;
  Codes8 codes = job.codes.load(r, p.c, id.valid);
  if (job.is_ternary) {  // 2 is no code: high bit without low bit
    const uint32_t low = codes.low & ~(codes.low << 1), high = codes.high & ~(codes.high << 1);
    if (((low | high) & 0x02020202u) != 0) report(job.findings, kBadCode);
  }
  float v[kVector] = {};
  if (!there) {  // the lane has zeros to store, or nothing
  } else if ((!job.scale || job.scale.is_uniform()) && (!job.zero || job.zero.is_uniform())) {
    const float s = job.scale ? job.scale.at(r, p.c) : 1.0f, z = job.zero ? job.zero.at(r, p.c) : 0.0f;
    if (!is_finite(s)) report(job.findings, kBadScale);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      v[i] = coder.value(codes.get(i));
      if (job.zero) v[i] -= z;
      if (job.scale) v[i] *= s;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = coder.value(codes.get(i));
#pragma unroll 1
    for (int i = 0; i < kVector; ++i) {
      if (p.c + i < job.cols) {
        if (job.zero) v[0] -= job.zero.at(r, p.c + i);
        const float s = job.scale ? job.scale.at(r, p.c + i) : 1.0f;
        if (!is_finite(s)) report(job.findings, kBadScale);
        if (job.scale) v[0] *= s;
      }
      turn(v);
    }
  }
  store_vector(job.out, job.aligned, p.r, p.c, valid, v);
}

__global__ void __launch_bounds__(kThreads) dequantize_mixed(const DequantizeJob job) {
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < job.rows;
  const RowId id = job.row_of(p.r, valid);
  float v[kVector] = {};
#pragma unroll 1
  for (int i = 0; i < kVector; ++i) {
    if (id.valid && p.c + i < job.cols) v[0] = job.value(id.row, p.c + i);
    turn(v);
  }
  store_vector(job.out, job.aligned, p.r, p.c, valid, v);
}

// One warp a row of the output; the first entry of a column adds all of that column, in their order.
__global__ void __launch_bounds__(kThreads) add_outliers(const DequantizeJob job, const Outliers outliers) {
  const auto row = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (row >= job.rows) return;
  const auto out_row = static_cast<int32_t>(row);
  const RowId id = job.row_of(out_row, true);
  if (!id.valid) return;
  const int32_t r = id.row;
  const int32_t begin = outliers.offsets[r], end = outliers.offsets[r + 1];
  for (int32_t i = begin + static_cast<int32_t>(threadIdx.x % 32); i < end; i += 32) {
    const int32_t c = outliers.cols[i];
    bool first = true;
    for (int32_t j = begin; j < i && first; ++j) first = outliers.cols[j] != c;
    if (!first) continue;
    float v = job.value(r, c);
    for (int32_t j = i; j < end; ++j) {
      if (outliers.cols[j] == c) v += load_value(outliers.values, outliers.dtype, j);
    }
    store_value(job.out.data, job.out.dtype, out_row * job.out.row_stride + c * job.out.col_stride, v);
  }
}

}  // namespace

Status dequantize(const DequantizeArgs& a, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(a.op, call, &device));
  LOWBIT_RETURN_IF_ERROR(check_size(a.op, "w", a.rows, a.w.cols));
  if (a.rows == 0 || a.w.cols == 0) return Status();
  const Codes& codes = a.w.codes;
  for (const Codes* c : {&codes, a.w.high}) {
    if (c != nullptr && is_tiled(c->layout)) {
      return invalid(a.op,
                     ": w must be canonical or plain on CUDA, got tile16; lowbit.ops.unprepack makes it canonical");
    }
  }
  const ElementFormat& f = *codes.format;
  if (f.is_complex()) return dequantize_complex(a, call);
  DequantizeJob job;
  job.codes = CodeLayout::of(codes);
  job.format = DeviceFormat(f);
  job.codebook = codes.codebook;
  job.is_ternary = f.is_int() && f.rule == kTernary;
  job.scale = DeviceValues(a.w.scale);
  job.zero = DeviceValues(a.w.zero);
  job.ids = a.ids;
  job.out = a.out;
  job.out.cols = a.w.cols;
  job.aligned = is_vector_aligned(a.out);
  job.rows = static_cast<int32_t>(a.rows);
  job.cols = static_cast<int32_t>(a.w.cols);
  job.w_rows = static_cast<int32_t>(codes.rows);
  job.tiling = Tiling::of(a.rows, a.w.cols);
  job.findings = call.findings;
  const dim3 grid(job.tiling.grid()), block(kThreads);
  if (a.w.high != nullptr) {
    job.high = CodeLayout::of(*a.w.high);
    job.high_format = DeviceFormat(*a.w.high->format);
    job.high_codebook = a.w.high->codebook;
    job.high_groups = a.w.high_groups;
    job.high_count = static_cast<int32_t>(a.w.high_count);
    job.group_of = Divisor(a.w.group);
    LOWBIT_RETURN_IF_ERROR(launch(a.op, dequantize_mixed, grid, block, 0, call.stream, job));
  } else if (f.is_int()) {
    LOWBIT_RETURN_IF_ERROR(launch(a.op, dequantize<IntCoder>, grid, block, 0, call.stream, job, IntCoder(f)));
  } else if (f.is_float() && f.specials != kPower) {
    LOWBIT_RETURN_IF_ERROR(launch(a.op, dequantize<FloatCoder>, grid, block, 0, call.stream, job, FloatCoder(f)));
  } else {
    LOWBIT_RETURN_IF_ERROR(
        launch(a.op, dequantize<LookupCoder>, grid, block, 0, call.stream, job, LookupCoder(f, codes.codebook)));
  }
  if (a.w.outliers.offsets == nullptr) return Status();
  return launch(a.op, add_outliers, dim3(static_cast<unsigned>(ceil_divide(a.rows, kThreads / 32))), block, 0,
                call.stream, job, a.w.outliers);
}

}  // namespace lowbit::cuda
