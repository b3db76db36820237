// vprintf and __assertfail. CUDA C++ Programming Guide 13.0, "Formatted Output" and "Assertion".
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/launch.h"
#include "emu/exec/system_call.h"
#include "emu/memory/memory.h"

namespace emu {
namespace {

constexpr size_t kLongestText = 1 << 16;

int first_lane(Mask m) { return __builtin_ctz(m); }

uint64_t read(Warp& w, int lane, ptx::Space space, uint64_t address, uint32_t bytes) {
  Access access;
  access.space = space;
  access.bytes = access.align = bytes;
  uint64_t addresses[kLanes] = {}, values[kLanes] = {};
  addresses[lane] = address;
  load(w, Mask{1} << lane, access, addresses, values, sizeof(uint64_t));
  return values[lane];
}

uint64_t argument(Warp& w, const Call& call, size_t k, int lane) {
  const Place& p = call.arguments[k];
  return read(w, lane, p.space, p.offset, static_cast<uint32_t>(p.bytes));
}

std::string read_text(Warp& w, int lane, uint64_t address) {
  std::string s;
  while (s.size() < kLongestText) {
    const char c = static_cast<char>(read(w, lane, ptx::Space::kNone, address + s.size(), 1));
    if (c == 0) break;
    s += c;
  }
  return s;
}

// The arguments of a variadic call, each at a multiple of its size behind `at`.
struct Arguments {
  Warp& w;
  int lane;
  uint64_t at;
  uint64_t next(uint32_t bytes) {
    at = (at + bytes - 1) / bytes * bytes;
    const uint64_t v = read(w, lane, ptx::Space::kNone, at, bytes);
    at += bytes;
    return v;
  }
};

// One conversion of the format: "%-8.3lld" is {"-8.3", long, 'd'}; a width or precision of * is read and written out.
struct Conversion {
  std::string flags;
  bool is_long = false;
  char kind = 0;
};

Conversion parse(const std::string& format, size_t* at, Arguments& arguments) {
  Conversion c;
  while (*at < format.size() && std::strchr("-+ #0123456789.*", format[*at]) != nullptr) {
    if (format[*at] == '*')
      c.flags += std::to_string(static_cast<int32_t>(arguments.next(4)));
    else
      c.flags += format[*at];
    ++*at;
  }
  while (*at < format.size() && std::strchr("hljzt", format[*at]) != nullptr) {
    c.is_long |= format[*at] != 'h';
    ++*at;
  }
  if (*at < format.size()) c.kind = format[(*at)++];
  return c;
}

template <class T>
std::string print(const Conversion& c, const char* length, T value) {
  const std::string format = "%" + c.flags + length + c.kind;
  const int n = std::snprintf(nullptr, 0, format.c_str(), value);
  std::string s(n > 0 ? static_cast<size_t>(n) + 1 : 1, '\0');
  std::snprintf(s.data(), s.size(), format.c_str(), value);
  s.pop_back();
  return s;
}

std::string print(const Conversion& c, Arguments& arguments, uint32_t* printed) {
  if (c.kind == '%') return "%";
  ++*printed;
  switch (c.kind) {
    case 'd':
    case 'i':
      if (c.is_long) return print(c, "ll", static_cast<long long>(arguments.next(8)));
      return print(c, "", static_cast<int32_t>(arguments.next(4)));
    case 'u':
    case 'o':
    case 'x':
    case 'X':
      if (c.is_long) return print(c, "ll", static_cast<unsigned long long>(arguments.next(8)));
      return print(c, "", static_cast<uint32_t>(arguments.next(4)));
    case 'c': return print(c, "", static_cast<int32_t>(arguments.next(4)));
    case 'p': return print(c, "", reinterpret_cast<void*>(arguments.next(8)));
    case 's': return print(c, "", read_text(arguments.w, arguments.lane, arguments.next(8)).c_str());
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A': {
      const uint64_t bits = arguments.next(8);
      double value;
      std::memcpy(&value, &bits, sizeof(value));
      return print(c, "", value);
    }
    default: --*printed; return "%" + c.flags + (c.kind != 0 ? std::string(1, c.kind) : std::string());
  }
}

void call_vprintf(Warp& w, const Instr& i, Mask active) {
  const auto& call = *static_cast<const Call*>(i.plan);
  uint32_t printed[kLanes] = {};
  for (Mask m = active; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    const std::string format = read_text(w, l, argument(w, call, 0, l));
    Arguments arguments{w, l, argument(w, call, 1, l)};
    std::string text;
    for (size_t at = 0; at < format.size();) {
      if (format[at] != '%') {
        text += format[at++];
        continue;
      }
      ++at;
      const Conversion c = parse(format, &at, arguments);
      text += print(c, arguments, &printed[l]);
    }
    device_print(text);
  }
  if (call.results.empty()) return;
  Access access;
  access.space = call.results[0].space;
  access.bytes = access.align = 4;
  uint64_t addresses[kLanes];
  for (uint64_t& a : addresses) a = call.results[0].offset;
  store(w, active, access, addresses, printed, sizeof(uint32_t));
}

// __assertfail(message, file, line, function, character size)
void call_assertfail(Warp& w, const Instr& i, Mask active) {
  const auto& call = *static_cast<const Call*>(i.plan);
  const int l = first_lane(active);
  const std::string message = read_text(w, l, argument(w, call, 0, l));
  const std::string file = read_text(w, l, argument(w, call, 1, l));
  const std::string function = read_text(w, l, argument(w, call, 3, l));
  const std::string at = file + ":" + std::to_string(argument(w, call, 2, l));
  w.block->launch->report(Finding::kTrap, w, l, at + ": " + function + ": assertion `" + message + "` failed");
}

}  // namespace

Instr::Handler find_system_call(std::string_view name) {
  if (name == "vprintf") return call_vprintf;
  if (name == "__assertfail") return call_assertfail;
  return nullptr;
}

void device_print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace emu
