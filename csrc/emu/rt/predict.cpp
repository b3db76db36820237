#include "emu/rt/predict.h"

#include <algorithm>
#include <map>

#include "emu/config.h"
#include "emu/rt/device.h"
#include "emu/rt/json.h"
#include "emu/rt/rates.h"
#include "emu/rt/record.h"

namespace emu {
namespace {

std::string predict(const LaunchRecord& launch, uint64_t global_bytes) {
  const int arch = arch_number(launch.arch);
  const Device& d = *find_device(arch);
  const Rates& r = rates(arch);
  // The SM with the most blocks decides: of 109 blocks on 108 SMs one has two.
  const double blocks = static_cast<double>(launch.grid.x) * launch.grid.y * launch.grid.z;
  const double on_one_sm = static_cast<double>((static_cast<int64_t>(blocks) + d.sms - 1) / d.sms) / blocks;
  const double clocks_per_second = d.clock_mhz * 1e6;
  std::map<std::string, double> parts;
  const auto add = [&](const std::string& part, double clocks) {
    parts[part] += clocks * on_one_sm / clocks_per_second;
  };

  double issued = 0, integer = 0;
  for (int i = 0; i < static_cast<int>(Class::kCount); ++i) {
    const auto c = static_cast<Class>(i);
    const LaunchRecord::OfClass& of = launch.classes[i];
    const double warps = static_cast<double>(of.warps);
    // moves of PTX are names of registers for the most part: they are gone in machine code
    if (c != Class::kMove) issued += warps;
    const int lanes = lanes_per_clock(r, c);
    if (lanes == 0) continue;
    if (c == Class::kInteger || c == Class::kLogic) {
      integer += warps * kLanes / lanes;
    } else {
      add(name_of(c), warps * kLanes / lanes);
    }
  }
  add("integer", integer);
  add("issue", issued / kIssuePerClock);
  double wavefronts = 0, sectors = 0;
  for (const LaunchRecord::OfClass& of : launch.classes) {
    wavefronts += static_cast<double>(of.wavefronts);
    sectors += static_cast<double>(of.sectors);
  }
  add("shared", wavefronts);
  JsonItems unrated("[]");
  for (const auto& [name, warps] : launch.tensor) {
    const TensorRate rate = tensor_rate(r, name);
    if (rate.per_clock == 0) {
      unrated.item(json_string(name));
    } else {
      add("tensor", static_cast<double>(warps) * rate.multiply_adds / rate.per_clock);
    }
  }
  if (global_bytes != 0) parts["global"] = static_cast<double>(global_bytes) / (d.memory_gbs * 1e9);

  const auto largest =
      std::max_element(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  JsonItems o("{}"), each("{}");
  for (const auto& [name, seconds] : parts) {
    if (seconds > 0) each.member(name, json_number(seconds));
  }
  o.member("kernel", json_string(launch.kernel));
  o.member("arch", json_string(launch.arch));
  o.member("board", json_string(d.board));
  o.member("predicted", "true");
  o.member("seconds", json_number(largest->second));
  o.member("bound", json_string(largest->first));
  o.member("parts", each.text());
  o.member("sector_bytes", json_number(sectors * kSectorBytes));
  o.member("unrated", unrated.text());
  return o.text();
}

}  // namespace

std::string predict_json(uint64_t global_bytes) {
  JsonItems list("[]");
  for (const LaunchRecord& launch : records().launches) list.item(predict(launch, global_bytes));
  return list.text();
}

}  // namespace emu
