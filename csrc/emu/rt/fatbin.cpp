#include "emu/rt/fatbin.h"

#include <elf.h>

#include <cstring>

#include "emu/config.h"

namespace emu {
namespace {

constexpr uint32_t kMagic = 0xba55ed50u;
constexpr uint16_t kKindPtx = 1, kKindElf = 2;
constexpr uint64_t kFlagArchSpecific = uint64_t{1} << 20, kFlagFamily = uint64_t{1} << 21;
constexpr uint64_t kFlagsCompressed = (uint64_t{1} << 13) | (uint64_t{1} << 15);

template <class T>
T read(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Code for one architecture family runs on its later members alone: 120f on 120 and 121.
bool same_family(int a, int b) { return a / 10 == b / 10; }

bool runs_on(const FatEntry& e, int device) {
  if (e.variant == 'a') return e.arch == device;
  if (e.variant == 'f') return same_family(e.arch, device) && e.arch <= device;
  if (e.is_ptx) return e.arch <= device;
  return e.arch / 10 == device / 10 && e.arch <= device;
}

const FatEntry* choose(const std::vector<FatEntry>& entries, int device, bool ptx) {
  const FatEntry* best = nullptr;
  for (const FatEntry& e : entries) {
    if (e.is_ptx != ptx || !runs_on(e, device)) continue;
    const bool better =
        best == nullptr || e.arch > best->arch || (e.arch == best->arch && e.variant != 0 && best->variant == 0);
    if (better) best = &e;
  }
  return best;
}

}  // namespace

std::string FatEntry::name() const {
  std::string s = (is_ptx ? "compute_" : "sm_") + std::to_string(arch);
  if (variant != 0) s += variant;
  return s;
}

bool read_fatbin(const void* container, std::vector<FatEntry>* entries, std::string* error) {
  const uint8_t* p = static_cast<const uint8_t*>(container);
  if (read<uint32_t>(p) != kMagic || read<uint16_t>(p + 4) != 1) {
    *error = "fat binary must begin with 0xba55ed50 and version 1, got another container";
    return false;
  }
  const uint16_t header = read<uint16_t>(p + 6);
  const uint64_t bytes = read<uint64_t>(p + 8);
  const uint8_t* at = p + header;
  const uint8_t* end = at + bytes;
  while (at + 64 <= end) {
    const uint16_t kind = read<uint16_t>(at);
    const uint32_t entry_header = read<uint32_t>(at + 4);
    const uint64_t payload = read<uint64_t>(at + 8);
    if (entry_header < 64 || payload > static_cast<uint64_t>(end - at) - entry_header) {
      *error = "fat binary has an entry that reaches beyond its end";
      return false;
    }
    if (kind == kKindPtx || kind == kKindElf) {
      FatEntry e;
      const uint64_t flags = read<uint64_t>(at + 40);
      e.is_ptx = kind == kKindPtx;
      e.compressed = read<uint32_t>(at + 16) != 0 || (flags & kFlagsCompressed) != 0;
      e.arch = static_cast<int>(read<uint32_t>(at + 28));
      e.variant = (flags & kFlagArchSpecific) != 0 ? 'a' : (flags & kFlagFamily) != 0 ? 'f' : 0;
      e.data = std::string_view(reinterpret_cast<const char*>(at + entry_header), payload);
      // PTX is padded with zeros to a multiple of 8
      if (e.is_ptx && !e.compressed) e.data = e.data.substr(0, e.data.find('\0'));
      entries->push_back(e);
    }
    at += entry_header + payload;
  }
  return true;
}

const FatEntry* choose_ptx(const std::vector<FatEntry>& entries, const std::string& device_arch, std::string* error) {
  const int arch = arch_number(device_arch);
  const FatEntry* machine = choose(entries, arch, false);
  const FatEntry* e = choose(entries, arch, true);
  if (machine != nullptr) {  // the driver would run it: only the PTX it was made from will do
    e = nullptr;
    for (const FatEntry& other : entries) {
      if (other.is_ptx && other.arch == machine->arch && other.variant == machine->variant) e = &other;
    }
  }
  if (e != nullptr && !e->compressed) return e;
  if (e != nullptr) {
    *error = "fat binary must hold plain PTX, got " + e->name() + " compressed; build with --compress-mode=none";
    return nullptr;
  }
  std::string there;
  for (const FatEntry& other : entries) there += (there.empty() ? "" : ", ") + other.name();
  const std::string wanted =
      machine != nullptr ? "the PTX of its " + machine->name() : "PTX that runs on sm_" + device_arch;
  *error = "fat binary must hold " + wanted + ", got " + (there.empty() ? "nothing" : there) +
           "; build with -gencode arch=compute_X,code=[sm_X,compute_X]";
  return nullptr;
}

const FatEntry* choose_elf(const std::vector<FatEntry>& entries, const std::string& device_arch) {
  const FatEntry* e = choose(entries, arch_number(device_arch), false);
  return e != nullptr && !e->compressed ? e : nullptr;
}

uint32_t registers_of(std::string_view elf, const std::string& kernel) {
  if (elf.size() < sizeof(Elf64_Ehdr)) return 0;
  const uint8_t* base = reinterpret_cast<const uint8_t*>(elf.data());
  const auto header = read<Elf64_Ehdr>(base);
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shoff + header.e_shnum * sizeof(Elf64_Shdr) > elf.size())
    return 0;
  std::vector<Elf64_Shdr> sections;
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    sections.push_back(read<Elf64_Shdr>(base + header.e_shoff + i * sizeof(Elf64_Shdr)));
    const Elf64_Shdr& s = sections.back();
    if (s.sh_type != SHT_NOBITS && (s.sh_offset > elf.size() || s.sh_size > elf.size() - s.sh_offset)) return 0;
  }
  const auto text = [&](const Elf64_Shdr& strings, uint64_t at) -> std::string_view {
    if (at >= strings.sh_size) return {};
    const std::string_view all = elf.substr(strings.sh_offset + at, strings.sh_size - at);
    return all.substr(0, all.find('\0'));
  };
  if (header.e_shstrndx >= sections.size()) return 0;
  const Elf64_Shdr* info = nullptr;
  const Elf64_Shdr* symbols = nullptr;
  for (const Elf64_Shdr& s : sections) {
    if (text(sections[header.e_shstrndx], s.sh_name) == ".nv.info") info = &s;
    if (s.sh_type == SHT_SYMTAB) symbols = &s;
  }
  if (info == nullptr || symbols == nullptr || symbols->sh_link >= sections.size()) return 0;
  // .nv.info: u8 form, u8 attribute, then a u16 value, or (form 4) a u16 length and so many bytes. Attribute 0x2f holds
  // the index of a kernel's symbol and its registers.
  constexpr uint8_t kSizedForm = 4, kRegisterCount = 0x2f;
  const uint8_t* p = base + info->sh_offset;
  const uint8_t* end = p + info->sh_size;
  while (p + 4 <= end) {
    const uint64_t length = p[0] == kSizedForm ? read<uint16_t>(p + 2) : 0;
    if (p + 4 + length > end) break;
    if (p[0] == kSizedForm && p[1] == kRegisterCount && length >= 8) {
      const uint64_t symbol = read<uint32_t>(p + 4);
      if ((symbol + 1) * sizeof(Elf64_Sym) > symbols->sh_size) break;
      const auto s = read<Elf64_Sym>(base + symbols->sh_offset + symbol * sizeof(Elf64_Sym));
      if (text(sections[symbols->sh_link], s.st_name) == kernel) return read<uint32_t>(p + 8);
    }
    p += 4 + length;
  }
  return 0;
}

}  // namespace emu
