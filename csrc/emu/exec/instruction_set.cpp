// The groups of instructions. An opcode is registered by one group.
#include <string>
#include <unordered_map>

#include "emu/exec/decoder.h"

namespace emu {

extern const InstructionRow kIntegerInstructions[];
extern const InstructionRow kBitFieldInstructions[];
extern const InstructionRow kCarryInstructions[];
extern const InstructionRow kLogicInstructions[];
extern const InstructionRow kFloatInstructions[];
extern const InstructionRow kHalfInstructions[];
extern const InstructionRow kConvertInstructions[];
extern const InstructionRow kCompareInstructions[];
extern const InstructionRow kMoveInstructions[];
extern const InstructionRow kApproximateInstructions[];
extern const InstructionRow kControlInstructions[];
extern const InstructionRow kBarrierInstructions[];
extern const InstructionRow kShuffleInstructions[];
extern const InstructionRow kLoadStoreInstructions[];
extern const InstructionRow kAtomicsInstructions[];
extern const InstructionRow kAsyncCopyInstructions[];
extern const InstructionRow kMatrixLoadInstructions[];
extern const InstructionRow kFenceInstructions[];
extern const InstructionRow kMmaInstructions[];

namespace {

const InstructionRow* const kGroups[] = {
    kIntegerInstructions,    kBitFieldInstructions,  kCarryInstructions,       kLogicInstructions,
    kFloatInstructions,      kHalfInstructions,      kConvertInstructions,     kCompareInstructions,
    kMoveInstructions,       kControlInstructions,   kApproximateInstructions, kBarrierInstructions,
    kShuffleInstructions,    kLoadStoreInstructions, kAtomicsInstructions,     kAsyncCopyInstructions,
    kMatrixLoadInstructions, kFenceInstructions,     kMmaInstructions,
};

}  // namespace

DecodeFunction find_instruction(std::string_view opcode) {
  static const auto* const table = [] {
    auto* t = new std::unordered_map<std::string_view, DecodeFunction>;
    for (const InstructionRow* row : kGroups) {
      for (; row->opcode != nullptr; ++row) t->emplace(row->opcode, row->decode);
    }
    return t;
  }();
  const auto found = table->find(opcode);
  return found == table->end() ? nullptr : found->second;
}

}  // namespace emu
