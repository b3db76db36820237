// The container in which nvcc embeds device code: a header, then entries of PTX text or machine code (ELF), one an
// architecture. Layout as nvcc 13 writes it (little endian):
//   container: u32 magic 0xba55ed50, u16 version 1, u16 header bytes, u64 bytes of all entries
//   entry:     u16 kind (1 PTX, 2 ELF), u16 version, u32 header bytes, u64 payload bytes, u32 compressed bytes (0:
//   plain),
//              ..., u32 architecture at 28, ..., u64 flags at 40 (bit 20: 'a', bit 21: 'f', bits 13 and 15: compressed)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emu {

struct FatEntry {
  bool is_ptx = false;
  bool compressed = false;
  int arch = 0;              // 80
  char variant = 0;          // 'a', 'f' or 0
  std::string_view data;     // PTX without its padding, or the ELF image
  std::string name() const;  // "compute_120f", "sm_80"
};

// False: `error` says what is wrong with the container.
bool read_fatbin(const void* container, std::vector<FatEntry>* entries, std::string* error);

// The PTX of what the driver would run on `device_arch` ("80", "90a", "120f"). Where there is machine code for it, only
// the PTX that this code says it was made from, of whatever architecture; else plain PTX of the highest architecture
// not above, 'a' PTX for exactly that architecture, 'f' PTX for an architecture of the same family not below. Null:
// `error` lists what there is.
const FatEntry* choose_ptx(const std::vector<FatEntry>& entries, const std::string& device_arch, std::string* error);
// Machine code that runs on `device_arch`, from which registers are read; null where there is none.
const FatEntry* choose_elf(const std::vector<FatEntry>& entries, const std::string& device_arch);

}  // namespace emu
