// What an ELF image of machine code, as ptxas 13 writes it, tells of itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace emu {

// The X of the compute_X whose PTX the image was made from, without its suffix: that is no part of an image. 0 where it
// does not stand there.
int ptx_arch_of(std::string_view elf);

// Registers a thread that ptxas gave `kernel`; 0 where it does not stand there.
uint32_t registers_of(std::string_view elf, const std::string& kernel);

}  // namespace emu
