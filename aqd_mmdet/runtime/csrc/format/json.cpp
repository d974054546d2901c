#include "format/json.h"

#include <algorithm>

namespace aqd {
namespace {

constexpr size_t kMaxDepth = 64;

// Appends a character as UTF-8.
void append(uint32_t code, std::string *out) {
  // What marks the first byte, by how many follow it.
  constexpr uint32_t kMarks[] = {0, 0xc0, 0xe0, 0xf0};
  const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  out->push_back(static_cast<char>(kMarks[more] | code >> 6 * more));
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

class Parser {
 public:
  // at: where it stops.
  Parser(std::string_view text, Json *json, size_t *at)
      : text_(text), json_(*json), at_(*at) {}

  bool run() {
    if (!value({}, 0)) return false;
    skip_spaces();
    return at_ == text_.size();
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool accept(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void skip_spaces() {
    at_ = std::min(text_.find_first_not_of(" \n\r\t", at_), text_.size());
  }

  // Reads a value inside of so many lists and objects.
  bool value(std::string_view key, size_t depth) {
    skip_spaces();
    const size_t index = json_.nodes.size();
    JsonNode &node = json_.nodes.emplace_back();
    node.key = key;
    const bool is_object = accept("{");
    if (!is_object && !accept("[")) return scalar(&node);
    node.type = is_object ? JsonType::kObject : JsonType::kArray;
    return depth < kMaxDepth && children(index, depth + 1);
  }

  bool children(size_t parent, size_t depth) {
    const bool is_object = json_.nodes[parent].type == JsonType::kObject;
    size_t last = 0;
    for (;;) {
      skip_spaces();
      if (accept(is_object ? "}" : "]")) return true;
      if (last != 0 && !accept(",")) return false;
      std::string_view key = json_.nodes[parent].key;
      if (is_object) {
        skip_spaces();
        if (!string(&key)) return false;
        skip_spaces();
        if (!accept(":")) return false;
      }
      const size_t next = json_.nodes.size();
      (last == 0 ? json_.nodes[parent].child : json_.nodes[last].next) = next;
      ++json_.nodes[parent].count;
      last = next;
      if (!value(key, depth)) return false;
    }
  }

  bool scalar(JsonNode *node) {
    const char first = peek();
    if (first == 'n') return accept("null");
    if (first == '"') {
      node->type = JsonType::kString;
      return string(&node->text);
    }
    if (first != 't' && first != 'f') return number(node);
    node->type = JsonType::kBool;
    node->truth = first == 't';
    return accept(node->truth ? "true" : "false");
  }

  bool digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  bool number(JsonNode *node) {
    const size_t start = at_;
    accept("-");
    const size_t first = at_;
    const bool is_zero = peek() == '0';
    if (!digits() || (is_zero && at_ > first + 1)) return false;
    const std::string_view whole = text_.substr(first, at_ - first);
    if (accept(".") && !digits()) return false;
    if (accept("e") || accept("E")) {
      if (!accept("+")) accept("-");
      if (!digits()) return false;
    }
    const bool is_integer =
        at_ == first + whole.size() && integer(whole, &node->integer);
    if (first > start) node->integer = -node->integer;
    node->type = is_integer ? JsonType::kInteger : JsonType::kReal;
    return true;
  }

  // Returns whether an integer is below 2^63.
  static bool integer(std::string_view digits, int64_t *value) {
    for (const char c : digits) {
      const int64_t digit = c - '0';
      if (*value > (INT64_MAX - digit) / 10) return false;
      *value = *value * 10 + digit;
    }
    return true;
  }

  bool string(std::string_view *found) {
    if (!accept("\"")) return false;
    const size_t start = at_;
    std::string *copy = nullptr;  // from the first escape on
    while (!accept("\"")) {
      if (accept("\\")) {
        if (copy == nullptr) {
          const std::string_view plain = text_.substr(start, at_ - 1 - start);
          copy = &json_.unescaped.emplace_back(plain);
        }
        if (!escape(copy)) return false;
        continue;
      }
      const size_t length = character(text_.substr(at_));
      if (length == 0) return false;
      if (copy != nullptr) copy->append(text_.substr(at_, length));
      at_ += length;
    }
    *found = copy != nullptr ? *copy : text_.substr(start, at_ - 1 - start);
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
    if (!accept("u") || !hexadecimal(&code)) return false;
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
  size_t &at_;
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
  *json = {};
  *stop = 0;
  return Parser(text, json, stop).run();
}

}  // namespace aqd
