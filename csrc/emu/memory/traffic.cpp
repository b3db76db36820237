#include "emu/memory/traffic.h"

#include <algorithm>

namespace emu {
namespace {

constexpr int kBanks = 32;

// Distinct words wanted, as rows of 128 bytes with a bit for each bank.
struct Rows {
  uint32_t row[2 * kLanes];
  uint32_t banks[2 * kLanes];
  int count = 0;
  uint32_t any = 0;       // banks wanted
  bool conflict = false;  // some bank more than once

  void add(uint32_t r, uint32_t b) {
    for (int k = count - 1; k >= 0; k--) {
      if (row[k] != r) continue;
      b &= ~banks[k];
      banks[k] |= b;
      conflict = conflict || (any & b) != 0;
      any |= b;
      return;
    }
    row[count] = r;
    banks[count++] = b;
    conflict = conflict || (any & b) != 0;
    any |= b;
  }
  int words() const {
    int n = 0;
    for (int k = 0; k < count; k++) n += __builtin_popcount(banks[k]);
    return n;
  }
  uint32_t wavefronts() const {
    if (!conflict) return 1;
    uint32_t of_bank[kBanks] = {}, most = 1;
    for (int k = 0; k < count; k++) {
      for (uint32_t b = banks[k]; b != 0; b &= b - 1) most = std::max(most, ++of_bank[__builtin_ctz(b)]);
    }
    return most;
  }
};

uint32_t words_of(uint64_t address, uint32_t bytes) {
  const uint32_t n = static_cast<uint32_t>(((address & 3) + bytes + 3) / 4);
  return ((n >= 32 ? ~0u : (1u << n) - 1)) << (address >> 2 & 31);
}

// The usual case, in one pass: no two lanes want the same word, and no two of a phase the same bank. False: something
// else.
bool without_conflict(Mask active, const uint64_t address[kLanes], uint32_t bytes, int lanes, Traffic* t) {
  constexpr uint32_t kSlots = 64;  // by the low bits of the row of 128 bytes
  uint32_t seen[kSlots] = {}, row_of[kSlots];
  uint32_t words = 0, groups = 0;
  uint32_t group = 0, phase = 0;  // banks of the phases that share a wavefront; of the phase in hand
  const auto close = [&] {
    if (groups == 0 || (group & phase) != 0) {
      groups++;
      group = phase;
    } else {
      group |= phase;
    }
    phase = 0;
  };
  const uint32_t of_lane = bytes <= 4 ? 1 : bytes / 4;
  int of_phase = __builtin_ctz(active) / lanes;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    if (lane / lanes != of_phase) {
      of_phase = lane / lanes;
      close();
    }
    const uint32_t banks = words_of(address[lane], bytes);
    const auto row = static_cast<uint32_t>(address[lane] >> 7);
    uint32_t& in_row = seen[row & (kSlots - 1)];
    const bool clean = ((phase | in_row) & banks) == 0 && (in_row == 0 || row_of[row & (kSlots - 1)] == row);
    if (!clean) return false;
    phase |= banks;
    in_row |= banks;
    row_of[row & (kSlots - 1)] = row;
    words += of_lane;
  }
  close();
  t->actual = groups;
  t->least = (words + kBanks - 1) / kBanks;
  return true;
}

}  // namespace

Traffic global_sectors(Mask active, const uint64_t address[kLanes], uint32_t bytes) {
  uint64_t sorted[kLanes];
  int n = 0;
  bool ascending = true;
  for (Mask m = active; m != 0; m &= m - 1) {
    sorted[n] = address[__builtin_ctz(m)];
    ascending = ascending && (n == 0 || sorted[n] >= sorted[n - 1]);
    n++;
  }
  if (!ascending) std::sort(sorted, sorted + n);
  uint64_t distinct = 0, end = 0, sector_end = 0;
  Traffic t;
  for (int k = 0; k < n; k++) {
    const uint64_t from = std::max(sorted[k], end), to = sorted[k] + bytes;
    if (to > from) distinct += to - from;
    end = std::max(end, to);
    const uint64_t first = std::max(sorted[k] / 32, sector_end), last = (to - 1) / 32 + 1;
    if (last > first) t.actual += static_cast<uint32_t>(last - first);
    sector_end = std::max(sector_end, last);
  }
  t.least = static_cast<uint32_t>((distinct + 31) / 32);
  return t;
}

Traffic shared_wavefronts(Mask active, const uint64_t address[kLanes], uint32_t bytes) {
  Traffic t;
  if (active == 0) return t;
  if (bytes > 16) {
    uint64_t half[kLanes];
    for (int l = 0; l < kLanes; l++) half[l] = address[l] + 16;
    const Traffic low = shared_wavefronts(active, address, 16), high = shared_wavefronts(active, half, 16);
    return {low.actual + high.actual, low.least + high.least};
  }
  const int lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  if (without_conflict(active, address, bytes, lanes, &t)) return t;
  if (lanes == 32) {
    Rows one;
    for (Mask m = active; m != 0; m &= m - 1) {
      const uint64_t a = address[__builtin_ctz(m)];
      one.add(static_cast<uint32_t>(a >> 7), words_of(a, bytes));
    }
    return {one.wavefronts(), static_cast<uint32_t>((one.words() + kBanks - 1) / kBanks)};
  }
  Rows whole;
  uint32_t apart = 0;  // wavefronts of the phases that no longer take more
  Rows current;
  for (int begin = 0; begin < kLanes; begin += lanes) {
    const Mask mask = lanes == 32 ? active : active >> begin & ((Mask{1} << lanes) - 1);
    if (mask == 0) continue;
    Rows phase;
    for (Mask m = mask; m != 0; m &= m - 1) {
      const uint64_t a = address[begin + __builtin_ctz(m)];
      phase.add(static_cast<uint32_t>(a >> 7), words_of(a, bytes));
    }
    for (int k = 0; k < phase.count; k++) whole.add(phase.row[k], phase.banks[k]);
    if (current.count != 0 && !current.conflict && !phase.conflict) {
      Rows both = current;
      for (int k = 0; k < phase.count; k++) both.add(phase.row[k], phase.banks[k]);
      if (!both.conflict) {
        current = both;
        continue;
      }
    }
    if (current.count != 0) apart += current.wavefronts();
    current = phase;
  }
  t.actual = apart + current.wavefronts();
  // Bytes are counted as words: a wavefront moves whole ones.
  t.least = static_cast<uint32_t>((whole.words() + kBanks - 1) / kBanks);
  return t;
}

}  // namespace emu
