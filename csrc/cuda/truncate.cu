// truncate of pack.h.
#include <algorithm>

#include "cuda/pack.h"
#include "cuda/tile/code_rows.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {
namespace {

constexpr const char* kOp = "truncate";
constexpr int kThreads = 256;

// floor(code / 2^drop), 32 codes a thread.
__global__ void __launch_bounds__(kThreads)
    shift_rows(const CodeRows from, const CodeRows to, const Tiling tiling, const int drop) {
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  Codes32 x = from.load(p.r, p.c / kVector);
  const uint32_t kept = (0xffu >> drop) * 0x01010101u;
#pragma unroll
  for (int i = 0; i < 8; ++i) x.word[i] = x.word[i] >> drop & kept;
  to.store(p.r, p.c / kVector, x);
}

struct ValuesJob {
  const void* in = nullptr;
  void* out = nullptr;
  DType in_dtype = DType::kF32, out_dtype = DType::kF32;
  int64_t count = 0;
  int drop = 0;
  bool is_zero = false;
  ElementFormat format = {};  // of zero points
  int32_t* findings = nullptr;
};

__global__ void __launch_bounds__(kThreads) truncate_values(const ValuesJob job) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < job.count; i += step) {
    const float before = load_value(job.in, job.in_dtype, i);
    const float v =
        job.is_zero ? ref::truncated_zero(job.format, before, job.drop) : ref::truncated_scale(before, job.drop);
    if (!job.is_zero && !is_finite(round_to(job.out_dtype, v))) report(job.findings, kScaleOverflow);
    store_value(job.out, job.out_dtype, i, v);
  }
}

Status run(const ValuesJob& job, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(kOp, call, &device));
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(ceil_divide(job.count, kThreads), 65535));
  return launch(kOp, truncate_values, dim3(blocks), dim3(kThreads), 0, call.stream, job);
}

Status copied(cudaError_t error) { return check_error(kOp, "cudaMemcpy2DAsync", error); }

}  // namespace

Status truncate(const Codes& codes, int bits, void* out, const Call& call) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(device_of(kOp, call, &device));
  LOWBIT_RETURN_IF_ERROR(check_size(kOp, "w", codes.rows, codes.cols));
  if (codes.rows == 0 || codes.cols == 0) return Status();
  if (codes.layout == Layout::kPlain) {
    const CodeRows from = CodeRows::of(codes), to = CodeRows::plain(static_cast<uint8_t*>(out), codes.format->bits,
                                                                    codes.rows, codes.cols, codes.cols);
    const Tiling tiling = Tiling::of(codes.rows, ceil_divide(codes.cols, 32) * kVector);
    return launch(kOp, shift_rows, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)), 0, call.stream,
                  from, to, tiling, codes.format->bits - bits);
  }
  const int64_t width = 4 * canonical_row(Canonical::kPlanes, codes.cols), plane = width * codes.rows;
  const auto* from = static_cast<const char*>(codes.data);
  auto* to = static_cast<char*>(out);
  if (4 * codes.row_stride == width) {  // planes without gaps, one copy
    return copied(cudaMemcpy2DAsync(
        to, static_cast<size_t>(plane), from, static_cast<size_t>(bits > 1 ? 4 * codes.plane_stride : plane),
        static_cast<size_t>(plane), static_cast<size_t>(bits), cudaMemcpyDeviceToDevice, call.stream));
  }
  for (int b = 0; b < bits; ++b) {
    LOWBIT_RETURN_IF_ERROR(copied(cudaMemcpy2DAsync(
        to + b * plane, static_cast<size_t>(width), from + 4 * b * codes.plane_stride,
        static_cast<size_t>(codes.rows > 1 ? 4 * codes.row_stride : width), static_cast<size_t>(width),
        static_cast<size_t>(codes.rows), cudaMemcpyDeviceToDevice, call.stream)));
  }
  return Status();
}

Status truncate_scales(const void* scale, DType dtype, int64_t count, int drop, void* out, const Call& call) {
  ValuesJob job;
  job.in = scale, job.out = out;
  job.in_dtype = job.out_dtype = dtype;
  job.count = count, job.drop = drop;
  job.findings = call.findings;
  return run(job, call);
}

Status truncate_zeros(const ElementFormat& f, const void* zero, DType dtype, int64_t count, int drop, float* out,
                      const Call& call) {
  ValuesJob job;
  job.in = zero, job.out = out;
  job.in_dtype = dtype;
  job.count = count, job.drop = drop;
  job.is_zero = true;
  job.format = f;
  return run(job, call);
}

}  // namespace lowbit::cuda
