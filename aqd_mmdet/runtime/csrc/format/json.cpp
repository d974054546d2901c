#include "format/json.h"

#include <algorithm>

namespace aqd {
namespace {

constexpr size_t kMaxDepth = 64;

class Parser {
 public:
  Parser(std::string_view text, Json *json) : text_(text), json_(*json) {}

  bool run() {
    // Parents of the value that comes next, from the root.
    std::vector<size_t> parents;
    std::vector<size_t> last;  // child that was added to each of them
    bool first = true;
    for (;;) {
      std::string_view key;
      skip_spaces();
      if (!parents.empty()) {
        const bool object = type_of(parents.back()) == JsonType::kObject;
        if (accept(object ? '}' : ']')) {
          parents.pop_back();
          last.pop_back();
          first = false;
          if (parents.empty()) return at_end();
          continue;
        }
        if (!first && !accept(',')) return false;
        skip_spaces();
        if (object) {
          if (!string(&key)) return false;
          skip_spaces();
          if (!accept(':')) return false;
          skip_spaces();
        }
      }
      const size_t index = json_.nodes.size();
      json_.nodes.emplace_back();
      json_.nodes[index].key = key;
      if (!parents.empty()) {
        JsonNode &parent = json_.nodes[parents.back()];
        if (last.back() == 0) {
          parent.child = index;
        } else {
          json_.nodes[last.back()].next = index;
        }
        last.back() = index;
        ++parent.count;
      }
      if (!value(&json_.nodes[index])) return false;
      first = false;
      const JsonType type = type_of(index);
      if (type == JsonType::kArray || type == JsonType::kObject) {
        if (parents.size() == kMaxDepth) return false;
        parents.push_back(index);
        last.push_back(0);
        first = true;
      } else if (parents.empty()) {
        return at_end();
      }
    }
  }

 private:
  JsonType type_of(size_t index) const { return json_.nodes[index].type; }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool accept(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool accept(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_spaces() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\n' ||
                                  peek() == '\r' || peek() == '\t')) {
      ++at_;
    }
  }

  bool at_end() {
    skip_spaces();
    return at_ == text_.size();
  }

  bool string(std::string_view *found) {
    if (!accept('"')) return false;
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (static_cast<unsigned char>(text_[at_]) < 0x20) return false;
      at_ += text_[at_] == '\\' ? 2 : 1;
    }
    if (at_ >= text_.size()) return false;
    *found = text_.substr(start, at_ - start);
    ++at_;
    return true;
  }

  bool digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  bool number(JsonNode *node) {
    const size_t start = at_;
    accept('-');
    if (!digits()) return false;
    node->type = JsonType::kInteger;
    const std::string_view whole = text_.substr(start, at_ - start);
    if (accept('.')) {
      node->type = JsonType::kReal;
      if (!digits()) return false;
    }
    if (accept('e') || accept('E')) {
      node->type = JsonType::kReal;
      if (!accept('+')) accept('-');
      if (!digits()) return false;
    }
    return node->type == JsonType::kReal || integer(whole, &node->integer);
  }

  static bool integer(std::string_view text, int64_t *value) {
    const bool negative = text[0] == '-';
    if (negative) text.remove_prefix(1);
    uint64_t total = 0;
    for (const char c : text) {
      const uint64_t digit = static_cast<uint64_t>(c - '0');
      if (total > (INT64_MAX - digit) / 10) return false;
      total = total * 10 + digit;
    }
    *value = negative ? -static_cast<int64_t>(total)
                      : static_cast<int64_t>(total);
    return true;
  }

  bool value(JsonNode *node) {
    switch (peek()) {
      case '{':
        node->type = JsonType::kObject;
        return accept('{');
      case '[':
        node->type = JsonType::kArray;
        return accept('[');
      case '"':
        node->type = JsonType::kString;
        return string(&node->text);
      case 't':
        node->type = JsonType::kBool;
        node->truth = true;
        return accept("true");
      case 'f':
        node->type = JsonType::kBool;
        return accept("false");
      case 'n':
        return accept("null");
      default:
        return number(node);
    }
  }

  std::string_view text_;
  Json &json_;
  size_t at_ = 0;
};

// Appends a character as UTF-8.
void append(uint32_t code, std::string *out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
    return;
  }
  // How many bytes follow, and what marks the first one.
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const uint32_t mark = more == 1 ? 0xc0u : more == 2 ? 0xe0u : 0xf0u;
  out->push_back(static_cast<char>(mark | code >> 6 * more));
  for (int i = more - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80u | (code >> 6 * i & 0x3fu)));
  }
}

// What a letter behind a backslash stands for.
char control(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return letter;
  }
}

// The value of four hexadecimal digits at a place; 0 if they are none.
uint32_t hexadecimal(std::string_view text, size_t at) {
  uint32_t value = 0;
  if (at + 4 > text.size()) return 0;
  for (const char c : text.substr(at, 4)) {
    const char small = static_cast<char>(c | 0x20);
    const bool is_letter = small >= 'a' && small <= 'f';
    if (!is_letter && (c < '0' || c > '9')) return 0;
    value = value << 4 |
            static_cast<uint32_t>(is_letter ? small - 'a' + 10 : c - '0');
  }
  return value;
}

}  // namespace

std::string unescaped(std::string_view text) {
  std::string made;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      made.push_back(text[i]);
      continue;
    }
    const char c = text[++i];
    if (c != 'u') {
      made.push_back(control(c));
      continue;
    }
    uint32_t code = hexadecimal(text, i + 1);
    i = std::min(i + 4, text.size() - 1);
    if (code >= 0xd800 && code < 0xdc00 && text.substr(i + 1, 2) == "\\u") {
      const uint32_t low = hexadecimal(text, i + 3);
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        i += 6;
      }
    }
    append(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, &made);
  }
  return made;
}

const JsonNode *Json::find(const JsonNode &object, std::string_view key) const {
  if (object.type != JsonType::kObject) return nullptr;
  for (size_t i = object.child; i != 0; i = nodes[i].next) {
    if (nodes[i].key == key) return &nodes[i];
  }
  return nullptr;
}

bool parse_json(std::string_view text, Json *json) {
  json->nodes.clear();
  return Parser(text, json).run();
}

}  // namespace aqd
