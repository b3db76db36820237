#include "emu/report.h"

#include <string>

namespace emu {
namespace {

std::string triple(const uint32_t v[3]) {
  return "(" + std::to_string(v[0]) + "," + std::to_string(v[1]) + "," + std::to_string(v[2]) + ")";
}

std::string place(const Site& s) {
  return "block " + triple(s.block) + " thread " + triple(s.thread) + " line " + std::to_string(s.line) + " `" +
         s.text + "`";
}

}  // namespace

const char* name_of(Finding f) {
  switch (f) {
    case Finding::kOutOfBounds: return "out_of_bounds";
    case Finding::kMisaligned: return "misaligned";
    case Finding::kUninitialized: return "uninitialized";
    case Finding::kRace: return "race";
    case Finding::kAsyncInFlight: return "async_in_flight";
    case Finding::kDivergentBarrier: return "divergent_barrier";
    case Finding::kDeadlock: return "deadlock";
    case Finding::kEndlessSpin: return "endless_spin";
    case Finding::kTrap: return "trap";
    case Finding::kUnsupported: return "unsupported";
    case Finding::kHostAccess: return "host_access";
    case Finding::kBadArgument: return "bad_argument";
  }
  return "unknown";
}

std::string Report::sentence() const {
  std::string s = site.kernel + ": " + name_of(finding) + ": " + place(site) + ": " + message;
  if (has_other)
    s += "; the other: " + (other.kernel != site.kernel ? other.kernel + " " : std::string()) + place(other);
  if (count > 1) s += " (" + std::to_string(count) + " times)";
  return s;
}

}  // namespace emu
