#include "cuda/pack.h"
#include "cuda/prepack.h"
#include "cuda/tile/code_rows.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {
namespace {

constexpr int kThreads = 256;

// The legal codes of a format.
struct CodeCheck {
  uint32_t upper = 0;  // bits that no code has, in every byte
  bool is_ternary = false;
  int32_t* findings = nullptr;

  CodeCheck() = default;
  CodeCheck(const ElementFormat& f, const Call& call)
      : upper((0xffu & ~((1u << f.bits) - 1u)) * 0x01010101u),
        is_ternary(f.is_int() && f.rule == kTernary),
        findings(call.findings) {}
  // Reports what is wrong and cuts it off.
  __device__ __forceinline__ void operator()(Codes32& x) const {
    uint32_t bad = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      bad |= x.word[i] & upper;
      if (is_ternary) bad |= (x.word[i] & ~(x.word[i] << 1)) & 0x02020202u;  // 2: the high bit without the low one
      x.word[i] &= ~upper;
    }
    if (bad != 0) report(findings, kBadCode);
  }
};

__global__ void __launch_bounds__(kThreads)
    copy_rows(const CodeRows from, const CodeRows to, const Tiling tiling, const CodeCheck check, const bool checked) {
  const Place p(tiling, static_cast<int32_t>(blockIdx.x));
  Codes32 x = from.load(p.r, p.c / kVector, checked);
  if (checked) check(x);
  to.store(p.r, p.c / kVector, x);
}

// A group of 32 codes takes the place of a vector of eight columns.
Tiling tiling_of_groups(int64_t rows, int64_t cols) { return Tiling::of(rows, ceil_divide(cols, 32) * kVector); }

Status copy(const char* op, const CodeRows& from, const CodeRows& to, const CodeCheck* check, const Call& call) {
  if (from.rows == 0 || from.cols == 0) return Status();
  const Tiling tiling = tiling_of_groups(from.rows, from.cols);
  return launch(op, copy_rows, dim3(tiling.grid()), dim3(static_cast<unsigned>(tiling.threads)), 0, call.stream, from,
                to, tiling, check != nullptr ? *check : CodeCheck(), check != nullptr);
}

// ---- orders whose words run across rows, by way of 128 rows x 64 columns in shared memory

constexpr int kBandRows = 128, kBandWords = 16;  // of four codes
constexpr int kBandStride = kBandWords + 1;      // words: neighbouring rows in neighbouring banks
__device__ __forceinline__ constexpr int awq_row(int slot) { return slot < 4 ? 2 * slot : 2 * slot - 7; }

struct Across {
  Order order = Order::kGptq;
  uint32_t* words = nullptr;
  int64_t lines = 0, units = 0;
  int32_t col_bands = 0;
};

// Four codes a byte each <-> side by side.
__device__ __forceinline__ uint32_t squeeze(uint32_t v, int bits) {
  return (v & 0xffu) | (v >> 8 & 0xffu) << bits | (v >> 16 & 0xffu) << (2 * bits) | (v >> 24) << (3 * bits);
}
__device__ __forceinline__ uint32_t spread(uint32_t v, int bits) {
  const uint32_t mask = (1u << bits) - 1u;
  return (v & mask) | (v >> bits & mask) << 8 | (v >> (2 * bits) & mask) << 16 | (v >> (3 * bits) & mask) << 24;
}

struct BandPlace {
  int32_t row0, group0;

  __device__ __forceinline__ explicit BandPlace(const Across& a) {
    const auto band = static_cast<int32_t>(blockIdx.x);
    row0 = band / a.col_bands * kBandRows;
    group0 = band % a.col_bands * (kBandWords / 8);
  }
};

// Word (line, unit) of GPTQ: 32 / bits columns of a row, which are 8 / bits words of the band.
template <class F>
__device__ __forceinline__ void each_gptq_word(const Across& a, const BandPlace& p, int bits, const F& f) {
  const int r = static_cast<int>(threadIdx.x) % kBandRows;
  const int per = 8 / bits;
#pragma unroll 1
  for (int l = static_cast<int>(threadIdx.x) / kBandRows; l < kBandWords / per; l += kThreads / kBandRows) {
    const int64_t line = int64_t{p.group0} * 8 / per + l;
    if (line < a.lines && p.row0 + r < a.units)
      f(a.words + line * a.units + p.row0 + r, r * kBandStride + l * per, per);
  }
}

// Four columns of eight rows: a word of each column. Lanes take eight groups of rows, so that a column of a warp is 32
// bytes of the output, and four words of the band.
struct AwqPlace {
  int word, group;

  __device__ __forceinline__ AwqPlace() {
    const int t = static_cast<int>(threadIdx.x);
    word = t % 4 + t / 32 % 4 * 4;
    group = t / 4 % 8 + t / 128 * 8;
  }
};

__global__ void __launch_bounds__(kThreads) to_across(const CodeRows from, const Across to, const CodeCheck check) {
  __shared__ uint32_t band[kBandRows * kBandStride];
  const BandPlace p(to);
  {
    const int r = static_cast<int>(threadIdx.x) / 2, half = static_cast<int>(threadIdx.x) % 2;
    Codes32 x = from.load(p.row0 + r, p.group0 + half, true);
    check(x);
#pragma unroll
    for (int i = 0; i < 8; ++i) band[r * kBandStride + 8 * half + i] = x.word[i];
  }
  __syncthreads();
  if (to.order == Order::kGptq) {
    each_gptq_word(to, p, from.bits, [&](uint32_t* word, int at, int count) {
      uint32_t v = 0;
#pragma unroll 1
      for (int i = 0; i < count; ++i) v |= squeeze(band[at + i], from.bits) << (4 * from.bits * i);
      *word = v;
    });
    return;
  }
  const AwqPlace at;
  const int64_t unit = p.row0 / 8 + at.group;
  if (unit >= to.units) return;
  uint32_t v[8];
#pragma unroll
  for (int s = 0; s < 8; ++s) v[s] = band[(8 * at.group + awq_row(s)) * kBandStride + at.word];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int64_t c = int64_t{p.group0} * 32 + 4 * at.word + j;
    uint32_t word = 0;
#pragma unroll
    for (int s = 0; s < 8; ++s) word |= (v[s] >> (8 * j) & 15u) << (4 * s);
    if (c < to.lines) to.words[c * to.units + unit] = word;
  }
}

__global__ void __launch_bounds__(kThreads) from_across(const Across from, const CodeRows to) {
  __shared__ uint32_t band[kBandRows * kBandStride];
  const BandPlace p(from);
  if (from.order == Order::kGptq) {
    each_gptq_word(from, p, to.bits, [&](const uint32_t* word, int at, int count) {
      const uint32_t v = *word;
#pragma unroll 1
      for (int i = 0; i < count; ++i) band[at + i] = spread(v >> (4 * to.bits * i), to.bits);
    });
  } else {
    const AwqPlace at;
    const int64_t unit = p.row0 / 8 + at.group;
    uint32_t v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t c = int64_t{p.group0} * 32 + 4 * at.word + j;
      const uint32_t word = c < from.lines && unit < from.units ? from.words[c * from.units + unit] : 0u;
#pragma unroll
      for (int s = 0; s < 8; ++s) v[s] |= (word >> (4 * s) & 15u) << (8 * j);
    }
#pragma unroll
    for (int s = 0; s < 8; ++s) band[(8 * at.group + awq_row(s)) * kBandStride + at.word] = v[s];
  }
  __syncthreads();
  const int r = static_cast<int>(threadIdx.x) / 2, half = static_cast<int>(threadIdx.x) % 2;
  Codes32 x;
  // a word of the band is there when one of its columns is
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (p.row0 + r < to.rows && 32 * int64_t{p.group0 + half} + 4 * i < to.cols)
      x.word[i] = band[r * kBandStride + 8 * half + i];
  }
  to.store(p.row0 + r, p.group0 + half, x);
}

Across across(Order order, const ElementFormat& f, const void* words, int64_t rows, int64_t cols) {
  const OrderShape shape = order_shape(order, f.bits, rows, cols);
  return {order, static_cast<uint32_t*>(const_cast<void*>(words)), shape.lines, shape.units,
          static_cast<int32_t>(ceil_divide(cols, 4 * kBandWords))};
}
dim3 bands(const Across& a, int64_t rows) {
  return dim3(static_cast<unsigned>(a.col_bands * ceil_divide(rows, kBandRows)));
}
bool is_across(Order order) { return order == Order::kGptq || order == Order::kAwq; }

// The orders that lie in rows.
CodeRows rows_of(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols) {
  if (order == Order::kPlain) return CodeRows::plain(static_cast<const uint8_t*>(packed), f.bits, rows, cols, cols);
  CodeRows r(packed, Canonical::kPacked4, f.bits, rows, cols, (cols + 1) / 2, 0);
  r.high_first = order == Order::kNibbleHigh;
  return r;
}

Status ready(const char* op, const char* argument, int64_t rows, int64_t cols) {
  Device device;
  LOWBIT_RETURN_IF_ERROR(current_device(op, &device));
  return check_size(op, argument, rows, cols);
}

}  // namespace

Status pack(const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows, int64_t cols, void* out,
            const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready("pack", "codes", rows, cols));
  const CodeCheck check(f, call);
  return copy("pack", CodeRows::plain(codes, f.bits, rows, cols, row_stride), CodeRows::contiguous(f, out, rows, cols),
              &check, call);
}

Status unpack(const Codes& packed, uint8_t* out, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready("unpack", "packed", packed.rows, packed.cols));
  if (is_tiled(packed.layout)) return unpack_tiles(packed, out, call);
  const CodeRows to = CodeRows::plain(out, packed.format->bits, packed.rows, packed.cols, packed.cols);
  return copy("unpack", CodeRows::of(packed), to, nullptr, call);
}

Status pack_order(Order order, const ElementFormat& f, const uint8_t* codes, int64_t row_stride, int64_t rows,
                  int64_t cols, void* out, const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready("pack", "codes", rows, cols));
  const CodeRows from = CodeRows::plain(codes, f.bits, rows, cols, row_stride);
  const CodeCheck check(f, call);
  if (!is_across(order)) return copy("pack", from, rows_of(order, f, out, rows, cols), &check, call);
  const Across to = across(order, f, out, rows, cols);
  return launch("pack", to_across, bands(to, rows), dim3(kThreads), 0, call.stream, from, to, check);
}

Status unpack_order(Order order, const ElementFormat& f, const void* packed, int64_t rows, int64_t cols, uint8_t* out,
                    const Call& call) {
  LOWBIT_RETURN_IF_ERROR(ready("unpack", "packed", rows, cols));
  const CodeRows to = CodeRows::plain(out, f.bits, rows, cols, cols);
  if (!is_across(order)) return copy("unpack", rows_of(order, f, packed, rows, cols), to, nullptr, call);
  const Across from = across(order, f, packed, rows, cols);
  return launch("unpack", from_across, bands(from, rows), dim3(kThreads), 0, call.stream, from, to);
}

}  // namespace lowbit::cuda
