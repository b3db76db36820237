// Special registers, and the instructions that the linker inserts beside those of the program.
#pragma once

#include <string>

#include "emu/exec/program.h"

namespace emu {

// %tid.x and its like: a fill, or (read != null) an instruction that reads it each time.
struct SpecialRegister {
  int width = 0;  // 0: there is none of that name; 1: a predicate
  Fill fill = Fill::kConstant;
  int axis = 0;
  uint64_t bits = 0;
  Instr::Handler read = nullptr;
};
SpecialRegister find_special(const std::string& name);

void complement_predicate(Warp& w, const Instr& i, Mask active);
void narrow_register(Warp& w, const Instr& i, Mask active);  // 64 to 32 bits
void widen_register(Warp& w, const Instr& i, Mask active);   // from the low bits of Instr::type to 64

}  // namespace emu
