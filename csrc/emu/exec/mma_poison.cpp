// Which elements of an mma's result come from unwritten memory: those of a row of A, a column of B or an element of C
// that does. Tiles reach beyond the matrix; what they compute there is dropped and must not taint the rest of the warp.
#include "emu/exec/mma.h"

namespace emu {
namespace {

// Bit g: some lane of the group of four lanes g.
uint32_t groups(Mask lanes) {
  uint32_t g = 0;
  for (int k = 0; k < 8; ++k) g |= ((lanes >> 4 * k & 0xf) != 0 ? 1u : 0u) << k;
  return g;
}

// Lanes of the groups whose bit is set.
Mask lanes_of_groups(uint32_t groups) {
  Mask m = 0;
  for (int k = 0; k < 8; ++k) m |= (groups >> k & 1) != 0 ? Mask{0xf} << 4 * k : 0;
  return m;
}

// Lanes that hold an element of one of two neighbouring columns: thread t of each group holds columns 2t and 2t + 1.
Mask lanes_of_columns(uint32_t columns, uint32_t parity) {
  Mask m = 0;
  for (int t = 0; t < 4; ++t) m |= (columns >> 2 * t & parity) != 0 ? Mask{0x11111111} << t : 0;
  return m;
}

}  // namespace

void propagate_mma(Warp& w, const Instr& i, Mask active) {
  const MmaPlan& p = plan_of(i);
  const int a = p.registers_a, b = p.registers_b, c = p.registers_c;
  const bool tall = p.m == 16;  // registers of A alternate between rows 0 to 7 and 8 to 15
  Mask rows[2] = {0, 0}, columns = 0, others = 0;
  for (int k = 0; k < a; ++k) rows[tall ? k % 2 : 0] |= w.poison[i.s[k]];
  for (int k = 0; k < b; ++k) columns |= w.poison[i.s[a + k]];
  for (int k = a + b + c; k < i.ns; ++k) others |= w.poison[i.s[k]];
  const uint32_t of_b = groups(columns & active);
  Mask result[8] = {};
  for (int k = 0; k < i.nd && k < 8; ++k) {
    const int half = p.half ? k : tall ? k / 2 : 0;
    result[k] = lanes_of_groups(groups(rows[half & 1] & active)) | lanes_of_columns(of_b, p.half ? 3u : 1u << k % 2);
    if (k < c) result[k] |= w.poison[i.s[a + b + k]];
    if ((others & active) != 0) result[k] = active;
  }
  for (int k = 0; k < i.nd && k < 8; ++k) w.poison[i.d[k]] = (w.poison[i.d[k]] & ~active) | (result[k] & active);
}

}  // namespace emu
