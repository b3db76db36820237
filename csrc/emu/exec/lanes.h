// Handlers of instructions that work on each lane alone: one loop over the 32 lanes of a warp, results written where
// the lane is active. The operation is a type whose call operator the loop inlines, so that the compiler makes vectors
// of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emu/exec/decoder.h"
#include "emu/exec/vectorize.h"
#include "emu/exec/warp.h"

// GCC 12 takes the resolver of a target_clones template for a local variable.
#pragma GCC diagnostic ignored "-Wdangling-pointer"

namespace emu {

inline constexpr Mask kAllLanes = ~Mask{0};

template <class To, class From>
inline To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

// How a value of type T lies in a lane: 64 bits in a uint64_t, everything smaller zero-extended in a uint32_t.
template <class T>
using Word = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T>
inline T from_word(Word<T> w) {
  if constexpr (std::is_floating_point_v<T>) {
    return bits_as<T>(w);
  } else {
    return static_cast<T>(w);
  }
}

template <class T>
inline Word<T> to_word(T v) {
  if constexpr (std::is_floating_point_v<T>) {
    return bits_as<Word<T>>(v);
  } else {
    return static_cast<std::make_unsigned_t<T>>(v);
  }
}

template <class T>
inline Word<T>* words(Warp& w, Unit u) {
  return reinterpret_cast<Word<T>*>(w.registers + std::size_t{u} * 128);
}

// Lane l of a mask as all ones or all zeros.
template <class W>
inline W spread(Mask mask, int l) {
  return static_cast<W>(0) - static_cast<W>(mask >> l & 1);
}

template <class W>
inline void write_lanes(W* d, const W* out, Mask active) {
  if (active == kAllLanes) {
    std::memcpy(d, out, kLanes * sizeof(W));
    return;
  }
  for (int l = 0; l < kLanes; ++l) {
    const W m = spread<W>(active, l);
    d[l] = (d[l] & ~m) | (out[l] & m);
  }
}

inline void write_predicate(Warp& w, Unit u, Mask value, Mask active) {
  Mask& p = w.pred(u);
  p = (p & ~active) | (value & active);
}

// One bit a lane from words that are 0 or 1.
inline Mask gather_bits(const uint32_t* bit) {
  Mask m = 0;
  for (int l = 0; l < kLanes; ++l) m |= bit[l] << l;
  return m;
}

namespace lanes {
template <class Op, class D, class... S, std::size_t... I>
inline __attribute__((always_inline)) void map(Warp& w, const Instr& i, Mask active, std::index_sequence<I...>) {
  alignas(64) Word<D> out[kLanes];
  const std::tuple<const Word<S>*...> s{words<S>(w, i.s[I])...};
  for (int l = 0; l < kLanes; ++l) out[l] = to_word<D>(Op()(from_word<S>(std::get<I>(s)[l])...));
  write_lanes(words<D>(w, i.d[0]), out, active);
}
}  // namespace lanes

// d[0] = Op(s[0], s[1], ...), of types D and S...
template <class Op, class D, class... S>
EMU_VECTORIZE void map_lanes(Warp& w, const Instr& i, Mask active) {
  lanes::map<Op, D, S...>(w, i, active, std::index_sequence_for<S...>());
}
// The same where a lane is dear and no vector can be made of it (division): inactive lanes are skipped.
namespace lanes {
template <class Op, class D, class... S, std::size_t... I>
inline void map_active(Warp& w, const Instr& i, Mask active, std::index_sequence<I...>) {
  for (; active != 0; active &= active - 1) {
    const int l = __builtin_ctz(active);
    words<D>(w, i.d[0])[l] = to_word<D>(Op()(from_word<S>(words<S>(w, i.s[I])[l])...));
  }
}
}  // namespace lanes
template <class Op, class D, class... S>
void map_active_lanes(Warp& w, const Instr& i, Mask active) {
  lanes::map_active<Op, D, S...>(w, i, active, std::index_sequence_for<S...>());
}

// Calls f with a zero of the C++ integer that holds a value of type `t`; false where t is no integer.
template <class F>
bool with_integer(ptx::Type t, F&& f) {
  switch (t) {
    case ptx::Type::kU8: f(uint8_t{}); return true;
    case ptx::Type::kS8: f(int8_t{}); return true;
    case ptx::Type::kB16:
    case ptx::Type::kU16: f(uint16_t{}); return true;
    case ptx::Type::kS16: f(int16_t{}); return true;
    case ptx::Type::kB32:
    case ptx::Type::kU32: f(uint32_t{}); return true;
    case ptx::Type::kS32: f(int32_t{}); return true;
    case ptx::Type::kB64:
    case ptx::Type::kU64: f(uint64_t{}); return true;
    case ptx::Type::kS64: f(int64_t{}); return true;
    default: return false;
  }
}

}  // namespace emu
