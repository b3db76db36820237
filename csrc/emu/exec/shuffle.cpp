// Data exchange between the lanes of a warp: shfl, vote, match, redux, activemask, elect. PTX ISA 9.0, 9.7.9.6
// (shfl.sync) and 9.7.13.9 to 9.7.13.13. The handlers of .sync forms get all living lanes of the member mask at once.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/launch.h"

namespace emu {
namespace {

using ptx::Type;

int first_lane(Mask m) { return __builtin_ctz(m); }

// What a shuffle gives from a lane that does not take part: the ISA leaves it open.
constexpr uint32_t kGarbage = 0xffffdeadu;

enum Shuffle : uint16_t { kUp, kDown, kButterfly, kIndex };

struct SourceLane {
  int lane;
  bool in_range;
};

template <Shuffle mode>
SourceLane source_lane(int lane, uint32_t b, uint32_t c) {
  const int bits = static_cast<int>(b & 31), clamp = static_cast<int>(c & 31), segment = static_cast<int>(c >> 8 & 31);
  const int most = (lane & segment) | (clamp & ~segment & 31);
  const int least = lane & segment;
  int j = 0;
  bool in_range = false;
  switch (mode) {
    case kUp:
      j = lane - bits;
      in_range = j >= most;
      break;
    case kDown:
      j = lane + bits;
      in_range = j <= most;
      break;
    case kButterfly:
      j = lane ^ bits;
      in_range = j <= most;
      break;
    case kIndex:
      j = least | (bits & ~segment & 31);
      in_range = j <= most;
      break;
  }
  return {in_range ? j : lane, in_range};
}

void report_source(Warp& w, int lane, int source) {
  w.block->launch->report(Finding::kBadArgument, w, lane,
                          "shfl.sync must read a lane of the member mask, got lane " + std::to_string(source) +
                              ((w.exited >> source & 1) != 0 ? ", which has exited" : ""));
}

template <Shuffle mode>
void shfl(Warp& w, const Instr& i, Mask active) {
  uint32_t a[kLanes];
  std::memcpy(a, w.u32(i.s[0]), sizeof(a));
  const uint32_t* b = w.u32(i.s[1]);
  const uint32_t* c = w.u32(i.s[2]);
  uint32_t* d = w.u32(i.d[0]);
  const Mask carried = w.poison != nullptr ? w.poison[i.s[0]] : 0;
  Mask in_range = 0, poisoned = 0;
  for (Mask m = active; m != 0; m &= m - 1) {
    const int l = first_lane(m);
    const SourceLane from = source_lane<mode>(l, b[l], c[l]);
    const Mask bit = Mask{1} << l;
    in_range |= from.in_range ? bit : 0;
    if ((active >> from.lane & 1) != 0) {
      d[l] = a[from.lane];
      poisoned |= (carried >> from.lane & 1) << l;
    } else {
      // A value that may never be used: where values are followed to their use, so is this one.
      d[l] = kGarbage;
      poisoned |= bit;
      if (w.poison == nullptr) report_source(w, l, from.lane);
    }
  }
  if (w.poison != nullptr) w.poison[i.d[0]] = (w.poison[i.d[0]] & ~active) | poisoned;
  if (i.nd == 2) w.pred(i.d[1]) = (w.pred(i.d[1]) & ~active) | in_range;
}

// All lanes get a value that depends on all: it is unwritten where one of them is.
void poison_all(Warp& w, const Instr& i, Mask active) {
  if (w.poison == nullptr || (w.poison[i.s[0]] & active) == 0) return;
  for (int k = 0; k < i.nd; ++k) w.poison[i.d[k]] |= active;
}

void set_all(uint32_t* d, Mask active, uint32_t value) {
  for (int l = 0; l < kLanes; ++l) d[l] = (active >> l & 1) != 0 ? value : d[l];
}

enum Vote : uint16_t { kAll, kAny, kUni };

void vote(Warp& w, const Instr& i, Mask active) {
  const Mask p = w.pred(i.s[0]) & active;
  bool result = false;
  switch (i.flags) {
    case kAll: result = p == active; break;
    case kAny: result = p != 0; break;
    default: result = p == active || p == 0; break;
  }
  Mask& d = w.pred(i.d[0]);
  d = (d & ~active) | (result ? active : 0);
  poison_all(w, i, active);
}

void ballot(Warp& w, const Instr& i, Mask active) {
  set_all(w.u32(i.d[0]), active, w.pred(i.s[0]) & active);
  poison_all(w, i, active);
}

template <class T>
const T* values_of(const Warp& w, Unit u) {
  if constexpr (sizeof(T) == 4)
    return w.u32(u);
  else
    return w.u64(u);
}

template <class T>
void match_any(Warp& w, const Instr& i, Mask active) {
  const T* a = values_of<T>(w, i.s[0]);
  uint32_t result[kLanes] = {};
  for (Mask left = active; left != 0;) {
    const T value = a[first_lane(left)];
    Mask same = 0;
    for (int l = 0; l < kLanes; ++l) same |= Mask{a[l] == value} << l;
    same &= active;
    for (Mask m = same; m != 0; m &= m - 1) result[first_lane(m)] = same;
    left &= ~same;
  }
  uint32_t* d = w.u32(i.d[0]);
  for (Mask m = active; m != 0; m &= m - 1) d[first_lane(m)] = result[first_lane(m)];
  poison_all(w, i, active);
}

template <class T>
void match_all(Warp& w, const Instr& i, Mask active) {
  const T* a = values_of<T>(w, i.s[0]);
  const T value = a[first_lane(active)];
  bool all = true;
  for (Mask m = active; m != 0; m &= m - 1) all &= a[first_lane(m)] == value;
  set_all(w.u32(i.d[0]), active, all ? active : 0);
  if (i.nd == 2) w.pred(i.d[1]) = (w.pred(i.d[1]) & ~active) | (all ? active : 0);
  poison_all(w, i, active);
}

template <class F>
void reduce(Warp& w, const Instr& i, Mask active, F combine) {
  const uint32_t* a = w.u32(i.s[0]);
  uint32_t value = a[first_lane(active)];
  for (Mask m = active & (active - 1); m != 0; m &= m - 1) value = combine(value, a[first_lane(m)]);
  set_all(w.u32(i.d[0]), active, value);
  poison_all(w, i, active);
}

void redux_add(Warp& w, const Instr& i, Mask active) {
  reduce(w, i, active, [](uint32_t x, uint32_t y) { return x + y; });
}
void redux_and(Warp& w, const Instr& i, Mask active) {
  reduce(w, i, active, [](uint32_t x, uint32_t y) { return x & y; });
}
void redux_or(Warp& w, const Instr& i, Mask active) {
  reduce(w, i, active, [](uint32_t x, uint32_t y) { return x | y; });
}
void redux_xor(Warp& w, const Instr& i, Mask active) {
  reduce(w, i, active, [](uint32_t x, uint32_t y) { return x ^ y; });
}

template <class T, bool is_min>
void redux_integer(Warp& w, const Instr& i, Mask active) {
  reduce(w, i, active, [](uint32_t x, uint32_t y) {
    const bool less = static_cast<T>(x) < static_cast<T>(y);
    return less == is_min ? x : y;
  });
}

enum FloatFlag : uint16_t { kMin = 1, kAbs = 2, kNan = 4 };
constexpr uint32_t kCanonicalNan = 0x7fffffffu;

// The order of finite floats and infinities as integers, -0 below +0.
int32_t ordered_bits(uint32_t f) {
  return static_cast<int32_t>(f) < 0 ? static_cast<int32_t>(f ^ 0x7fffffffu) : static_cast<int32_t>(f);
}

bool is_nan(uint32_t f) { return (f & 0x7fffffffu) > 0x7f800000u; }

void redux_f32(Warp& w, const Instr& i, Mask active) {
  const bool is_min = (i.flags & kMin) != 0, nan = (i.flags & kNan) != 0;
  const uint32_t keep = (i.flags & kAbs) != 0 ? 0x7fffffffu : ~0u;
  const uint32_t* a = w.u32(i.s[0]);
  bool empty = true, poisoned = false;
  uint32_t value = kCanonicalNan;
  for (Mask m = active; m != 0; m &= m - 1) {
    const uint32_t x = a[first_lane(m)] & keep;
    if (is_nan(x)) {
      poisoned |= nan;
    } else if (empty || (ordered_bits(x) < ordered_bits(value)) == is_min) {
      value = x;
      empty = false;
    }
  }
  set_all(w.u32(i.d[0]), active, poisoned ? kCanonicalNan : value);
  poison_all(w, i, active);
}

void activemask(Warp& w, const Instr& i, Mask active) { set_all(w.u32(i.d[0]), active, active); }

// The leader is the lowest lane of the mask.
void elect(Warp& w, const Instr& i, Mask active) {
  const int leader = first_lane(active);
  set_all(w.u32(i.d[0]), active, static_cast<uint32_t>(leader));
  w.pred(i.d[1]) = (w.pred(i.d[1]) & ~active) | Mask{1} << leader;
}

void together(Decoder& d, int mask_operand, Instr::Handler run) {
  d.member_mask(mask_operand);
  d.instr.flow = Flow::kWarpSync;
  d.instr.cls = Class::kShuffle;
  d.instr.run = run;
}

bool take_sync(Decoder& d) {
  if (d.take_anywhere("sync")) return true;  // vote.ballot.sync is as good as vote.sync.ballot, and CUB writes it
  d.fail("must be .sync: devices since sm_70 do not have " + d.st.opcode + " without it");
  return false;
}

bool names_pair(const Decoder& d) {
  return !d.st.operands.empty() && d.st.operands[0].kind == ptx::Operand::Kind::kPair;
}

void decode_shfl(Decoder& d) {
  if (!take_sync(d)) return;
  constexpr Instr::Handler kModes[] = {shfl<kUp>, shfl<kDown>, shfl<kButterfly>, shfl<kIndex>};
  const int mode = d.take_one_of({"up", "down", "bfly", "idx"});
  if (mode < 0) return d.fail("the mode of shfl must be .up, .down, .bfly or .idx");
  if (d.take_type() != Type::kB32) return d.fail("shfl must be .b32");
  d.destination(0, Type::kB32);
  d.source(1, Type::kB32);
  d.source(2, Type::kB32);
  d.source(3, Type::kB32);
  together(d, 4, kModes[mode]);
}

void decode_vote(Decoder& d) {
  if (!take_sync(d)) return;
  const int mode = d.take_one_of({"all", "any", "uni", "ballot"});
  if (mode < 0) return d.fail("the mode of vote must be .all, .any, .uni or .ballot");
  const Type type = mode == 3 ? Type::kB32 : Type::kPred;
  if (d.take_type() != type) return d.fail("vote.ballot must be .b32, the others .pred");
  d.destination(0, type);
  d.source(1, Type::kPred);
  d.instr.flags = static_cast<uint16_t>(mode);
  together(d, 2, mode == 3 ? ballot : vote);
}

void decode_match(Decoder& d) {
  const int mode = d.take_one_of({"any", "all"});
  if (mode < 0) return d.fail("the mode of match must be .any or .all");
  if (!take_sync(d)) return;
  const Type type = d.take_type();
  if (type != Type::kB32 && type != Type::kB64) return d.fail("match must be .b32 or .b64");
  const bool wide = type == Type::kB64;
  if (mode == 0 && names_pair(d)) return d.fail("match.any has no predicate");
  d.destination(0, Type::kB32);
  d.source(1, type);
  if (mode == 0)
    together(d, 2, wide ? match_any<uint64_t> : match_any<uint32_t>);
  else
    together(d, 2, wide ? match_all<uint64_t> : match_all<uint32_t>);
}

Instr::Handler redux_handler(int op, Type type) {
  const bool b = type == Type::kB32, u = type == Type::kU32, s = type == Type::kS32;
  switch (op) {
    case 0: return u || s ? redux_add : nullptr;
    case 1: return u ? redux_integer<uint32_t, true> : s ? redux_integer<int32_t, true> : nullptr;
    case 2: return u ? redux_integer<uint32_t, false> : s ? redux_integer<int32_t, false> : nullptr;
    case 3: return b ? redux_and : nullptr;
    case 4: return b ? redux_or : nullptr;
    default: return b ? redux_xor : nullptr;
  }
}

void decode_redux(Decoder& d) {
  if (!take_sync(d)) return;
  const int op = d.take_one_of({"add", "min", "max", "and", "or", "xor"});
  if (op < 0) return d.fail("the operation of redux must be .add, .min, .max, .and, .or or .xor");
  uint16_t flags = op == 1 ? kMin : 0;
  if (d.take("abs")) flags |= kAbs;
  if (d.take("NaN")) flags |= kNan;
  const Type type = d.take_type();
  Instr::Handler run = nullptr;
  if (type == Type::kF32)
    run = op == 1 || op == 2 ? redux_f32 : nullptr;
  else if ((flags & (kAbs | kNan)) == 0)
    run = redux_handler(op, type);
  if (run == nullptr) return d.fail("redux does not have this operation for this type");
  d.instr.flags = flags;
  d.destination(0, type);
  d.source(1, type);
  together(d, 2, run);
}

void decode_activemask(Decoder& d) {
  if (d.take_type() != Type::kB32) return d.fail("activemask must be .b32");
  d.destination(0, Type::kB32);
  d.instr.cls = Class::kShuffle;
  d.instr.run = activemask;
}

void decode_elect(Decoder& d) {
  if (!take_sync(d)) return;
  if (!names_pair(d)) return d.fail("elect must have two destinations: a lane and a predicate");
  d.destination(0, Type::kB32);
  together(d, 1, elect);
}

}  // namespace

extern const InstructionRow kShuffleInstructions[] = {
    {"shfl", decode_shfl},   {"vote", decode_vote},   {"match", decode_match},
    {"redux", decode_redux}, {"elect", decode_elect}, {"activemask", decode_activemask},
    {nullptr, nullptr},
};

}  // namespace emu
