#include "cpu/gemm_pack.h"

#include <algorithm>
#include <cstring>

#include "cpu/gemm_values.h"

namespace lowbit::cpu {
namespace {

int32_t bytes_of_number(const Engine& engine) { return engine.x_quad / 4; }

// Copies the columns of piece `p` as quads, `stride` bytes apart; zeros around. kBytes are those of one number; kWiden:
// bytes become 16-bit integers.
template <int kBytes, bool kWiden = false>
void pack_piece(const Piece& p, const char* row, char* out, int64_t stride) {
  constexpr int kQuad = 4 * kBytes;
  const auto put = [&](char* to, const char* from) {
    if constexpr (kWiden) {
      const auto* x = reinterpret_cast<const int8_t*>(from);
      const int16_t quad[] = {x[0], x[2], x[1], x[3]};
      std::memcpy(to, quad, sizeof(quad));
    } else if (kBytes == 2) {  // pairs of columns 0, 2 and 1, 3: the order in which a tile's bytes decode
      std::memcpy(to, from, 2);
      std::memcpy(to + 2, from + 4, 2);
      std::memcpy(to + 4, from + 2, 2);
      std::memcpy(to + 6, from + 6, 2);
    } else {
      std::memcpy(to, from, kQuad);
    }
  };
  const int64_t head = p.source_column % kTileCols;
  const char* in = row + (p.column - head) * kBytes;
  const auto edge = [&](int64_t q) {  // a quad of which some columns lie outside
    alignas(16) char quad[kQuad] = {};
    for (int64_t i = 0; i < kTileCols; ++i) {
      const int64_t c = q * kTileCols + i - head;
      if (c >= 0 && c < p.columns) std::memcpy(quad + i * kBytes, row + (p.column + c) * kBytes, kBytes);
    }
    put(out + q * stride, quad);
  };
  const int64_t begin = head != 0 ? 1 : 0;
  const int64_t end = (head + p.columns) % kTileCols != 0 ? p.quads - 1 : p.quads;
  if (begin == 1) edge(0);
  for (int64_t q = begin; q < end; ++q) put(out + q * stride, in + q * kQuad);
  if (end < p.quads && (p.quads > 1 || begin == 0)) edge(p.quads - 1);
}

// Quads of bf16 as pairs of columns 0, 2 and 1, 3, like pack_piece().
void order_pairs(char* quads, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t quad = 0;
    std::memcpy(&quad, quads + i, 8);
    quad = (quad & 0xffff00000000ffff) | (quad >> 16 & 0xffff0000) | (quad & 0xffff0000) << 16;
    std::memcpy(quads + i, &quad, 8);
  }
}

// The same for engines that take `unit` quads of a row together: rows of so many columns, `stride` bytes apart.
void pack_units(const Engine& engine, const Piece& p, const char* row, char* out, int64_t stride) {
  const int64_t bytes = bytes_of_number(engine), columns = kTileCols * engine.unit;
  for (int64_t c = -(p.source_column % kTileCols); c < p.columns; c += columns, out += stride) {
    const int64_t begin = std::max<int64_t>(c, 0), end = std::min<int64_t>(c + columns, p.columns);
    if (end - begin < columns) std::memset(out, 0, static_cast<size_t>(columns * bytes));
    std::memcpy(out + (begin - c) * bytes, row + (p.column + begin) * bytes,
                static_cast<size_t>((end - begin) * bytes));
    if (bytes == 2) order_pairs(out, columns * bytes);
  }
}

// Row m of x in the engine's numbers. `codes` and `floats` hold K elements each. `scales`: what the values are
// multiplied by, one a block; null: nothing.
const void* x_row(const Call& call, int64_t m, const float* scales, uint8_t* codes, float* floats, char* numbers) {
  const GemmArgs& a = call.args;
  const GemmIsa& isa = call.isa;
  const int64_t k = a.k;
  if (is_integer(call.plan.numbers)) {
    const Codes& c = a.xq->codes;
    const bool plain_int8 =
        c.layout == Layout::kPlain && c.format->bits == 8 && c.format->is_int() && c.format->rule == kSigned;
    if (plain_int8) return static_cast<const int8_t*>(c.data) + m * c.row_stride;
    isa.unpack(c, m, 0, k, codes);
    isa.lookup8(codes, k, call.plan.x->s8, reinterpret_cast<int8_t*>(numbers));
    return numbers;
  }
  const float* row = floats;
  if (a.xq != nullptr) {
    isa.unpack(a.xq->codes, m, 0, k, codes);
    isa.lookup32(codes, k, *call.plan.x, floats);
    if (a.xq->zero) {
      for (int64_t c = 0; c < k; ++c) floats[c] -= a.xq->zero.at(m, c);
    }
    if (scales != nullptr) {
      const int64_t block = a.xq->scale.block.cols;
      for (int64_t c0 = 0; c0 < k; c0 += block, ++scales) {
        const float scale = *scales;
        for (int64_t c = c0; c < std::min(c0 + block, k); ++c) floats[c] *= scale;
      }
    }
  } else {
    const Matrix& x = a.x;
    const char* p = static_cast<const char*>(x.data) + m * x.row_stride * size_of(x.dtype);
    if (x.col_stride != 1) {
      for (int64_t c = 0; c < k; ++c) floats[c] = x.at(m, c);
    } else if (bytes_of_number(call.engine) == 2) {
      return p;
    } else if (x.dtype == DType::kF32) {
      row = reinterpret_cast<const float*>(p);
    } else {
      isa.to_lanes(p, x.dtype, k, floats);
    }
  }
  if (bytes_of_number(call.engine) == 4) return row;
  isa.to_bf16(row, k, reinterpret_cast<uint16_t*>(numbers));
  return numbers;
}

}  // namespace

PackedRows carve_rows(const Call& call, int64_t rows, Carver* carver) {
  const Plan& plan = call.plan;
  const int64_t values = blocks_of(call.engine, rows) * static_cast<int64_t>(plan.pieces.size()) * call.engine.rows;
  const bool integer = is_integer(plan.numbers);
  PackedRows p{};
  p.x = carver->take<char>(packed_rows(call.engine, rows) * plan.quads * call.engine.x_quad);
  if (integer) p.start = carver->take<int32_t>(values);
  if (integer) p.sum = carver->take<int32_t>(values);
  if (call.use_wsum) p.zero = carver->take<int32_t>(values);
  if (plan.w_float_zero) p.float_sum = carver->take<float>(values);
  if (plan.x_scale_along_k && !call.scaled) p.scale = carver->take<float>(values);
  p.row_scale = carver->take<float>(rows);
  if (call.scaled) p.powers = carver->take<Powers>(blocks_of(call.engine, rows));
  return p;
}

void pack_block(const Call& call, int64_t m0, int64_t block, int64_t blocks, int64_t rows, const PackedRows& out,
                char* scratch) {
  const GemmArgs& a = call.args;
  const Plan& plan = call.plan;
  Carver carver{scratch};
  auto* codes = carver.take<uint8_t>(a.k);
  auto* floats = carver.take<float>(a.k);
  auto* numbers = carver.take<char>(2 * a.k);
  auto* scales = carver.take<float>(a.k);
  const Engine& engine = call.engine;
  const int64_t begin = block_row(engine, block, blocks, rows), end = block_row(engine, block + 1, blocks, rows);
  const auto pieces = static_cast<int64_t>(plan.pieces.size());
  const int64_t row_bytes = int64_t{engine.unit} * engine.x_quad;
  const int64_t stride = packed_rows(engine, end - begin) * row_bytes;
  const bool integer = is_integer(plan.numbers), planes = plan.numbers == Numbers::kPlanes;
  const QMatrix* xq = a.xq;
  const bool scale_rows =
      plan.x_scale_along_k && xq->scale.block.rows == 1 &&
      (xq->scale.codes.format != nullptr || (xq->scale.row_stride != 0 && xq->scale.col_stride == 1));
  const CodeTables* scale_tables =
      scale_rows && xq->scale.codes.format != nullptr ? code_tables(*xq->scale.codes.format) : plan.x;
  const bool by_row = scale_rows && scale_tables != nullptr;
  Powers powers;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t m = m0 + r;
    const int64_t row_scales = by_row ? ceil_div(a.k, xq->scale.block.cols) : 0;
    if (by_row) load_row(call.isa, xq->scale, *scale_tables, m, 0, row_scales, codes, scales);
    const void* row = x_row(call, m, call.scaled && by_row ? scales : nullptr, codes, floats, numbers);
    if (call.scaled) {
      powers.add(by_row ? scaled_powers(*plan.x, scales, row_scales)
                        : float_powers(static_cast<const uint16_t*>(row), a.k));
    }
    char* to = nullptr;
    int64_t at = 0;
    const KBlock* next = plan.blocks.data();
    int64_t segment_sum = 0;
    for (int64_t i = 0; i < pieces; ++i) {
      const Piece& p = plan.pieces[static_cast<size_t>(i)];
      if (next < plan.blocks.data() + plan.blocks.size() && i == next->piece) {
        to = out.x + packed_at(engine, *next, begin, rows) * engine.x_quad + (r - begin) * row_bytes;
        at = values_at(engine, *next, block, blocks) + (r - begin);
        ++next;
      }
      const auto* bytes = static_cast<const char*>(row);
      if (engine.pack != nullptr) {
        engine.pack({&call.isa.planes, static_cast<const int8_t*>(row) + p.column,
                     static_cast<int32_t>(p.source_column % kTileCols), p.columns, to, stride});
      } else if (engine.unit > 1) {
        pack_units(engine, p, bytes, to, stride);
      } else if (plan.numbers == Numbers::kInt16) {
        pack_piece<1, true>(p, bytes, to, stride);
      } else {
        switch (bytes_of_number(engine)) {
          case 1: pack_piece<1>(p, bytes, to, stride); break;
          case 2: pack_piece<2>(p, bytes, to, stride); break;
          default: pack_piece<4>(p, bytes, to, stride);
        }
      }
      if (integer) {
        const int32_t zero = plan.x_zero ? int_at(xq->zero, m, p.column) : 0;
        const int32_t offset = plan.x->s8_offset - zero * (1 << plan.x->shift);
        const int32_t codes_sum = plan.x->factor * call.isa.sum8(static_cast<const int8_t*>(row) + p.column, p.columns);
        const int32_t sum = codes_sum + offset * p.columns;
        out.sum[at] = sum;
        out.start[at] =
            static_cast<int32_t>(static_cast<uint32_t>(sum) * static_cast<uint32_t>(-plan.w[p.source]->offset));
        if (planes) {
          const int32_t rest = call.isa.planes.rest(codes_sum, p.columns);
          out.start[at] = plan.w_zero ? rest : rest + out.start[at];
        }
        if (call.use_wsum) out.zero[at] = offset;
        segment_sum = (p.first ? 0 : segment_sum) + sum;
      }
      if (plan.w_float_zero) out.float_sum[at] = static_cast<float>(segment_sum);
      if (out.scale != nullptr) {
        const float scale = by_row ? scales[value_column(xq->scale, p)] : xq->scale.at(m, p.column);
        out.scale[at] = scale * call.x_factor;
      }
      to += p.room / engine.unit * stride;
      at += engine.rows;
    }
    out.row_scale[r] = plan.x_scale_along_k         ? 1.0f
                       : xq != nullptr && xq->scale ? xq->scale.at(m, 0) * call.x_factor
                                                    : call.x_factor;
  }
  if (call.scaled) out.powers[block] = powers;
}

}  // namespace lowbit::cpu
