#include <algorithm>

#include "cuda/scaling.h"
#include "cuda/tile/scales.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

struct ScaleJob {
  ScaleMaker maker;
  ExtentStore extents;
  CodeLayout codes;
  int32_t rows = 0, cols = 0;
  int unit = 1;       // scales that share a storage unit, which one thread writes
  int32_t units = 0;  // in a row
  void* scale = nullptr;
  uint8_t* zero = nullptr;
  // of the scales of the scales
  uint32_t* second_extents = nullptr;
  void* second = nullptr;
  DType second_dtype = DType::kF32;
  Divisor second_block_rows, second_block_cols;
  int32_t second_cols = 0;
  int32_t* findings = nullptr;

  __device__ __forceinline__ int64_t second_of(int32_t r, int32_t c) const {
    return int64_t{second_block_rows(r)} * second_cols + second_block_cols(c);
  }
  __device__ __forceinline__ bool is_first_of_second(int32_t r, int32_t c) const {
    return second_block_rows(r) * second_block_rows.size == r && second_block_cols(c) * second_block_cols.size == c;
  }
};

// One row of scales, or of its storage units, in gridDim.x blocks of threads; rows walk on by gridDim.y.
__global__ void __launch_bounds__(kThreads) second_extents(const ScaleJob job) {
  for (int32_t r = static_cast<int32_t>(blockIdx.y); r < job.rows; r += static_cast<int32_t>(gridDim.y)) {
    const auto c = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
    const bool valid = c < job.cols;
    const int64_t to = valid ? job.second_of(r, c) : -1;
    const uint32_t width = valid ? to_bits(job.extents.get(int64_t{r} * job.cols + c).width()) : 0u;
    if (__all_sync(0xffffffffu, to == __shfl_sync(0xffffffffu, to, 0))) {
      const uint32_t most = ptx::redux_max_u32(width);
      if (threadIdx.x % 32 == 0 && valid) atomicMax(job.second_extents + to, most);
    } else if (valid) {
      atomicMax(job.second_extents + to, width);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 3) scales(const ScaleJob job) {
  const ScaleMaker& maker = job.maker;
  const auto unit = static_cast<int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (unit >= job.units) return;
  const float unit_extent = maker.unit_extent();
  const int32_t c0 = unit * job.unit, count = min(job.unit, job.cols - c0);
  for (int32_t r = static_cast<int32_t>(blockIdx.y); r < job.rows; r += static_cast<int32_t>(gridDim.y)) {
    uint32_t words[8] = {};
#pragma unroll 1
    for (int32_t i = 0; i < count; ++i) {
      const int32_t c = c0 + i;
      const int64_t block = int64_t{r} * job.cols + c;
      const Extent e = job.extents.get(block);
      float value, second = 1.0f;
      if (job.second != nullptr) {
        const int64_t to = job.second_of(r, c);
        second = stored_scale_of(from_bits(job.second_extents[to]) / (unit_extent * maker.largest), job.second_dtype);
        if (job.is_first_of_second(r, c)) {
          store_value(job.second, job.second_dtype, to, second);
          if (!is_finite(second)) report(job.findings, kScaleOverflow);
        }
      }
      if (maker.kind == ScaleMaker::Kind::kFloat) {
        value = maker.stored(e.width(), unit_extent);
        store_value(job.scale, maker.dtype, block, value);
        if (!is_finite(value)) report(job.findings, kScaleOverflow);
      } else {
        const uint32_t code =
            maker.code(e.width(), unit_extent, job.second != nullptr ? unit_extent * second : unit_extent);
        value = maker.value(code) * second;
        if (job.unit == 1) {
          job.codes.bytes(r)[c] = static_cast<uint8_t>(code);
        } else if (job.unit == 32) {
#pragma unroll
          for (int b = 0; b < 8; ++b) words[b] |= (code >> b & 1u) << i;
        } else {
          words[0] |= code << (job.codes.bits * i);
        }
      }
      if (job.zero != nullptr) job.zero[block] = static_cast<uint8_t>(maker.zero_code(e, value * maker.unit));
    }
    if (maker.kind == ScaleMaker::Kind::kFloat || job.unit == 1) continue;
    if (job.unit == 32) {
      auto* to = static_cast<uint32_t*>(job.codes.data) + r * job.codes.row_stride + unit;
#pragma unroll
      for (int b = 0; b < 8; ++b) {
        if (b < job.codes.bits) to[(job.codes.bits - 1 - b) * job.codes.plane_stride] = words[b];
      }
    } else {
      const int bytes = job.unit == 4 ? 3 : 1;
      for (int b = 0; b < bytes; ++b) {
        job.codes.bytes(r)[unit * bytes + b] = static_cast<uint8_t>(words[0] >> (8 * b));
      }
    }
  }
}

dim3 grid_of(int64_t cols, int64_t rows) {
  return dim3(static_cast<unsigned>(ceil_divide(cols, kThreads)),
              static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
}

int64_t extent_count(const Scaling& s) { return s.scale.rows * s.scale.cols * (s.asymmetric ? 2 : 1); }

}  // namespace

int64_t extents_workspace(const Scaling& s) {
  return 4 * (extent_count(s) + (s.spec.scale_has_scale ? s.scale2.rows * s.scale2.cols : 0));
}

Status clear_extents(const char* op, const Scaling& s, const Call& call) {
  const int64_t bytes = extents_workspace(s);
  if (bytes == 0) return Status();
  return check_error(op, "cudaMemsetAsync",
                     cudaMemsetAsync(call.workspace, 0, static_cast<size_t>(bytes), call.stream));
}

Status make_scales(const char* op, const Scaling& s, const Call& call) {
  ScaleJob job;
  job.maker = ScaleMaker(s);
  job.extents = extent_store(s, call);
  job.rows = static_cast<int32_t>(s.scale.rows);
  job.cols = static_cast<int32_t>(s.scale.cols);
  job.scale = s.scale.data;
  job.zero = static_cast<uint8_t*>(s.zero.data);
  job.findings = call.findings;
  if (s.spec.scale != nullptr) {
    job.codes = CodeLayout::contiguous(*s.spec.scale, Layout::kCanonical, s.scale.data, job.rows, job.cols);
    const Canonical kind = job.codes.kind;
    job.unit = kind == Canonical::kPlanes ? 32 : kind == Canonical::kPacked6 ? 4 : kind == Canonical::kPacked4 ? 2 : 1;
  }
  job.units = static_cast<int32_t>(ceil_divide(job.cols, job.unit));
  if (s.spec.scale_has_scale) {
    job.second_extents = static_cast<uint32_t*>(call.workspace) + extent_count(s);
    job.second = s.scale2.data;
    job.second_dtype = s.scale2.dtype;
    job.second_block_rows = Divisor(s.spec.scale_block.rows);
    job.second_block_cols = Divisor(s.spec.scale_block.cols);
    job.second_cols = static_cast<int32_t>(s.scale2.cols);
    LOWBIT_RETURN_IF_ERROR(
        launch(op, second_extents, grid_of(job.cols, job.rows), dim3(kThreads), 0, call.stream, job));
  }
  return launch(op, scales, grid_of(job.units, job.rows), dim3(kThreads), 0, call.stream, job);
}

}  // namespace lowbit::cuda
