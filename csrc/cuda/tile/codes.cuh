// Eight codes of a thread to and from memory, in the canonical layouts of formats/layout.h or one a byte.
//
// In registers they are eight bytes. A plane word is 32 columns, so the eight codes of four neighbouring lanes: each
// lane transposes its 8 x 8 bits, byte b of the result being bit b of its codes; the four lanes transpose the 4 x 4
// bytes between them, and lane q of the four holds the whole word of bit q (and of bit 4 + q). That takes two shuffles
// a word and stores words, where a ballot for every plane and column would take 8 bits ballots and a choice of the
// lane's own.
#pragma once

#include <cstdint>

#include "common/qmatrix.h"
#include "cuda/ptx/bits.cuh"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

struct Codes8 {
  uint32_t low = 0, high = 0;  // codes 0..3 and 4..7, a byte each

  __device__ __forceinline__ uint32_t get(int i) const { return (i < 4 ? low : high) >> (i % 4 * 8) & 0xffu; }
  __device__ __forceinline__ void put(int i, uint32_t code) { (i < 4 ? low : high) |= code << (i % 4 * 8); }
  // The next code comes first, `code` last: eight of these replace all.
  __device__ __forceinline__ void turn(uint32_t code) {
    low = __funnelshift_r(low, high, 8);
    high = high >> 8 | code << 24;
  }
};

// Bit b of byte i <-> bit i of byte b.
__device__ __forceinline__ void transpose_bits(Codes8& x) {
  for (uint32_t* half : {&x.low, &x.high}) {
    uint32_t t = (*half ^ (*half >> 7)) & 0x00aa00aau;
    *half ^= t ^ (t << 7);
    t = (*half ^ (*half >> 14)) & 0x0000ccccu;
    *half ^= t ^ (t << 14);
  }
  const uint32_t t = (x.low ^ (x.high << 4)) & 0xf0f0f0f0u;
  x.low ^= t;
  x.high ^= t >> 4;
}

// Byte b of lane q <-> byte q of lane b, within each four lanes. All 32 lanes call it.
__device__ __forceinline__ uint32_t transpose_lanes(uint32_t x) {
  const unsigned lane = threadIdx.x;
  const uint32_t other = __shfl_xor_sync(0xffffffffu, x, 1);
  x = ptx::prmt(x, other, lane & 1 ? 0x3715u : 0x6240u);
  const uint32_t far = __shfl_xor_sync(0xffffffffu, x, 2);
  return ptx::prmt(x, far, lane & 2 ? 0x3276u : 0x5410u);
}

// Where the codes of a rows x cols matrix lie.
struct CodeLayout {
  void* data = nullptr;
  int64_t row_stride = 0, plane_stride = 0;  // in storage elements
  int32_t cols = 0;
  Canonical kind = Canonical::kBytes;
  int bits = 8;
  bool sign_extended = false;  // kPlain stores of signed integers
  bool wide = false;           // eight bytes (kBytes, kPacked6) or four (kPacked4) at a time are aligned

  CodeLayout() = default;
  CodeLayout(const ElementFormat& f, Layout layout, const void* codes, int64_t columns, int64_t row, int64_t plane)
      : data(const_cast<void*>(codes)),
        row_stride(row),
        plane_stride(plane),
        cols(static_cast<int32_t>(columns)),
        kind(layout == Layout::kPlain ? Canonical::kBytes : canonical(f)),
        bits(f.bits),
        sign_extended(layout == Layout::kPlain && f.is_int() && (f.rule == kSigned || f.rule == kTernary)) {
    const int unit = kind == Canonical::kPacked4 ? 4 : 8;
    wide = reinterpret_cast<uintptr_t>(codes) % static_cast<unsigned>(unit) == 0 && row_stride % unit == 0;
  }
  // Contiguous, as quantize makes them.
  static CodeLayout contiguous(const ElementFormat& f, Layout layout, void* codes, int64_t rows, int64_t cols) {
    const int64_t row = layout == Layout::kPlain ? cols : canonical_row(canonical(f), cols);
    return CodeLayout(f, layout, codes, cols, row, row * rows);
  }
  static CodeLayout of(const Codes& c) {
    return CodeLayout(*c.format, c.layout, c.data, c.cols, c.row_stride, c.plane_stride);
  }

  __device__ __forceinline__ uint8_t* bytes(int32_t r) const { return static_cast<uint8_t*>(data) + r * row_stride; }

  // One code.
  __device__ __forceinline__ uint32_t get(int32_t r, int32_t c) const {
    const uint8_t* row = bytes(r);
    if (kind == Canonical::kPlanes) {
      const auto* word = static_cast<const uint32_t*>(data) + r * row_stride + (c >> 5);
      uint32_t code = 0;
#pragma unroll 1
      for (int b = 0; b < bits; ++b) code = code << 1 | (word[b * plane_stride] >> (c & 31) & 1u);
      return code;
    }
    if (kind == Canonical::kBytes) return row[c] & ((1u << bits) - 1u);
    if (kind == Canonical::kPacked4) return row[c >> 1] >> ((c & 1) * 4) & 15u;
    const uint8_t* p = row + (c >> 2) * 3;
    return (p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16) >> (6 * (c & 3)) & 63u;
  }

  // Codes of columns [c, c + 8) of row r, c = 8 * (lane's place among consecutive lanes); those past the end and those
  // of a row that is not `valid` are zero. All 32 lanes call these.
  __device__ __forceinline__ void store(int32_t r, int32_t c, bool valid, Codes8 x) const;
  __device__ __forceinline__ Codes8 load(int32_t r, int32_t c, bool valid) const;

 private:
  __device__ __forceinline__ void store_packed6(int32_t r, int32_t c, bool valid, const Codes8& x) const;
  __device__ __forceinline__ Codes8 load_packed6(int32_t r, int32_t c, bool valid) const;
};

// Six bits a code: 48 of a lane. Four lanes have 24 bytes, of which three move eight each: lane q what begins 16 q bits
// into its own 48, the rest of them and the first of the next lane's.
__device__ __forceinline__ void CodeLayout::store_packed6(int32_t r, int32_t c, bool valid, const Codes8& x) const {
  const auto squeezed = [](uint32_t v) {
    return static_cast<uint64_t>((v & 63u) | (v >> 8 & 63u) << 6 | (v >> 16 & 63u) << 12 | (v >> 24 & 63u) << 18);
  };
  const uint64_t own = squeezed(x.low) | squeezed(x.high) << 24;
  const uint64_t next = __shfl_down_sync(0xffffffffu, static_cast<unsigned long long>(own), 1);
  const int q = static_cast<int>(threadIdx.x & 3);
  if (!valid || c >= cols) return;
  uint8_t* to = bytes(r);
  if (wide && (c | 31) < cols) {
    if (q == 3) return;
    const uint64_t v = own >> (16 * q) | next << (48 - 16 * q);
    reinterpret_cast<uint2*>(to + (c >> 5) * 24)[q] =
        make_uint2(static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32));
    return;
  }
  to += (c >> 2) * 3;
  const int n = cols - c > 4 ? 6 : 3;
#pragma unroll
  for (int i = 0; i < 6; ++i) {
    if (i < n) to[i] = static_cast<uint8_t>(own >> (8 * i));
  }
}

__device__ __forceinline__ Codes8 CodeLayout::load_packed6(int32_t r, int32_t c, bool valid) const {
  const int q = static_cast<int>(threadIdx.x & 3);
  const uint8_t* from = bytes(r);
  const bool there = valid && c < cols, whole = there && wide && (c | 31) < cols;
  uint64_t own = 0;
  if (whole && q < 3) {
    const uint2 v = reinterpret_cast<const uint2*>(from + (c >> 5) * 24)[q];
    own = v.x | static_cast<uint64_t>(v.y) << 32;
  }
  const uint64_t before = __shfl_up_sync(0xffffffffu, static_cast<unsigned long long>(own), 1);
  if (whole) {
    own = own << (16 * q) | (q == 0 ? 0 : before >> (64 - 16 * q));
  } else if (there) {
    from += (c >> 2) * 3;
    const int n = cols - c > 4 ? 6 : 3;
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      if (i < n) own |= static_cast<uint64_t>(from[i]) << (8 * i);
    }
  }
  Codes8 x;
#pragma unroll
  for (int i = 0; i < kVector; ++i) x.put(i, static_cast<uint32_t>(own >> (6 * i)) & 63u);
  return x;
}

__device__ __forceinline__ void CodeLayout::store(int32_t r, int32_t c, bool valid, Codes8 x) const {
  if (kind == Canonical::kPlanes) {
    transpose_bits(x);
    const int q = static_cast<int>(threadIdx.x & 3);
    const int32_t word = c >> 5;
    auto* row = static_cast<uint32_t*>(data) + r * row_stride + word;
    valid = valid && word * 32 < cols;
    const uint32_t low = transpose_lanes(x.low);
    if (valid && q < bits) row[(bits - 1 - q) * plane_stride] = low;
    if (bits > 4) {
      const uint32_t high = transpose_lanes(x.high);
      if (valid && 4 + q < bits) row[(bits - 5 - q) * plane_stride] = high;
    }
    return;
  }
  if (kind == Canonical::kPacked6) {
    store_packed6(r, c, valid, x);
    return;
  }
  if (!valid || c >= cols) return;
  const int n = cols - c < kVector ? cols - c : kVector;
  uint8_t* to = bytes(r);
  if (kind == Canonical::kBytes) {
    to += c;
    if (wide && n == kVector) {
      *reinterpret_cast<uint2*>(to) = make_uint2(x.low, x.high);
      return;
    }
#pragma unroll 1
    for (int i = 0; i < n; ++i) {
      to[i] = static_cast<uint8_t>(x.get(0));
      x.turn(0);
    }
  } else {
    to += c >> 1;
    const uint32_t low = x.low | x.low >> 4, high = x.high | x.high >> 4;
    const uint32_t packed = ptx::prmt(low, high, 0x6420u);
    if (wide && n == kVector) {
      *reinterpret_cast<uint32_t*>(to) = packed;
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (2 * i < n) to[i] = static_cast<uint8_t>(packed >> (8 * i));
    }
  }
}

__device__ __forceinline__ Codes8 CodeLayout::load(int32_t r, int32_t c, bool valid) const {
  Codes8 x;
  if (kind == Canonical::kPlanes) {
    const int q = static_cast<int>(threadIdx.x & 3);
    const int32_t word = c >> 5;
    const auto* row = static_cast<const uint32_t*>(data) + r * row_stride + word;
    valid = valid && word * 32 < cols;
    x.low = transpose_lanes(valid && q < bits ? row[(bits - 1 - q) * plane_stride] : 0u);
    if (bits > 4) x.high = transpose_lanes(valid && 4 + q < bits ? row[(bits - 5 - q) * plane_stride] : 0u);
    transpose_bits(x);
    return x;
  }
  if (kind == Canonical::kPacked6) return load_packed6(r, c, valid);
  if (!valid || c >= cols) return x;
  const int n = cols - c < kVector ? cols - c : kVector;
  const uint8_t* from = bytes(r);
  if (kind == Canonical::kBytes) {
    from += c;
    if (wide && n == kVector) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      x.low = v.x, x.high = v.y;
    } else {
#pragma unroll 1
      for (int i = 0; i < kVector; ++i) x.turn(i < n ? from[i] : 0u);
    }
    const uint32_t mask = ((1u << bits) - 1u) * 0x01010101u;
    x.low &= mask, x.high &= mask;
  } else {
    from += c >> 1;
    uint32_t packed = 0;
    if (wide && n == kVector) {
      packed = *reinterpret_cast<const uint32_t*>(from);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (2 * i < n) packed |= static_cast<uint32_t>(from[i]) << (8 * i);
      }
    }
    const uint32_t even = packed & 0x0f0f0f0fu, odd = packed >> 4 & 0x0f0f0f0fu;
    x.low = ptx::prmt(even, odd, 0x5140u);
    x.high = ptx::prmt(even, odd, 0x7362u);
  }
  return x;
}

}  // namespace lowbit::cuda
