// Sixteen consecutive codes of a row of a weight, aligned to sixteen columns, by the widest loads that its layout has:
// what a kernel reads that walks the rows of W. The layouts that have no such way, and runs that belong to several
// segments, go through Operand::read.
#pragma once

#include <cstdint>

#include "cuda/tile/operand.cuh"

namespace lowbit::cuda {

// Which load serves; of one matrix, so the same for all threads.
enum class RunKind : uint8_t { kPlanes, kBytes, kPacked4, kPacked6, kMma64, kAny };

inline RunKind run_kind(const Codes& c) {
  if (c.layout == Layout::kMma64) return RunKind::kMma64;
  if (c.layout == Layout::kTile16) return RunKind::kAny;
  const Canonical kind = c.layout == Layout::kPlain ? Canonical::kBytes : canonical(*c.format);
  if (kind == Canonical::kPlanes) return RunKind::kPlanes;
  // 16, 8 and 12 bytes
  const unsigned unit = kind == Canonical::kBytes ? 16 : kind == Canonical::kPacked4 ? 8 : 4;
  const bool aligned =
      reinterpret_cast<uintptr_t>(c.data) % unit == 0 && c.row_stride % static_cast<int64_t>(unit) == 0;
  if (!aligned) return RunKind::kAny;
  return kind == Canonical::kBytes     ? RunKind::kBytes
         : kind == Canonical::kPacked4 ? RunKind::kPacked4
                                       : RunKind::kPacked6;
}

// Columns c .. c + 15 of row r at `data` (an expert's codes), c a multiple of 16 and inside the matrix. What lies past
// the row is anything.
__device__ __forceinline__ void read_run(const CodeSource& s, RunKind kind, const void* data, int32_t r, int32_t c,
                                         uint32_t (&out)[4]) {
  const int bits = s.format.row.bits;
  const CodeLayout& codes = s.codes;
  const auto* row = static_cast<const uint8_t*>(data) + r * codes.row_stride;
  if (kind == RunKind::kPlanes) {
    const auto* words = static_cast<const uint32_t*>(data) + r * codes.row_stride + c / 32;
    const int shift = c % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = 0;
#pragma unroll 1
    for (int b = 0; b < bits; ++b, words += codes.plane_stride) {  // most significant plane first
      const uint32_t w = *words >> shift;
#pragma unroll
      for (int i = 0; i < 4; ++i) out[i] = out[i] << 1 | ((w >> (4 * i) & 15u) * 0x00204081u & 0x01010101u);
    }
  } else if (kind == RunKind::kBytes) {
    const bool whole = c + 16 <= s.cols;
    const uint4 v = whole ? *reinterpret_cast<const uint4*>(row + c) : make_uint4(0, 0, 0, 0);
    const uint32_t mask = ((1u << bits) - 1u) * 0x01010101u;
    out[0] = v.x & mask, out[1] = v.y & mask, out[2] = v.z & mask, out[3] = v.w & mask;
    if (!whole) {
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        if (c + i < s.cols) out[i / 4] |= (row[c + i] & mask & 0xffu) << (8 * (i % 4));
      }
    }
  } else if (kind == RunKind::kPacked4) {
    const auto* p = row + c / 2;
    uint32_t v[2] = {0, 0};
    if (c + 16 <= s.cols) {
      const uint2 q = *reinterpret_cast<const uint2*>(p);
      v[0] = q.x, v[1] = q.y;
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (c + 2 * i < s.cols) v[i / 4] |= static_cast<uint32_t>(p[i]) << (8 * (i % 4));
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t even = v[i] & 0x0f0f0f0fu, odd = v[i] >> 4 & 0x0f0f0f0fu;
      out[2 * i] = ptx::prmt(even, odd, 0x5140u);
      out[2 * i + 1] = ptx::prmt(even, odd, 0x7362u);
    }
  } else if (kind == RunKind::kPacked6) {  // four columns in three bytes; rows are whole quads
    const auto* p = row + c / 4 * 3;
    uint32_t v[3] = {0, 0, 0};
    if (c + 16 <= s.cols) {
#pragma unroll
      for (int i = 0; i < 3; ++i) v[i] = reinterpret_cast<const uint32_t*>(p)[i];
    } else {
#pragma unroll
      for (int i = 0; i < 12; ++i) {
        if (c + i / 3 * 4 < s.cols) v[i / 4] |= static_cast<uint32_t>(p[i]) << (8 * (i % 4));
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int shift = 24 * i % 32;
      const uint32_t q = __funnelshift_r(v[24 * i / 32], v[i < 3 ? 24 * i / 32 + (i > 0) : 2], shift);
      out[i] = (q & 63u) | (q >> 6 & 63u) << 8 | (q >> 12 & 63u) << 16 | (q >> 18 & 63u) << 24;
    }
  } else if (kind == RunKind::kMma64) {  // word t of the run is lane 4 (r % 8) + t, word i of its eight
    const int64_t tile = r / kMmaRows * ((s.cols + kMmaCols - 1) / kMmaCols) + c / kMmaCols;
    const auto* words = reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(data) + tile * 128 * bits);
    const int i = c % 64 / 16 * 2 + r % 16 / 8, lane = r % 8 * 4;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      if (bits == 8) {
        out[t] = words[128 * (i / 4) + 4 * (lane + t) + i % 4];
        continue;
      }
      uint32_t v = 0;
      if (bits & 4) v = words[4 * (lane + t) + i / 2] >> (4 * (i % 2)) & 0x0f0f0f0fu;
      int low = bits & 4;
      if (bits & 2) {
        v |= (words[32 * low + 2 * (lane + t) + i / 4] >> (2 * (i % 4)) & 0x03030303u) << low;
        low += 2;
      }
      if (bits & 1) v |= (words[32 * low + lane + t] >> i & 0x01010101u) << low;
      out[t] = v;
    }
  }
}

}  // namespace lowbit::cuda
