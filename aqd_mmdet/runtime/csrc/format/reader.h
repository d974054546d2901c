// Reads the nodes of a file's structure: docs/file_format.md.

#pragma once

#include <string>

#include "format/json.h"
#include "format/limits.h"
#include "graph/ops.h"

namespace aqd {

// Largest magnitude that a grid allows.
int64_t magnitude(const Grid &grid);

// Whether a grid has all codes between two.
bool holds(const Grid &grid, int64_t low, int64_t high);

// The product of two numbers, or one more than the most.
uint64_t product(uint64_t x, uint64_t y, uint64_t most);

// As they stand in messages.
std::string text(int64_t number);
std::string number(size_t count);
std::string text(int64_t low, int64_t high);
std::string text(const Grid &grid);
std::string text(const Size &size);
std::string quoted(std::string_view name);
// What is told of a mistake.
std::string refusal(const std::string &where, const std::string &expected,
                    const std::string &found);

// Tells of the first mistake. What is read after it is empty.
class Reader {
 public:
  Reader(const Json &json, const uint8_t *data, size_t length,
         std::string *message)
      : json_(json), data_(data), length_(length), message_(*message) {}

  bool ok() const { return message_.empty(); }
  size_t data_length() const { return length_; }

  // Says what is read from now on.
  void at(std::string where) { where_ = std::move(where); }
  const std::string &where() const { return where_; }

  // Returns whether all is well, up to now and here (or at a node).
  bool expect(bool ok, const std::string &expected, const std::string &found);
  bool expect(const JsonNode &node, bool ok, const std::string &expected,
              const std::string &found);

  const JsonNode &child(const JsonNode &object, const char *key);
  // Expects that an object has no keys but those that were read, each once.
  void done(const JsonNode &object);

  int64_t integer(const JsonNode &node, const Limits &limits);
  int64_t integer(const JsonNode &object, const char *key,
                  const Limits &limits);
  int32_t int32(const JsonNode &object, const char *key, const Limits &limits);
  bool truth(const JsonNode &object, const char *key);
  void real(const JsonNode &object, const char *key);
  std::string_view string(const JsonNode &node);
  std::string_view string(const JsonNode &object, const char *key);
  // Children of a list, or of an object whose keys are names.
  std::vector<const JsonNode *> items(const JsonNode &object, const char *key);
  std::vector<const JsonNode *> named(const JsonNode &object, const char *key);
  Size pair(const JsonNode &object, const char *key, const Limits &limits);
  Grid grid(const JsonNode &object);

  // The numbers of an array of a type and a number of axes; null after a
  // mistake.
  const uint8_t *array(const JsonNode &object, const char *key,
                       const char *dtype, size_t axes,
                       std::vector<int64_t> *shape);
  std::vector<int32_t> int32s(const JsonNode &object, const char *key,
                              size_t axes, std::vector<int64_t> *shape);
  Multipliers multipliers(const JsonNode &object, int32_t channels);

 private:
  std::vector<const JsonNode *> children(const JsonNode &node, JsonType type,
                                         const char *expected);

  const Json &json_;
  const uint8_t *data_;
  const size_t length_;
  std::string &message_;
  std::string where_ = "JSON";
  const JsonNode nothing_;
};

}  // namespace aqd
