// Rows in and out of the GEMM engines: table lookups, conversions, transposes, the store of the result.
#include "cpu/simd/gemm_decode.h"
#include "cpu/simd/values.h"

namespace lowbit::LOWBIT_ISA_NAMESPACE {
namespace {

void lookup8(const uint8_t* codes, int64_t n, const int8_t* table, int8_t* out) {
  const ByteTable<8> lookup(table);
  for (int64_t i = 0; i < n; i += kBytes) store_bytes(out + i, n - i, lookup(load_bytes(codes + i, n - i)));
}

void lookup32(const uint8_t* codes, int64_t n, const cpu::CodeTables& tables, float* out) {
  int64_t i = tables.has_low ? 0 : lookup_high_halves(codes, n, tables.f32_high, out);
  for (; i + kLanes <= n; i += kLanes) store(out + i, gather(tables.f32, widen_bytes(codes + i)));
  for (; i < n; ++i) out[i] = tables.f32[codes[i]];
}

// kLanes numbers from index i, of which n are there, as 32 bits: floats widened to fp32, integers to int32.
LOWBIT_INLINE Ints load_numbers(const void* in, DType type, int64_t i, int64_t n) {
  if (type != DType::kI8 && type != DType::kU8) {
    if (type == DType::kI32) return load_ints(static_cast<const int32_t*>(in) + i, n);
    return as_ints(load_as_floats(in, type, i, n));
  }
  const auto* p = static_cast<const uint8_t*>(in) + i;
  uint8_t part[kLanes] = {};
  if (n < kLanes) {
    std::memcpy(part, p, n > 0 ? static_cast<size_t>(n) : 0);
    p = part;
  }
  return type == DType::kI8 ? widen_signed_bytes(p) : widen_bytes(p);
}

void to_lanes(const void* in, DType type, int64_t n, void* out) {
  auto* to = static_cast<int32_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_ints(to + i, load_numbers(in, type, i, kLanes));
  if (i < n) store_ints(to + i, n - i, load_numbers(in, type, i, n - i));
}

void offset_zeros(int32_t* zeros, int64_t n, int32_t offset, int shift) {
  for (int64_t i = 0; i < n; i += kLanes) {
    store_ints(zeros + i, sub(no_ints(), add(ints(offset), shift_left(load_ints(zeros + i), shift))));
  }
}

void floats_to_bf16(const float* in, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    store_halves(out + i, n - i, to_bf16(load(in + i, n - i)));
  }
}

int32_t sum8(const int8_t* in, int64_t n) {
  Ints sum = no_ints();
  for (int64_t i = 0; i < n; i += kBytes) sum = add_bytes(sum, load_bytes(in + i, n - i));
  return sum_of(sum);
}

void transpose_rows(const void* in, DType type, int64_t row_stride, int64_t rows, int64_t cols, void* out,
                    int64_t out_stride) {
  auto* to = static_cast<uint32_t*>(out);
  const bool same = type == DType::kF32 || type == DType::kI32;
  for (int64_t r = 0; r < kTileRows; r += kLanes) {
    int64_t c = 0;
    for (; same && r + kLanes <= rows && c + kLanes <= cols; c += kLanes) {
      const auto* from = static_cast<const uint32_t*>(in) + r * row_stride + c;
      Ints v[kLanes];
      LOWBIT_UNROLL
      for (int i = 0; i < kLanes; ++i) v[i] = load_ints(from + i * row_stride);
      transpose(v);
      LOWBIT_UNROLL
      for (int j = 0; j < kLanes; ++j) store_ints(to + (c + j) * out_stride + r, v[j]);
    }
    for (; c < cols; c += kLanes) {
      Ints v[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        v[i] = r + i < rows ? load_numbers(in, type, (r + i) * row_stride + c, cols - c) : no_ints();
      }
      transpose(v);
      for (int64_t j = 0; j < kLanes && c + j < cols; ++j) store_ints(to + (c + j) * out_stride + r, v[j]);
    }
  }
}

void finish(const cpu::FinishArgs& a) {
  const Matrix& out = a.out;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; c += kLanes) {
      const int64_t n = a.columns - c;
      Floats v = load(a.y + r * a.y_stride + c);
      if (out.dtype != DType::kI32) {
        if (a.x_scale != nullptr) v = mul(v, floats(a.x_scale[r]));
        if (a.bias != nullptr) v = add(v, load(a.bias + c, n));
      }
      const int64_t at = r * out.row_stride + c * out.col_stride;
      if (out.dtype == DType::kF32 || out.dtype == DType::kI32) {
        auto* p = static_cast<float*>(out.data) + at;
        if (out.col_stride == 1) {
          store(p, n, v);
        } else {
          float lane[kLanes];
          store(lane, v);
          for (int i = 0; i < kLanes && i < n; ++i) p[i * out.col_stride] = lane[i];
        }
      } else {
        const Halves half = out.dtype == DType::kBF16 ? to_bf16(v) : to_f16(v);
        auto* p = static_cast<uint16_t*>(out.data) + at;
        if (out.col_stride == 1) {
          store_halves(p, n, half);
        } else {
          uint16_t lane[kLanes];
          store_halves(lane, half);
          for (int i = 0; i < kLanes && i < n; ++i) p[i * out.col_stride] = lane[i];
        }
      }
    }
  }
}

}  // namespace

const cpu::GemmIsa kGemmRows = {{},   unpack,       lookup8,        lookup32, to_lanes, floats_to_bf16,
                                sum8, offset_zeros, transpose_rows, finish,   {}};

}  // namespace lowbit::LOWBIT_ISA_NAMESPACE
