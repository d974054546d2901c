// A reader of JSON that trusts nothing: no recursion, no floats, no copies.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aqd {

enum class JsonType : uint8_t {
  kNull,
  kBool,
  kInteger,
  kReal,  // a number with a fraction or an exponent; nobody reads its value
  kString,
  kArray,
  kObject,
};

// A value and its place among others; indices are into Json::nodes.
struct JsonNode {
  JsonType type = JsonType::kNull;
  bool truth = false;
  int64_t integer = 0;
  std::string_view text;  // of a string, between its quotes, as it is written
  std::string_view key;   // if its parent is an object
  size_t count = 0;       // children
  size_t child = 0;       // the first one
  size_t next = 0;        // the next child of its parent; 0 for none
};

struct Json {
  std::vector<JsonNode> nodes;  // the first is the root

  const JsonNode &root() const { return nodes[0]; }
  // Returns null if there is no such child.
  const JsonNode *find(const JsonNode &object, std::string_view key) const;
};

// Returns a string's text without escapes, UTF-8; half a surrogate pair becomes
// the replacement character.
std::string unescaped(std::string_view text);

// Returns whether a text is JSON as Python's json writes it.
bool parse_json(std::string_view text, Json *json);

}  // namespace aqd
