// A kernel decoded for execution: every operand is a unit of the warp's register file, every instruction a function
// pointer with its operands. Constants, special registers that do not change (%tid, %ctaid, ...), addresses of symbols
// are units too, filled when a warp starts, so that a source operand is always "32 lanes at that unit".
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "emu/ptx/module.h"

namespace emu {

struct Warp;
using Mask = uint32_t;  // one bit a lane
// Index of 128 bytes in the register file of a warp.
//   8, 16, 32 bit registers: uint32_t[32], the unused high bits zero
//   64 bit: two units, uint64_t[32]      128 bit: four units, per lane low then high uint64_t, i.e. uint64_t[32][2]
//   predicate: the first word, one bit a lane
using Unit = uint32_t;
inline constexpr Unit kNoUnit = ~Unit{0};
inline constexpr int kLanes = 32;

enum class Flow : uint8_t {
  kNext,      // falls through
  kJump,      // the handler sets the program counters of the whole group (Warp::group), guard included
  kWarpSync,  // waits until every living lane of its member mask stands here, then runs for all of them at once
  kBlockSync  // barriers: the handler parks lanes (see exec/barrier.cpp)
};

// For counts and the predicted bound.
enum class Class : uint8_t {
  kOther,
  kInteger,
  kFloat32,
  kFloat16,
  kFloat64,
  kConvert,
  kLogic,
  kSpecial,
  kMove,
  kShuffle,
  kControl,
  kBarrier,
  kLoadGlobal,
  kStoreGlobal,
  kLoadShared,
  kStoreShared,
  kLoadOther,
  kStoreOther,
  kAtomic,
  kAsyncCopy,
  kMatrixLoad,
  kTensor,
  kCount
};

struct Instr {
  using Handler = void (*)(Warp&, const Instr&, Mask active);
  Handler run = nullptr;
  const Unit* d = nullptr;  // destinations and sources in the order of the statement, vectors flattened
  const Unit* s = nullptr;
  uint8_t nd = 0, ns = 0;
  Flow flow = Flow::kNext;
  Class cls = Class::kOther;
  bool guard_negated = false;
  Unit guard = kNoUnit;
  Unit member_mask = kNoUnit;         // kWarpSync: unit of the member mask; kNoUnit: all lanes of the warp (.aligned)
  ptx::Type type = ptx::Type::kNone;  // the instruction's main types, for handlers that are not templates
  ptx::Type type2 = ptx::Type::kNone;
  uint8_t bytes = 0;  // memory: bytes of one element; count: elements of the vector
  uint8_t count = 0;
  ptx::Space space = ptx::Space::kNone;  // memory: kNone is generic
  uint16_t flags = 0;                    // meaning is the handler's own
  int64_t imm = 0;                       // address offset, lop3 table, ... the handler's own
  uint32_t target = 0;                   // kJump: instruction index
  const void* plan = nullptr;            // a handler's own constant data, owned by the Program
  uint32_t statement = 0;                // index into Code::statements (line and text)
};

// Where a .local, .param or .shared variable of a function, or a kernel parameter, lies in its space.
struct Place {
  ptx::Space space;
  uint64_t offset;
  uint64_t bytes;
};

// What stands in a unit when a warp starts. Special registers that change while it runs (%clock, %clock64, %clock_hi,
// %globaltimer*) are no fills: the linker inserts an instruction that reads them before the one that names them.
enum class Fill : uint8_t {
  kConstant,  // `bits` in every lane (width 1: bits 0 or 1, the mask of no or of all lanes)
  kTid,
  kNtid,
  kCtaid,
  kNctaid,    // `axis` 0, 1, 2: x, y, z
  kLane,      // %laneid
  kLaneMask,  // `axis` 0 to 4: %lanemask_eq, _le, _lt, _ge, _gt
  kWarpId,
  kNwarpid,
  kSmid,
  kNsmid,
  kGridId,       // Launch::id; width 64
  kSharedSize,   // %total_smem_size: static and dynamic
  kDynamicSize,  // %dynamic_smem_size
  kSymbol        // address of a module variable + bits; the loader (rt/) turns it into kConstant before a launch
};
// A unit filled when a warp starts.
struct Filled {
  Unit unit;
  int width;  // bits of the register: 1, 32, 64, 128 (the high half zero)
  Fill fill;
  int axis = 0;        // of %tid and its like
  uint64_t bits = 0;   // kConstant; kSymbol: the addend
  std::string symbol;  // kSymbol: a module variable whose device address is known when the module is loaded
};

// A value that stands for the function in mov, initializers and indirect calls: no address of memory.
uint64_t function_address(const ptx::Module& module, const std::string& name);  // 0: no such function

// Instructions that lead back to each other. Where its lanes go, and what they do to memory, is decided by these units
// alone and by what loads give: a register that only counts the turns is not among them.
struct Loop {
  std::vector<Unit> decisive;
  bool has_clock = false;  // nor by them: a decision comes from a clock or from what else no register holds
};
inline constexpr uint32_t kNoLoop = ~uint32_t{0};

// All code that one kernel can reach: its own body, then those of the functions it calls.
struct Code {
  std::string name;
  std::vector<Instr> instrs;
  std::vector<const ptx::Statement*> statements;
  uint32_t units = 0;  // of the register file
  std::vector<Filled> filled;
  std::vector<Loop> loops;
  std::vector<uint32_t> loop_of;  // an instruction: index of its loop, or kNoLoop
  uint64_t param_bytes = 0;       // of the kernel
  std::vector<Place> parameters;
  uint64_t shared_bytes = 0;  // static
  uint64_t shared_align = 16;
  uint64_t dynamic_offset = 0;  // where dynamic shared memory begins
  uint64_t local_bytes = 0;     // per thread: .local variables and the .param space of calls, no recursion
  uint32_t max_threads = 1024;  // .maxntid / .reqntid
  uint32_t registers = 0;       // per thread as ptxas counted them (occupancy), 0: unknown
  // storage behind the pointers of Instr
  std::deque<std::vector<Unit>> operands;
  std::deque<std::shared_ptr<const void>> plans;

  int line(const Instr& i) const { return statements[i.statement]->line; }
};

}  // namespace emu
