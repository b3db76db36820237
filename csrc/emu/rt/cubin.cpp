#include "emu/rt/cubin.h"

#include <elf.h>

#include <cstring>
#include <vector>

namespace emu {
namespace {

template <class T>
T read(std::string_view bytes, uint64_t at) {
  T value{};
  if (at <= bytes.size() && sizeof(T) <= bytes.size() - at) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

std::string_view string_at(std::string_view strings, uint64_t at) {
  if (at >= strings.size()) return {};
  const std::string_view rest = strings.substr(at);
  return rest.substr(0, rest.find('\0'));
}

struct Section {
  std::string_view name;
  std::string_view bytes;
  uint32_t type;
  uint32_t link;  // of a table of symbols: the section of their names
};

// None where the image is not whole.
std::vector<Section> sections_of(std::string_view elf) {
  const auto header = read<Elf64_Ehdr>(elf, 0);
  if (header.e_shentsize != sizeof(Elf64_Shdr)) return {};
  if (header.e_shoff > elf.size() || (elf.size() - header.e_shoff) / sizeof(Elf64_Shdr) < header.e_shnum) return {};
  std::vector<Section> found;
  std::vector<uint32_t> names;
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto s = read<Elf64_Shdr>(elf, header.e_shoff + i * sizeof(Elf64_Shdr));
    if (s.sh_type != SHT_NOBITS && (s.sh_offset > elf.size() || s.sh_size > elf.size() - s.sh_offset)) return {};
    const bool has_bytes = s.sh_type != SHT_NOBITS;
    found.push_back({{}, has_bytes ? elf.substr(s.sh_offset, s.sh_size) : std::string_view(), s.sh_type, s.sh_link});
    names.push_back(s.sh_name);
  }
  if (header.e_shstrndx >= found.size()) return {};
  for (size_t i = 0; i < found.size(); ++i) found[i].name = string_at(found[header.e_shstrndx].bytes, names[i]);
  return found;
}

const Section* find(const std::vector<Section>& sections, std::string_view name) {
  for (const Section& s : sections) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

}  // namespace

// .note.nv.cuinfo: an ELF note of the name "NVIDIA Corp" and type 1000, whose content is u16 version, u16 architecture
// of the PTX, u32 version of the toolkit.
int ptx_arch_of(std::string_view elf) {
  constexpr uint32_t kInfoNote = 1000;
  constexpr uint16_t kVersion = 2;
  const std::vector<Section> sections = sections_of(elf);
  const Section* note = find(sections, ".note.nv.cuinfo");
  if (note == nullptr) return 0;
  const auto header = read<Elf64_Nhdr>(note->bytes, 0);
  const uint64_t at = sizeof(Elf64_Nhdr) + (header.n_namesz + 3) / 4 * 4;
  if (header.n_type != kInfoNote || read<uint16_t>(note->bytes, at) != kVersion) return 0;
  return read<uint16_t>(note->bytes, at + 2);
}

// .nv.info: u8 form, u8 attribute, then a u16 value, or (form 4) a u16 length and so many bytes. Attribute 0x2f holds
// the index of a kernel's symbol and its registers.
uint32_t registers_of(std::string_view elf, const std::string& kernel) {
  constexpr uint8_t kSizedForm = 4, kRegisterCount = 0x2f;
  const std::vector<Section> sections = sections_of(elf);
  const Section* info = find(sections, ".nv.info");
  const Section* symbols = nullptr;
  for (const Section& s : sections) {
    if (s.type == SHT_SYMTAB) symbols = &s;
  }
  if (info == nullptr || symbols == nullptr || symbols->link >= sections.size()) return 0;
  const std::string_view bytes = info->bytes;
  for (uint64_t at = 0; at + 4 <= bytes.size();) {
    const bool sized = read<uint8_t>(bytes, at) == kSizedForm;
    const uint64_t length = sized ? read<uint16_t>(bytes, at + 2) : 0;
    if (sized && read<uint8_t>(bytes, at + 1) == kRegisterCount && length >= 8) {
      const uint64_t index = read<uint32_t>(bytes, at + 4);
      const auto symbol = read<Elf64_Sym>(symbols->bytes, index * sizeof(Elf64_Sym));
      if (string_at(sections[symbols->link].bytes, symbol.st_name) == kernel) return read<uint32_t>(bytes, at + 8);
    }
    at += 4 + length;
  }
  return 0;
}

}  // namespace emu
