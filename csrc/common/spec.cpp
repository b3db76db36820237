#include "common/spec.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace lowbit {
namespace {

// Edits (insertions, deletions, replacements) between two short words.
int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// The name with the fewest edits, of several the one that agrees for longest from the start.
std::string nearest_name(std::string_view name, bool blocks) {
  const char* best = nullptr;
  int least = 0;
  size_t longest = 0;
  auto consider = [&](std::string_view candidate) {
    const int edits = edit_distance(name, candidate);
    size_t common = 0;
    while (common < name.size() && common < candidate.size() && name[common] == candidate[common]) ++common;
    if (best != nullptr && (edits > least || (edits == least && common <= longest))) return;
    best = candidate.data(), least = edits, longest = common;
  };
  for (const ElementFormat& f : kFormats) consider(f.name);
  if (blocks) {
    for (const BlockFormat& b : kBlocks) consider(b.name);
  }
  return best;
}

Status unknown_format(const char* op, const char* argument, std::string_view name, bool blocks) {
  return invalid(op, ": ", argument, " must name a known format, got \"", std::string(name), "\"; did you mean \"",
                 nearest_name(name, blocks), "\"? lowbit.formats() lists them all");
}

bool parse_count(std::string_view text, int64_t* out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), *out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && *out >= 1 && *out < (int64_t{1} << 31);
}

bool parse_block(std::string_view text, Block* out) {
  if (text == "tensor") return *out = {0, 0}, true;
  if (text == "row") return *out = {1, 0}, true;
  if (text.empty()) return false;
  if (text[0] == 'g') return out->rows = 1, parse_count(text.substr(1), &out->cols);
  const size_t x = text.find('x');
  if (text[0] != 'b' || x == std::string_view::npos) return false;
  return parse_count(text.substr(1, x - 1), &out->rows) && parse_count(text.substr(x + 1), &out->cols);
}

}  // namespace

Status parse_element(const char* op, const char* argument, std::string_view text, const ElementFormat** out) {
  *out = find_format(text);
  return *out != nullptr ? Status() : unknown_format(op, argument, text, false);
}

namespace {

Status parse(const char* op, const char* argument, std::string_view text, Spec* out) {
  *out = Spec();
  const std::string_view whole = text;
  auto bad_block = [&](std::string_view got) {
    return invalid(op, ": ", argument, " must have a block rule \"tensor\", \"row\", \"g<N>\" or \"b<R>x<C>\", got \"",
                   std::string(got), "\" in \"", std::string(whole), "\"; write for instance \"int4:g64\"");
  };

  const size_t at = text.find('@');
  if (at != std::string_view::npos) {
    const std::string_view layout = text.substr(at + 1);
    if (layout == "tile16") {
      out->layout = Layout::kTile16;
    } else if (layout == "mma64") {
      out->layout = Layout::kMma64;
    } else if (layout == "plain") {
      out->layout = Layout::kPlain;
    } else if (layout != "canonical") {
      return invalid(op, ": ", argument, " must end in a known layout, got \"@", std::string(layout), "\" in \"",
                     std::string(whole), "\"; use \"@tile16\" or \"@mma64\" for a prepacked weight, or leave it out");
    }
    text = text.substr(0, at);
  }

  out->named = find_block(text);
  if (out->named != nullptr) {
    const BlockFormat& b = *out->named;
    out->element = b.element;
    out->block = {1, b.block};
    out->scale = b.scale;
    out->scale_has_scale = b.scale_block != 0;
    out->scale_block = {0, 0};
    out->unit = b.unit;
    return Status();
  }

  const size_t slash = text.find('/');
  std::string_view element = text.substr(0, slash);
  const size_t colon = element.find(':');
  if (colon != std::string_view::npos) {
    if (!parse_block(element.substr(colon + 1), &out->block)) return bad_block(element.substr(colon + 1));
    element = element.substr(0, colon);
  }
  out->element = find_format(element);
  if (out->element == nullptr) return unknown_format(op, argument, element, true);
  if (slash == std::string_view::npos) return Status();

  std::string_view scale = text.substr(slash + 1);
  const size_t scale_colon = scale.find(':');
  if (scale_colon != std::string_view::npos) {
    if (!parse_block(scale.substr(scale_colon + 1), &out->scale_block)) return bad_block(scale.substr(scale_colon + 1));
    out->scale_has_scale = true;
    scale = scale.substr(0, scale_colon);
  }
  out->scale = find_format(scale);
  if (out->scale == nullptr) return unknown_format(op, argument, scale, false);
  if (out->scale->kind == Kind::kCodebook || out->scale->is_complex()) {
    return invalid(op, ": ", argument, " must have scales in an integer, float or nf4 format, got \"",
                   std::string(scale), "\" in \"", std::string(whole),
                   "\"; use for instance \"uint4\" or \"float8_e4m3fn\"");
  }
  return Status();
}

}  // namespace

Status parse_spec(const char* op, const char* argument, std::string_view text, Spec* out) {
  // the last few of this thread: a call names its formats several times, and a model few different ones
  struct Parsed {
    std::string text;
    Spec spec;
  };
  constexpr size_t kKept = 4;
  thread_local Parsed kept[kKept];
  thread_local size_t next = 0;
  for (const Parsed& p : kept) {
    if (p.spec.element != nullptr && p.text == text) return *out = p.spec, Status();
  }
  Status status = parse(op, argument, text, out);
  if (status.ok()) kept[next++ % kKept] = {std::string(text), *out};
  return status;
}

}  // namespace lowbit
