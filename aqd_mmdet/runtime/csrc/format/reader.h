// Reads what nodes of a file's structure say: docs/file_format.md.

#pragma once

#include <string>

#include "format/json.h"
#include "graph/program.h"

namespace aqd {

constexpr int64_t kMaxStride = 4096;
constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kLimit31 = (int64_t{1} << 31) - 1;
// An array has at most so many numbers along an axis.
constexpr int64_t kMaxSide = kLimit31;

// Largest magnitude that a grid allows.
int64_t magnitude(const Grid &grid);

// Whether a grid has all codes between two.
bool holds(const Grid &grid, int64_t low, int64_t high);

// Reads nodes; after the first that is wrong, all it returns is empty.
class Reader {
 public:
  Reader(const Json &json, const uint8_t *data, size_t length,
         std::string *message)
      : json_(json), data_(data), length_(length), message_(*message) {}

  bool ok() const { return message_.empty(); }

  // Says what is read from now on, for messages.
  void at(std::string where) { where_ = std::move(where); }

  bool need(bool right, const std::string &what);

  const JsonNode &child(const JsonNode &node, const char *key);
  int64_t integer(const JsonNode &node, int64_t low, int64_t high);
  int64_t integer(const JsonNode &node, const char *key, int64_t low,
                  int64_t high);
  bool truth(const JsonNode &node);
  std::string_view string(const JsonNode &node);
  // Children of an array or an object.
  std::vector<const JsonNode *> items(const JsonNode &node, JsonType type);
  Size pair(const JsonNode &node, const char *key, int64_t low, int64_t high);
  Grid grid(const JsonNode &node);
  // Numbers of an array of one type and shape; null if it is another.
  const uint8_t *array(const JsonNode &node, const char *dtype, size_t width,
                       size_t axes, std::vector<int64_t> *shape);
  std::vector<int32_t> numbers(const JsonNode &node, size_t axes,
                               std::vector<int64_t> *shape);
  Multipliers multipliers(const JsonNode &node, int32_t channels);

 protected:
  size_t length() const { return length_; }

 private:
  const Json &json_;
  const uint8_t *data_;
  const size_t length_;
  std::string &message_;
  std::string where_ = "its structure";
  const JsonNode nothing_;
};

}  // namespace aqd
