// complex2: phase classes and the two scales of a block, and back.
#include "cuda/quantize.h"
#include "cuda/quantize_complex.h"
#include "cuda/tile/blocks.cuh"
#include "cuda/tile/row_ids.cuh"
#include "cuda/tile/vectors.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

struct ComplexJob {
  Matrix x;  // rows x 2 cols
  bool aligned = false;
  int32_t rows = 0, cols = 0;
  CodeLayout codes;
  Tiling tiling;
  // scales
  void* scale = nullptr;
  DType dtype = DType::kF32;
  int32_t block_rows = 0, block_cols = 0, down = 0, across = 0;  // elements of a block; blocks
  Divisor row_of;
  int32_t* findings = nullptr;
};

__global__ void __launch_bounds__(kThreads) complex_codes(const ComplexJob job) {
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < job.rows;
  Codes8 codes;
  float v[2 * kVector];
  load_vector(job.x, job.aligned, p.r, 2 * p.c, valid, v);
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    finite = finite && is_finite(v[2 * i]) && is_finite(v[2 * i + 1]);
    codes.put(i, encode_complex(v[2 * i], v[2 * i + 1]));  // zeros past the end are class 0
  }
  if (!finite) report(job.findings, kNonFinite);
  job.codes.store(p.r, p.c, valid, codes);
}

// Real and imaginary part of column c of row r, in one access where rows are aligned.
__device__ __forceinline__ void load_complex(const Matrix& x, bool aligned, int32_t r, int32_t c, float& re,
                                             float& im) {
  const int64_t at = r * x.row_stride + 2 * int64_t{c} * x.col_stride;
  if (!aligned) {
    re = load_value(x.data, x.dtype, at);
    im = load_value(x.data, x.dtype, at + x.col_stride);
  } else if (x.dtype == DType::kF32) {
    const float2 pair = static_cast<const float2*>(x.data)[at / 2];
    re = pair.x, im = pair.y;
  } else {
    const uint32_t pair = static_cast<const uint32_t*>(x.data)[at / 2];
    const bool bf16 = x.dtype == DType::kBF16;
    re = bf16 ? bf16_value(pair & 0xffffu) : f16_value(pair & 0xffffu);
    im = bf16 ? bf16_value(pair >> 16) : f16_value(pair >> 16);
  }
}

// One warp a block. All lanes add the same terms one after the other, as the reference does.
__global__ void __launch_bounds__(kThreads, 3) complex_scales(const ComplexJob job) {
  const auto block = static_cast<int32_t>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
  if (block >= job.down * job.across) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int32_t i = job.row_of(block), j = block - i * job.across;
  const int32_t r0 = i * job.block_rows, c0 = j * job.block_cols;
  const int32_t r1 = min(job.rows - r0, job.block_rows) + r0, c1 = min(job.cols - c0, job.block_cols) + c0;
  double real_sum = 0, imaginary_sum = 0;
  int64_t real_count = 0, imaginary_count = 0;
  for (int32_t r = r0; r < r1; ++r) {
    for (int32_t first = c0; first < c1; first += 32) {
      const int32_t c = first + lane;
      float part = 0;
      bool imaginary = false;
      if (c < c1) {
        float re, im;
        load_complex(job.x, job.aligned, r, c, re, im);
        imaginary = (encode_complex(re, im) & 1u) != 0;
        part = magnitude(imaginary ? im : re);
      }
      const uint32_t mask = __ballot_sync(0xffffffffu, imaginary);
      const int count = min(32, c1 - first);
      imaginary_count += __popc(mask);
      real_count += count - __popc(mask);
      for (int k = 0; k < count; ++k) {
        const auto term = static_cast<double>(__shfl_sync(0xffffffffu, part, k));
        const bool to_imaginary = (mask >> k & 1u) != 0;
        const double sum = (to_imaginary ? imaginary_sum : real_sum) + term;
        real_sum = to_imaginary ? real_sum : sum;
        imaginary_sum = to_imaginary ? sum : imaginary_sum;
      }
    }
  }
  if (lane > 1) return;
  const double sum = lane ? imaginary_sum : real_sum;
  const int64_t count = lane ? imaginary_count : real_count;
  const double mean = count == 0 ? 1.0 : sum / static_cast<double>(count);
  float v = round_to(job.dtype, static_cast<float>(mean));
  if (v == 0) v = 1.0f;
  if (!is_finite(v)) report(job.findings, kScaleOverflow);
  store_value(job.scale, job.dtype, (int64_t{lane} * job.down + i) * job.across + j, v);
}

struct ComplexValues {
  CodeLayout codes;
  DeviceValues real, imaginary;
  const int64_t* ids = nullptr;
  Matrix out;  // rows x 2 cols
  bool aligned = false;
  int32_t rows = 0, cols = 0, w_rows = 0;
  Tiling tiling;
  int32_t* findings = nullptr;
};

__global__ void __launch_bounds__(kThreads, 3) complex_values(const ComplexValues job) {
  const Place p(job.tiling, static_cast<int32_t>(blockIdx.x));
  const bool valid = p.r < job.rows;
  const RowId id = row_id(job.ids, p.r, valid, job.w_rows, job.findings);
  Codes8 codes = job.codes.load(id.row, p.c, id.valid);
  const DeviceValues &real = job.real, &imaginary = job.imaginary;
  float s = 1.0f, t = 1.0f;
  float v[2 * kVector] = {};
#pragma unroll 1
  for (int i = 0; i < kVector; ++i) {
    const int32_t c = p.c + i;
    if (id.valid && c < job.cols) {
      if (real) s = t = real.at(id.row, c);
      if (imaginary) t = imaginary.at(id.row, c);
      if (!is_finite(s) || !is_finite(t)) report(job.findings, kBadScale);
      const Complex z = decode_complex(codes.get(0));
      v[0] = static_cast<float>(z.real) * s;
      v[1] = static_cast<float>(z.imag) * t;
    }
    codes.turn(0);
    turn(v);
    turn(v);
  }
  store_vector(job.out, job.aligned, p.r, 2 * p.c, valid, v);
}

}  // namespace

Status quantize_complex(const QuantizeArgs& a, const Call& call) {
  ComplexJob job;
  job.x = a.x;
  job.x.rows = a.rows;
  job.x.cols = 2 * a.cols;
  job.aligned = is_vector_aligned(a.x);
  job.rows = static_cast<int32_t>(a.rows);
  job.cols = static_cast<int32_t>(a.cols);
  job.codes = CodeLayout::contiguous(*a.scaling.spec.element, a.layout, a.codes, a.rows, a.cols);
  job.tiling = Tiling::of(a.rows, a.cols);
  job.findings = call.findings;
  const char* op = a.scaling.op;
  LOWBIT_RETURN_IF_ERROR(launch(op, complex_codes, dim3(job.tiling.grid()), dim3(kThreads), 0, call.stream, job));
  const BlockStore& s = a.scaling.scale;
  if (!s) return Status();
  const Block block = a.scaling.spec.block;
  job.scale = s.data;
  job.dtype = s.dtype;
  job.block_rows = static_cast<int32_t>(block.rows == 0 ? a.rows : block.rows);
  job.block_cols = static_cast<int32_t>(block.cols == 0 ? a.cols : block.cols);
  job.down = static_cast<int32_t>(s.rows);
  job.across = static_cast<int32_t>(s.cols);
  job.row_of = Divisor(s.cols);
  return launch(op, complex_scales, dim3(static_cast<unsigned>(ceil_divide(s.rows * s.cols, kThreads / 32))),
                dim3(kThreads), 0, call.stream, job);
}

Status dequantize_complex(const DequantizeArgs& a, const Call& call) {
  ComplexValues job;
  job.codes = CodeLayout::of(a.w.codes);
  job.real = DeviceValues(a.w.scale);
  job.imaginary = DeviceValues(a.w.scale_imaginary);
  job.ids = a.ids;
  job.out = a.out;
  job.out.cols = 2 * a.w.cols;
  job.aligned = is_vector_aligned(a.out);
  job.rows = static_cast<int32_t>(a.rows);
  job.cols = static_cast<int32_t>(a.w.cols);
  job.w_rows = static_cast<int32_t>(a.w.codes.rows);
  job.tiling = Tiling::of(a.rows, a.w.cols);
  job.findings = call.findings;
  return launch(a.op, complex_values, dim3(job.tiling.grid()), dim3(kThreads), 0, call.stream, job);
}

}  // namespace lowbit::cuda
