#include "emu/config.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "emu/rt/settings.h"

namespace emu {
namespace {

struct Variable {
  const char* name;
  const char* value;
};

// A process that asks for what cannot be shall not run with something else.
Config from_environment() {
  Config c;
  const unsigned cores = std::thread::hardware_concurrency();
  c.workers = cores == 0 ? 1 : static_cast<int>(cores);
  const Variable variables[] = {
      {"arch", std::getenv("LOWBIT_EMU_ARCH")},
      {"sms", std::getenv("LOWBIT_EMU_SMS")},
      {"multiprocessors", std::getenv("LOWBIT_EMU_MULTIPROCESSORS")},
      {"threads", std::getenv("LOWBIT_EMU_THREADS")},
      {"seed", std::getenv("LOWBIT_EMU_SEED")},
      {"order", std::getenv("LOWBIT_EMU_ORDER")},
      {"mma", std::getenv("LOWBIT_EMU_MMA")},
      {"races", std::getenv("LOWBIT_EMU_RACES")},
      {"uninitialized", std::getenv("LOWBIT_EMU_UNINITIALIZED")},
      {"spin_limit", std::getenv("LOWBIT_EMU_SPIN_LIMIT")},
  };
  for (const Variable& v : variables) {
    if (v.value == nullptr) continue;
    const std::string error = set_setting(&c, v.name, v.value);
    if (error.empty()) continue;
    std::fprintf(stderr, "LOWBIT_EMU_*: %s\n", error.c_str());
    std::exit(2);
  }
  return c;
}

template <class T>
struct Word {
  const char* word;
  T value;
};
constexpr Word<MmaModel> kMmaWords[] = {{"exact", MmaModel::kExact}, {"hardware", MmaModel::kHardwareLike}};
constexpr Word<Uninitialized> kUninitializedWords[] = {
    {"ignore", Uninitialized::kIgnore}, {"load", Uninitialized::kReportAtLoad}, {"use", Uninitialized::kReportAtUse}};
constexpr Word<BlockOrder> kOrderWords[] = {{"random", BlockOrder::kRandom}, {"ascending", BlockOrder::kAscending}};
constexpr Word<bool> kSwitchWords[] = {{"0", false}, {"1", true}};
constexpr const char* kArchs[] = {"80", "86", "89", "90", "90a", "120", "120a", "120f", "121", "121a", "121f"};

std::string refused(const std::string& name, const std::string& rule, const std::string& value) {
  return "emu_set: " + name + " must be " + rule + ", got '" + value + "'";
}

template <class T, size_t n>
std::string set_word(const Word<T> (&words)[n], T* out, const std::string& name, const std::string& value) {
  std::string rule;
  for (const Word<T>& w : words) {
    if (value == w.word) {
      *out = w.value;
      return {};
    }
    rule += (rule.empty() ? "one of " : ", ") + std::string(w.word);
  }
  return refused(name, rule, value);
}

template <class T, size_t n>
std::string word_of(const Word<T> (&words)[n], T value) {
  for (const Word<T>& w : words) {
    if (w.value == value) return w.word;
  }
  return {};
}

template <class T>
std::string set_number(T* out, uint64_t least, uint64_t most, const std::string& name, const std::string& value) {
  char* end = nullptr;
  errno = 0;
  const uint64_t n = std::strtoull(value.c_str(), &end, 0);
  if (value.empty() || *end != 0 || errno != 0 || value[0] == '-' || n < least || n > most) {
    return refused(name, "a whole number from " + std::to_string(least) + " to " + std::to_string(most), value);
  }
  *out = static_cast<T>(n);
  return {};
}

std::string set_arch(std::string* out, const std::string& value) {
  std::string rule;
  for (const char* arch : kArchs) {
    if (value == arch) {
      *out = value;
      return {};
    }
    rule += (rule.empty() ? "one of " : ", ") + std::string(arch);
  }
  return refused("arch", rule, value);
}

}  // namespace

Config& config() {
  static Config c = from_environment();
  return c;
}

int arch_number(const std::string& arch) { return std::atoi(arch.c_str()); }

std::string set_setting(Config* c, const std::string& name, const std::string& value) {
  if (name == "arch") return set_arch(&c->arch, value);
  if (name == "sms") return set_number(&c->sm_count, 1, 1024, name, value);
  if (name == "multiprocessors") return set_number(&c->multiprocessors, 0, 1024, name, value);
  if (name == "threads") return set_number(&c->workers, 1, 256, name, value);
  if (name == "seed") return set_number(&c->seed, 0, ~uint64_t{0}, name, value);
  if (name == "order") return set_word(kOrderWords, &c->order, name, value);
  if (name == "mma") return set_word(kMmaWords, &c->mma, name, value);
  if (name == "races") return set_word(kSwitchWords, &c->races, name, value);
  if (name == "uninitialized") return set_word(kUninitializedWords, &c->uninitialized, name, value);
  if (name == "spin_limit") return set_number(&c->spin_limit, 1, ~uint64_t{0}, name, value);
  if (name == "slice") return set_number(&c->slice, 1, 1 << 20, name, value);
  if (name == "fatal_reports") return set_number(&c->fatal_reports, 1, 1 << 20, name, value);
  return "emu_set: name must be one of arch, sms, multiprocessors, threads, seed, order, mma, races, uninitialized, "
         "spin_limit, slice, fatal_reports, got '" +
         name + "'";
}

bool get_setting(const Config& c, const std::string& name, std::string* value) {
  if (name == "arch")
    *value = c.arch;
  else if (name == "sms")
    *value = std::to_string(c.sm_count);
  else if (name == "multiprocessors")
    *value = std::to_string(c.multiprocessors);
  else if (name == "threads")
    *value = std::to_string(c.workers);
  else if (name == "seed")
    *value = std::to_string(c.seed);
  else if (name == "order")
    *value = word_of(kOrderWords, c.order);
  else if (name == "mma")
    *value = word_of(kMmaWords, c.mma);
  else if (name == "races")
    *value = word_of(kSwitchWords, c.races);
  else if (name == "uninitialized")
    *value = word_of(kUninitializedWords, c.uninitialized);
  else if (name == "spin_limit")
    *value = std::to_string(c.spin_limit);
  else if (name == "slice")
    *value = std::to_string(c.slice);
  else if (name == "fatal_reports")
    *value = std::to_string(c.fatal_reports);
  else
    return false;
  return true;
}

}  // namespace emu
