#include "torch/args.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/stableivalue_conversions.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <vector>

#include "torch/backend.h"

namespace lowbit::bind {

void check(const Status& status) {
  switch (status.code()) {
    case Code::kOk: return;
    case Code::kInvalidArgument: throw std::invalid_argument(status.message());
    case Code::kOutOfMemory: throw std::bad_alloc();
    default: throw std::runtime_error(status.message());
  }
}

Parallel torch_parallel() {
  return {[](int64_t count, int64_t grain, Parallel::Body body, void* context) {
    if (count <= grain) return body(0, count, context);
    torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(begin, end, context); });
  }};
}

std::string shape(const Tensor& t) {
  std::string s = "[";
  for (int64_t i = 0; i < t.dim(); ++i) s += (i ? ", " : "") + std::to_string(t.size(i));
  return s + "]";
}

std::string dtype_name(ScalarType t) {
  switch (t) {
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Half: return "float16";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Bool: return "bool";
    case ScalarType::Float8_e4m3fn: return "float8_e4m3fn";
    case ScalarType::Float8_e5m2: return "float8_e5m2";
    case ScalarType::Float8_e8m0fnu: return "float8_e8m0fnu";
    case ScalarType::Float4_e2m1fn_x2: return "float4_e2m1fn_x2";
    case ScalarType::ComplexFloat: return "complex64";
    default: return "dtype " + std::to_string(static_cast<int>(t));
  }
}

void check_device(const char* op, const char* argument, const Tensor& t) {
  if (!backend::is_here(t)) {
    check(invalid(op, ": ", argument, " must be on ", backend::device_name(),
                  " like the other arguments, got a tensor on another device; move it with .to"));
  }
}

DType float_dtype(const char* op, const char* argument, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    default:
      check(invalid(op, ": ", argument, " must be float32, bfloat16 or float16, got ", dtype_name(t.scalar_type()),
                    "; convert it with .to(torch.float32)"));
      return DType::kF32;
  }
}

DType any_dtype(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    case ScalarType::Int: return DType::kI32;
    case ScalarType::Char: return DType::kI8;
    default: return DType::kU8;
  }
}

bool is_float(const Tensor& t) {
  const ScalarType type = t.scalar_type();
  return type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half;
}

ScalarType scalar_type(DType t) {
  switch (t) {
    case DType::kF32: return ScalarType::Float;
    case DType::kBF16: return ScalarType::BFloat16;
    case DType::kF16: return ScalarType::Half;
    case DType::kI32: return ScalarType::Int;
    case DType::kI8: return ScalarType::Char;
    default: return ScalarType::Byte;
  }
}

DType out_dtype(const char* op, std::optional<ScalarType> asked, DType fallback) {
  if (!asked) return fallback;
  switch (*asked) {
    case ScalarType::Float: return DType::kF32;
    case ScalarType::BFloat16: return DType::kBF16;
    case ScalarType::Half: return DType::kF16;
    default:
      check(invalid(op, ": out_dtype must be float32, bfloat16 or float16, got ", dtype_name(*asked),
                    "; leave it out for the default"));
      return fallback;
  }
}

Tensor empty(const std::vector<int64_t>& sizes, ScalarType dtype) {
  // the shim itself: torch::stable::empty looks the op up by name, which costs several microseconds a call
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  return backend::empty_strided(sizes, strides, torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype)));
}
Tensor empty(std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return empty(std::vector<int64_t>(sizes), dtype);
}

namespace {

// The stride that makes the leading dimensions one, or -1. Dimensions of size 1 do not matter.
int64_t collapsed_stride(const Tensor& t) {
  int64_t stride = 0, expected = -1;
  for (int64_t d = t.dim() - 2; d >= 0; --d) {
    if (t.size(d) == 1) continue;
    if (expected < 0) {
      stride = t.stride(d);
    } else if (t.stride(d) != expected) {
      return -1;
    }
    expected = t.stride(d) * t.size(d);
  }
  return stride;
}

Matrix view_rows(const Tensor& t, int64_t row_stride) {
  Matrix m;
  m.data = t.data_ptr();
  m.dtype = any_dtype(t);
  m.cols = t.dim() ? t.size(t.dim() - 1) : 1;
  m.rows = 1;
  for (int64_t d = 0; d + 1 < t.dim(); ++d) m.rows *= t.size(d);
  m.row_stride = row_stride;
  m.col_stride = t.dim() ? t.stride(t.dim() - 1) : 1;
  return m;
}

// Byte range [first, last) that a tensor touches; strides of a torch tensor are never negative.
std::pair<const char*, const char*> extent(const Tensor& t) {
  const auto* first = static_cast<const char*>(t.data_ptr());
  if (t.numel() == 0) return {first, first};
  int64_t last = 0;
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  const auto size = static_cast<int64_t>(t.element_size());
  return {first, first + (last + 1) * size};
}

}  // namespace

Matrix rows_of(const char* op, const char* argument, const Tensor& t, Tensor* hold) {
  check_device(op, argument, t);
  if (t.dim() < 1) {
    check(invalid(op, ": ", argument, " must have at least 1 dimension, got a scalar; give it as [1, K]"));
  }
  const int64_t stride = collapsed_stride(t);
  if (stride >= 0) return view_rows(t, stride);
  *hold = backend::visible(torch::stable::contiguous(t));
  return view_rows(*hold, collapsed_stride(*hold));
}

Matrix out_rows_of(const char* op, const char* argument, const Tensor& t) {
  check_device(op, argument, t);
  // sort dimensions by stride: a dimension must step over all smaller ones
  std::vector<std::pair<int64_t, int64_t>> dims;
  for (int64_t d = 0; d < t.dim(); ++d) {
    if (t.size(d) > 1) dims.emplace_back(t.stride(d), t.size(d));
  }
  std::sort(dims.begin(), dims.end());
  int64_t covered = 1;
  for (const auto& [stride, size] : dims) {
    if (stride < covered && t.numel() > 0) {
      check(invalid(op, ": ", argument, " must not overlap itself, got shape ", shape(t), " with a stride of ", stride,
                    "; pass a tensor from torch.empty"));
    }
    covered = stride * (size - 1) + covered;
  }
  const int64_t stride = collapsed_stride(t);
  if (t.dim() < 1 || stride < 0) {
    check(invalid(op, ": ", argument, " must be a matrix of evenly spaced rows, got shape ", shape(t),
                  "; pass a tensor from torch.empty"));
  }
  return view_rows(t, stride);
}

void check_no_overlap(const char* op, const char* out_name, const Tensor& out, const char* in_name, const Tensor& in) {
  const auto [a, a_end] = extent(out);
  const auto [b, b_end] = extent(in);
  if (a < b_end && b < a_end) {
    check(
        invalid(op, ": ", out_name, " must not share memory with ", in_name, ", got overlapping tensors; pass a copy"));
  }
}

Seed seed_of(const char* op, const Tensor& seed) {
  check_device(op, "seed", seed);
  if (seed.scalar_type() != ScalarType::Long || seed.dim() != 1 || seed.size(0) != 2) {
    check(invalid(op, ": seed must be int64 [2] (seed, offset), got ", dtype_name(seed.scalar_type()), " ", shape(seed),
                  "; make it with torch.tensor([seed, offset])"));
  }
  if (backend::takes_seed(seed)) return {};
  const Tensor host = backend::on_host(seed);
  const auto* p = static_cast<const int64_t*>(host.data_ptr());
  return {static_cast<uint64_t>(p[0]), static_cast<uint64_t>(p[host.stride(0)])};
}

}  // namespace lowbit::bind
