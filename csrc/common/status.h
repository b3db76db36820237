// The result of every library call below the bindings: a code, and a sentence with the values.
// Sentence: "<op>: <argument> must be <rule>, got <value>; <way out>".
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <utility>

// Seen outside the op library: the Python module calls these.
#define LOWBIT_EXPORT __attribute__((visibility("default")))

namespace lowbit {

enum class Code : uint8_t { kOk, kInvalidArgument, kUnsupported, kOutOfMemory };

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// invalid("gemm: x must have ", 2, " dimensions, got ", d)
template <class... Parts>
Status invalid(const Parts&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  return Status(Code::kInvalidArgument, s.str());
}

template <class... Parts>
Status unsupported(const Parts&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  return Status(Code::kUnsupported, s.str());
}

#define LOWBIT_RETURN_IF_ERROR(expression)   \
  do {                                       \
    ::lowbit::Status status_ = (expression); \
    if (!status_.ok()) return status_;       \
  } while (0)

}  // namespace lowbit
