#include "emu/rt/fatbin.h"

#include <cstring>

#include "emu/config.h"
#include "emu/rt/cubin.h"

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

int source_arch(const FatEntry& machine) {
  const int told = machine.compressed ? 0 : ptx_arch_of(machine.data);
  return told != 0 ? told : machine.arch;
}

// Null where there is none, or where it may be one of two. Machine code does not tell the suffix of its PTX: it is
// taken for its own where the numbers agree, and 'a' PTX gives code for its own number alone.
const FatEntry* source_of(const std::vector<FatEntry>& entries, const FatEntry& machine) {
  const int arch = source_arch(machine);
  const FatEntry* source = nullptr;
  for (const FatEntry& e : entries) {
    if (!e.is_ptx || e.arch != arch) continue;
    if (arch == machine.arch ? e.variant != machine.variant : e.variant == 'a') continue;
    if (source != nullptr) return nullptr;
    source = &e;
  }
  return source;
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
  // what the driver would run was made from one PTX: no other will do
  const FatEntry* e = machine != nullptr ? source_of(entries, *machine) : choose(entries, arch, true);
  if (e != nullptr && !e->compressed) return e;
  if (e != nullptr) {
    *error = "fat binary must hold plain PTX, got " + e->name() + " compressed; build with --compress-mode=none";
    return nullptr;
  }
  std::string there;
  for (const FatEntry& other : entries) there += (there.empty() ? "" : ", ") + other.name();
  const std::string wanted = machine != nullptr ? "the PTX of its " + machine->name() + " (compute_" +
                                                      std::to_string(source_arch(*machine)) + ")"
                                                : "PTX that runs on sm_" + device_arch;
  *error = "fat binary must hold " + wanted + ", got " + (there.empty() ? "nothing" : there) +
           "; build with -gencode arch=compute_X,code=[sm_X,compute_X]";
  return nullptr;
}

const FatEntry* choose_elf(const std::vector<FatEntry>& entries, const std::string& device_arch) {
  const FatEntry* e = choose(entries, arch_number(device_arch), false);
  return e != nullptr && !e->compressed ? e : nullptr;
}

}  // namespace emu
