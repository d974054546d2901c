#include "format/json.h"

namespace aqd {
namespace {

constexpr size_t kMaxDepth = 64;

// Appends a character as UTF-8.
void append(uint32_t code, std::string *out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
    return;
  }
  // How many bytes follow the first one, and what marks it.
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const uint32_t mark = more == 1 ? 0xc0u : more == 2 ? 0xe0u : 0xf0u;
  out->push_back(static_cast<char>(mark | code >> 6 * more));
  for (int i = more - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80u | (code >> 6 * i & 0x3fu)));
  }
}

// Length of the character of UTF-8 that a text begins with; 0 if it is none, or
// a control character, which strings may not hold.
size_t character(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const uint32_t first = byte(0);
  if (first < 0x80) return first < 0x20 ? 0 : 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  uint32_t code = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  // Only the shortest form is allowed, and no half of a surrogate pair.
  constexpr uint32_t kLeast[] = {0x80, 0x800, 0x10000};
  const bool is_surrogate = code >= 0xd800 && code < 0xe000;
  const bool ok = first >= 0xc0 && first < 0xf8 && code >= kLeast[length - 2] &&
                  code <= 0x10ffff && !is_surrogate;
  return ok ? length : 0;
}

// The nodes of a text, without recursion.
class Parser {
 public:
  Parser(std::string_view text, Json *json) : text_(text), json_(*json) {}

  size_t at() const { return at_; }

  bool run() {
    if (!value({})) return false;
    while (!parents_.empty()) {
      const JsonNode &parent = json_.nodes[parents_.back().index];
      const bool is_object = parent.type == JsonType::kObject;
      skip_spaces();
      if (accept(is_object ? '}' : ']')) {
        parents_.pop_back();
        continue;
      }
      if (parent.count > 0 && !accept(',')) return false;
      std::string_view name = parent.key;
      if (is_object && !key(&name)) return false;
      if (!value(name)) return false;
    }
    skip_spaces();
    return at_ == text_.size();
  }

 private:
  // An array or an object that is not yet at its end.
  struct Parent {
    size_t index, last_child;
  };

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
    while (accept(' ') || accept('\n') || accept('\r') || accept('\t')) {
    }
  }

  bool key(std::string_view *name) {
    skip_spaces();
    if (!string(name)) return false;
    skip_spaces();
    return accept(':');
  }

  bool value(std::string_view key) {
    skip_spaces();
    const size_t index = json_.nodes.size();
    json_.nodes.emplace_back();
    JsonNode &node = json_.nodes[index];
    node.key = key;
    if (!parents_.empty()) {
      Parent &from = parents_.back();
      JsonNode &parent = json_.nodes[from.index];
      size_t &link = from.last_child == 0 ? parent.child
                                          : json_.nodes[from.last_child].next;
      link = from.last_child = index;
      ++parent.count;
    }
    if (!read(&node)) return false;
    if (node.type == JsonType::kArray || node.type == JsonType::kObject) {
      if (parents_.size() == kMaxDepth) return false;
      parents_.push_back({index, 0});
    }
    return true;
  }

  // Reads a value, of an array or an object the beginning.
  bool read(JsonNode *node) {
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

  bool digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  bool number(JsonNode *node) {
    const size_t start = at_;
    accept('-');
    const bool is_zero = peek() == '0';
    const size_t first = at_;
    if (!digits() || (is_zero && at_ > first + 1)) return false;
    const std::string_view whole = text_.substr(start, at_ - start);
    const bool is_small = integer(whole, &node->integer);
    node->type = is_small ? JsonType::kInteger : JsonType::kReal;
    if (accept('.')) {
      node->type = JsonType::kReal;
      if (!digits()) return false;
    }
    if (accept('e') || accept('E')) {
      node->type = JsonType::kReal;
      if (!accept('+')) accept('-');
      if (!digits()) return false;
    }
    return true;
  }

  // Returns whether a number is below 2^63 in magnitude.
  static bool integer(std::string_view text, int64_t *value) {
    const bool is_negative = text[0] == '-';
    if (is_negative) text.remove_prefix(1);
    uint64_t total = 0;
    for (const char c : text) {
      const uint64_t digit = static_cast<uint64_t>(c - '0');
      if (total > (INT64_MAX - digit) / 10) return false;
      total = total * 10 + digit;
    }
    *value = static_cast<int64_t>(total);
    if (is_negative) *value = -*value;
    return true;
  }

  bool string(std::string_view *found) {
    if (!accept('"')) return false;
    const size_t start = at_;
    while (peek() != '"' && peek() != '\\') {
      const size_t length = character(text_.substr(at_));
      if (length == 0) return false;
      at_ += length;
    }
    *found = text_.substr(start, at_ - start);
    if (accept('"')) return true;
    std::string copy(*found);
    while (!accept('"')) {
      const size_t length = character(text_.substr(at_));
      if (length == 0) return false;
      if (accept('\\')) {
        if (!escape(&copy)) return false;
        continue;
      }
      copy.append(text_.substr(at_, length));
      at_ += length;
    }
    json_.unescaped.push_back(std::move(copy));
    *found = json_.unescaped.back();
    return true;
  }

  // What follows a backslash.
  bool escape(std::string *to) {
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    const size_t letter = kLetters.find(peek());
    if (letter != std::string_view::npos) {
      ++at_;
      to->push_back(kMeant[letter]);
      return true;
    }
    uint32_t code, low;
    if (!accept('u') || !hexadecimal(&code)) return false;
    const size_t behind = at_;
    if (code >= 0xd800 && code < 0xdc00 && accept("\\u")) {
      if (!hexadecimal(&low)) return false;
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      } else {
        at_ = behind;
      }
    }
    append(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, to);
    return true;
  }

  // Four hexadecimal digits.
  bool hexadecimal(uint32_t *value) {
    *value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek(), small = static_cast<char>(c | 0x20);
      const bool is_letter = small >= 'a' && small <= 'f';
      if (!is_letter && (c < '0' || c > '9')) return false;
      const int digit = is_letter ? small - 'a' + 10 : c - '0';
      *value = *value << 4 | static_cast<uint32_t>(digit);
    }
    return true;
  }

  std::string_view text_;
  Json &json_;
  std::vector<Parent> parents_;
  size_t at_ = 0;
};

}  // namespace

const JsonNode *Json::find(const JsonNode &object, std::string_view key) const {
  if (object.type != JsonType::kObject) return nullptr;
  for (size_t i = object.child; i != 0; i = nodes[i].next) {
    if (nodes[i].key == key) return &nodes[i];
  }
  return nullptr;
}

bool parse_json(std::string_view text, Json *json, size_t *stop) {
  json->nodes.clear();
  Parser parser(text, json);
  const bool ok = parser.run();
  *stop = parser.at();
  return ok;
}

}  // namespace aqd
