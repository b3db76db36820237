// ldmatrix, stmatrix, movmatrix. PTX ISA 9.0, 9.7.14.5.15 to 9.7.14.5.17.
//
// A matrix is given by the addresses of its rows of 16 bytes, one a lane: lanes 8n to 8n+7 give matrix n (m8n8 and
// m8n16), lanes 16n to 16n+15 (m16n16). With q = lane % 4 and g = lane / 4 a lane holds of one matrix
//   m8n8.b16          elements (row g, columns 2q, 2q+1);          .trans: (rows 2q, 2q+1, column g)
//   m16n16.b8.trans   elements (rows 4q .. 4q+3, column g), and in a second register (the same rows, column g + 8)
//   m8n16.b8x16       elements (row g, columns 4q .. 4q+3)
//   stmatrix m16n8.b8.trans   elements (rows 2q, 2q+1, column g) and (the same rows, column g + 8), rows as stored
// The formats b6x16_p32 and b4x16_p64 hold 16 packed elements, lowest first, and padding in a row; each comes out in
// the low bits of a byte.
#include <cstring>
#include <string>

#include "emu/exec/memory_operands.h"

namespace emu {
namespace {

using ptx::Space;
using ptx::Type;

enum class Shape : uint8_t { kM8N8, kM16N16, kM8N16, kM16N8 };
enum class Format : uint8_t { kPlain, kSixBits, kFourBits };

struct Plan {
  Shape shape = Shape::kM8N8;
  Format format = Format::kPlain;
  bool trans = false;
  bool narrow = false;
  bool generic = false;
  uint32_t matrices = 1;
};

uint32_t rows_of(const Plan& p) { return p.matrices * (p.shape == Shape::kM16N16 ? 16 : 8); }

// Addresses in shared memory; lanes that are missing or point elsewhere are reported and left out.
Mask row_addresses(Warp& w, const Instr& i, const Plan& p, Mask active, uint64_t address[kLanes]) {
  addresses_of(w, i.s[0], p.narrow, i.imm, address);
  const uint32_t rows = rows_of(p);
  Mask lanes = rows == kLanes ? ~Mask{0} : (Mask{1} << rows) - 1;
  if (active != ~Mask{0}) {
    w.block->launch->report(Finding::kBadArgument, w, __builtin_ctz(active),
                            "all 32 threads of a warp must run this instruction together, got " +
                                std::to_string(__builtin_popcount(active)));
    lanes &= active;
  }
  check_address_poison(w, i.s[0], lanes);
  if (!p.generic) return lanes;
  for (Mask m = lanes; m != 0; m &= m - 1) {
    const int l = __builtin_ctz(m);
    if ((address[l] & ~(kWindowSize - 1)) != kSharedWindow) {
      w.block->launch->report(Finding::kOutOfBounds, w, l, "the address of a row must lie in shared memory");
      lanes &= ~(Mask{1} << l);
    }
    address[l] &= kWindowSize - 1;
  }
  return lanes;
}

// 16 packed elements of `bits`, each to a byte.
void unpack(const uint8_t* packed, int bits, uint8_t out[16]) {
  for (int k = 0; k < 16; k++) {
    const int at = k * bits;
    const uint32_t two = packed[at / 8] | uint32_t{packed[at / 8 + 1]} << 8;
    out[k] = static_cast<uint8_t>(two >> at % 8 & ((1u << bits) - 1));
  }
}

void run_load(Warp& w, const Instr& i, Mask active) {
  const Plan& p = *static_cast<const Plan*>(i.plan);
  uint64_t address[kLanes];
  const Mask lanes = row_addresses(w, i, p, active, address);
  alignas(64) uint8_t rows[kLanes][16] = {};
  const uint32_t row_bytes = p.format == Format::kPlain ? 16 : p.format == Format::kSixBits ? 12 : 8;
  const Mask unwritten = load_rows(w, lanes, address, row_bytes, rows);
  if (p.format != Format::kPlain) {
    for (auto& row : rows) {
      uint8_t packed[17] = {};
      std::memcpy(packed, row, row_bytes);
      unpack(packed, p.format == Format::kSixBits ? 6 : 4, row);
    }
  }
  // `source_rows` gives the rows whose elements lane (q, g) receives: it is poison where one of them is.
  const auto put = [&](uint32_t k, const auto& value, const auto& source_rows) {
    uint32_t* d = w.u32(i.d[k]);
    Mask poisoned = 0;
    for (Mask m = active; m != 0; m &= m - 1) {
      const int l = __builtin_ctz(m);
      const auto q = static_cast<uint32_t>(l % 4), g = static_cast<uint32_t>(l / 4);
      d[l] = value(q, g);
      if ((unwritten & source_rows(q, g)) != 0) poisoned |= Mask{1} << l;
    }
    if (w.poison != nullptr) w.poison[i.d[k]] = (w.poison[i.d[k]] & ~active) | poisoned;
  };
  const auto half = [&](uint32_t row, uint32_t column) {
    return rows[row][2 * column] | uint32_t{rows[row][2 * column + 1]} << 8;
  };
  for (uint32_t n = 0; n < p.matrices; n++) {
    if (p.shape == Shape::kM16N16) {
      for (uint32_t side = 0; side < 2; side++) {
        put(
            2 * n + side,
            [&](uint32_t q, uint32_t g) {
              uint32_t v = 0;
              for (uint32_t r = 0; r < 4; r++) v |= uint32_t{rows[16 * n + 4 * q + r][g + 8 * side]} << 8 * r;
              return v;
            },
            [&](uint32_t q, uint32_t) { return Mask{15} << (16 * n + 4 * q); });
      }
    } else if (p.trans) {
      put(
          n, [&](uint32_t q, uint32_t g) { return half(8 * n + 2 * q, g) | half(8 * n + 2 * q + 1, g) << 16; },
          [&](uint32_t q, uint32_t) { return Mask{3} << (8 * n + 2 * q); });
    } else {
      put(
          n,
          [&](uint32_t q, uint32_t g) {
            uint32_t v;
            std::memcpy(&v, &rows[8 * n + g][4 * q], 4);
            return v;
          },
          [&](uint32_t, uint32_t g) { return Mask{1} << (8 * n + g); });
    }
  }
}

void run_store(Warp& w, const Instr& i, Mask active) {
  const Plan& p = *static_cast<const Plan*>(i.plan);
  uint64_t address[kLanes];
  const Mask lanes = row_addresses(w, i, p, active, address);
  alignas(64) uint8_t rows[kLanes][16] = {};
  for (uint32_t n = 0; n < p.matrices; n++) {
    const uint32_t* s = w.u32(i.s[1 + n]);
    for (uint32_t l = 0; l < kLanes; l++) {
      const uint32_t q = l % 4, g = l / 4, v = s[l];
      uint8_t (*const matrix)[16] = &rows[8 * n];
      if (p.shape == Shape::kM16N8) {
        matrix[2 * q][g] = static_cast<uint8_t>(v);
        matrix[2 * q + 1][g] = static_cast<uint8_t>(v >> 8);
        matrix[2 * q][g + 8] = static_cast<uint8_t>(v >> 16);
        matrix[2 * q + 1][g + 8] = static_cast<uint8_t>(v >> 24);
      } else if (p.trans) {
        std::memcpy(&matrix[2 * q][2 * g], &v, 2);
        const uint32_t high = v >> 16;
        std::memcpy(&matrix[2 * q + 1][2 * g], &high, 2);
      } else {
        std::memcpy(&matrix[g][4 * q], &v, 4);
      }
    }
  }
  store_rows(w, lanes, address, 16, rows);
}

void run_transpose(Warp& w, const Instr& i, Mask active) {
  uint32_t from[kLanes];
  std::memcpy(from, w.u32(i.s[0]), sizeof from);
  uint32_t* d = w.u32(i.d[0]);
  const auto element = [&](uint32_t row, uint32_t column) {
    return from[4 * row + column / 2] >> 16 * (column & 1) & 0xffff;
  };
  for (Mask m = active; m != 0; m &= m - 1) {
    const uint32_t l = static_cast<uint32_t>(__builtin_ctz(m)), q = l % 4, g = l / 4;
    d[l] = element(2 * q, g) | element(2 * q + 1, g) << 16;
  }
}

uint32_t take_count(Decoder& d) {
  switch (d.take_one_of({"x1", "x2", "x4"})) {
    case 0: return 1;
    case 1: return 2;
    case 2: return 4;
    default: d.fail("a matrix instruction must have .x1, .x2 or .x4"); return 1;
  }
}

void take_sync(Decoder& d) {
  if (!d.take("sync") || !d.take("aligned")) d.fail(d.st.opcode + " must be .sync.aligned");
  d.instr.flow = Flow::kWarpSync;
  d.instr.cls = Class::kMatrixLoad;
}

void take_shared(Decoder& d, Plan& p) {
  const Space space = take_space(d);
  if (space != Space::kNone && space != Space::kShared) d.fail(d.st.opcode + " must be in .shared");
  p.generic = space == Space::kNone;
}

void finish(Decoder& d, Plan p, const Address& address) {
  p.narrow = address.narrow;
  d.instr.imm = address.offset;
  d.instr.space = Space::kShared;
  d.instr.plan = d.keep(p);
}

void decode_ldmatrix(Decoder& d) {
  take_sync(d);
  Plan p;
  // the count may stand before the shape, as CUTLASS writes it
  int shape = d.take_one_of({"m8n8", "m16n16", "m8n16"});
  p.matrices = take_count(d);
  if (shape < 0) shape = d.take_one_of({"m8n8", "m16n16", "m8n16"});
  if (shape < 0) return d.fail("ldmatrix must be of shape m8n8, m16n16 or m8n16");
  p.shape = shape == 0 ? Shape::kM8N8 : shape == 1 ? Shape::kM16N16 : Shape::kM8N16;
  p.trans = d.take("trans");
  take_shared(d, p);
  if (d.take("b8x16")) {
    const int format = d.take_one_of({"b6x16_p32", "b4x16_p64"});
    if (format < 0) return d.fail(".b8x16 must have a source format");
    p.format = format == 0 ? Format::kSixBits : Format::kFourBits;
  } else if (!d.take(p.shape == Shape::kM8N8 ? "b16" : "b8")) {
    return d.fail("ldmatrix must have the type of its shape");
  }
  if (p.shape == Shape::kM8N8 && p.format != Format::kPlain) return d.fail(".m8n8 must be .b16");
  if (p.shape == Shape::kM16N16 && (!p.trans || p.matrices > 2))
    return d.fail(".m16n16 must be .trans, and .x1 or .x2");
  if (p.shape == Shape::kM8N16 && (p.trans || p.format == Format::kPlain))
    return d.fail(".m8n16 must be .b8x16 and not .trans");
  const int registers = static_cast<int>(p.matrices) * (p.shape == Shape::kM16N16 ? 2 : 1);
  if (d.vector_size(0) != registers)
    return d.fail("the destination must have " + std::to_string(registers) + " registers");
  d.destination(0, Type::kB32);
  finish(d, p, d.address(1, p.generic ? Space::kNone : Space::kShared));
  d.instr.run = run_load;
}

void decode_stmatrix(Decoder& d) {
  take_sync(d);
  Plan p;
  int shape = d.take_one_of({"m8n8", "m16n8"});
  p.matrices = take_count(d);
  if (shape < 0) shape = d.take_one_of({"m8n8", "m16n8"});
  if (shape < 0) return d.fail("stmatrix must be of shape m8n8 or m16n8");
  p.shape = shape == 0 ? Shape::kM8N8 : Shape::kM16N8;
  p.trans = d.take("trans");
  take_shared(d, p);
  if (!d.take(shape == 0 ? "b16" : "b8")) return d.fail("stmatrix must have the type of its shape");
  if (shape == 1 && !p.trans) return d.fail(".m16n8 must be .trans");
  if (d.vector_size(1) != static_cast<int>(p.matrices))
    return d.fail("the value must have " + std::to_string(p.matrices) + " registers");
  const Address address = d.address(0, p.generic ? Space::kNone : Space::kShared);
  d.source(1, Type::kB32);
  finish(d, p, address);
  d.instr.run = run_store;
}

void decode_movmatrix(Decoder& d) {
  take_sync(d);
  if (!d.take("m8n8") || !d.take("trans") || !d.take("b16")) return d.fail("movmatrix must be .m8n8.trans.b16");
  d.destination(0, Type::kB32);
  d.source(1, Type::kB32);
  d.instr.cls = Class::kShuffle;
  d.instr.run = run_transpose;
}

}  // namespace

extern const InstructionRow kMatrixLoadInstructions[] = {
    {"ldmatrix", decode_ldmatrix}, {"stmatrix", decode_stmatrix}, {"movmatrix", decode_movmatrix}, {nullptr, nullptr}};

}  // namespace emu
