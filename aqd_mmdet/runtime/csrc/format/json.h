// A reader of JSON that trusts nothing: limited depth, no floats, and copies of
// strings with escapes alone.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace aqd {

// A real is any number that is no integer; nobody reads its value.
enum class JsonType : uint8_t {
  kNull, kBool, kInteger, kReal, kString, kArray, kObject
};

// A value and its place among others; indices are into Json::nodes.
struct JsonNode {
  JsonType type = JsonType::kNull;
  bool truth = false;
  int64_t integer = 0;
  std::string_view text;  // of a string, UTF-8 without escapes
  std::string_view key;   // its own, or that of the list that it is in
  size_t count = 0;       // children
  size_t child = 0;       // the first one
  size_t next = 0;        // the next child of its parent; 0 for none
  mutable bool is_read = false;  // by Reader::child
};

struct Json {
  std::vector<JsonNode> nodes;  // the first is the root
  std::deque<std::string> unescaped;  // which nodes point into

  const JsonNode &root() const { return nodes[0]; }
  // Returns null if there is no such child.
  const JsonNode *find(const JsonNode &object, std::string_view key) const;
};

// Returns whether a text is JSON in UTF-8 (RFC 8259), and where it stops to be.
// Half a surrogate pair becomes the replacement character.
bool parse_json(std::string_view text, Json *json, size_t *stop);

}  // namespace aqd
