// Reads the structure of a file: docs/file_format.md.

#pragma once

#include <limits>
#include <string>
#include <vector>

#include "format/json.h"
#include "format/limits.h"
#include "graph/ops.h"

namespace aqd {

// As they stand in messages.
std::string decimal(uint64_t magnitude, bool is_negative);
template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
std::string text(T number) {
  const uint64_t bits = static_cast<uint64_t>(number);
  return number < 0 ? decimal(-bits, true) : decimal(bits, false);
}
std::string text(const Limits &range);
std::string text(const Grid &grid);
std::string text(const Size &size);
std::string text(const std::vector<int64_t> &shape);
inline std::string text(std::string words) { return words; }
// How many bytes of a text, at most, end with a letter.
size_t whole_letters(std::string_view words, size_t most);
// A name from a file: in one line, and not too long.
std::string shown(std::string_view name);
std::string quoted(std::string_view name);
// A sentence with values in place of its %.
std::string filled(const char *sentence,
                   std::initializer_list<std::string> values);
// What is told of a mistake.
std::string refusal(const std::string &where, const std::string &expected,
                    const std::string &found);

// The product of the sides of an array, or 2^60 if it is more.
uint64_t count_of(const std::vector<int64_t> &shape);

// The little-endian number that bytes are.
uint64_t number_at(std::string_view bytes);

class Value;

// A file that is read, and the first mistake in it.
class Reader {
 public:
  explicit Reader(std::string *message) : message_(message) {}

  // Gives it the content of the sections. Returns whether the first is JSON.
  bool open(std::string_view json, std::string_view data);
  Value root();

  // Of the file's format.
  void set_version(uint64_t version) { version_ = version; }
  uint64_t version() const { return version_; }
  // Says where the first mistake is told from now on, and what is read.
  void set_message(std::string *message) { message_ = message; }
  void at(std::string where) { where_ = std::move(where); }

  bool ok() const { return message_->empty(); }
  // Returns whether all is well, up to now and here. Otherwise tells, in this
  // order, what is found, what is expected, and values for each % in that.
  template <typename... Told>
  bool expect(bool ok, const Told &...told) {
    return expect_of({}, ok, told...);
  }

 private:
  friend class Value;

  // Expects something of a child, if a key is given.
  template <typename Found, typename... Values>
  bool expect_of(std::string_view key, bool ok, const Found &found,
                 const char *expected, const Values &...values) {
    if (!ok) tell(key, filled(expected, {text(values)...}), text(found));
    return ok && this->ok();
  }
  void tell(std::string_view key, const std::string &expected,
            const std::string &found);

  std::string *message_;
  uint64_t version_ = 0;
  std::string where_;
  Json json_;
  std::string_view data_;
};

// What a type holds.
template <typename T>
constexpr Limits kAll = {std::numeric_limits<T>::min(),
                         std::numeric_limits<T>::max()};

// Types that an array may have: those of C, or those of 3, 5 and 6 bytes too.
enum class Types { kOfC, kAll };

// Numbers in DATA, of 1 to 8 bytes.
struct Array {
  std::string_view bytes;
  size_t width = 0;  // bytes of a number
  bool is_signed = false;
  size_t count = 0;

  int64_t operator[](size_t index) const;
};

// A value of the structure. After a mistake, what is read is empty.
class Value {
 public:
  Value(Reader *reader, const JsonNode *node) : reader_(reader), node_(node) {}

  Reader &reader() const { return *reader_; }
  std::string_view key() const { return node_->key; }
  bool is_null() const { return node_->type == JsonType::kNull; }
  // As that of the reader, but names this value.
  template <typename... Told>
  bool expect(bool ok, const Told &...told) const {
    return reader_->expect_of(node_->key, ok, told...);
  }

  // The child of an object.
  Value operator[](const char *key) const;
  // Expects that an object has no keys but those that were read, each once.
  void done() const;

  int64_t integer(const Limits &limits) const;
  int32_t int32(const Limits &limits) const {
    return static_cast<int32_t>(integer(limits));
  }
  bool truth() const;
  void real() const;
  std::string_view string() const;
  // Children of a list, or of an object whose keys are names.
  std::vector<Value> items(JsonType type = JsonType::kArray) const;
  Size pair(const Limits &limits) const;
  Grid grid() const;
  // One with one axis, or with rows of so many numbers.
  Array array(int64_t row = 0, Types types = Types::kOfC) const;
  // Those of an array, or of a list in place of one with one axis.
  std::vector<int64_t> integers(const Limits &limits, int64_t row = 0,
                                Types types = Types::kOfC) const;
  template <typename T>
  std::vector<T> numbers(const Limits &limits = kAll<T>,
                         int64_t row = 0, Types types = Types::kOfC) const {
    const std::vector<int64_t> found = integers(limits, row, types);
    return std::vector<T>(found.begin(), found.end());
  }
  // Those of channels, or one for all; biases within limits.
  Multipliers multipliers(int32_t channels,
                          const Limits &biases = kMultipliersB) const;

 private:
  friend std::string text(const Value &value);

  Reader *reader_;
  const JsonNode *node_;
};

}  // namespace aqd
