#include "format/reader.h"

#include <algorithm>

namespace aqd {
namespace {

constexpr size_t kAlignment = 8;
// Bytes of a text that a message shows.
constexpr size_t kShown = 40;

// What there is in place of a child that is missing.
const JsonNode kNothing;

// Types of arrays, and bytes of a number. Version 3 has the first three of
// them, version 4 has four; the first five are those of C.
constexpr std::pair<std::string_view, size_t> kTypes[] = {
    {"uint8", 1}, {"int32", 4},  {"int64", 8}, {"int16", 2},
    {"int8", 1},  {"uint24", 3}, {"int40", 5}, {"int48", 6}};
constexpr size_t kTypesOfC = 5;

}  // namespace

std::string decimal(uint64_t magnitude, bool is_negative) {
  std::string digits;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' + magnitude % 10));
    magnitude /= 10;
  } while (magnitude != 0);
  return is_negative ? "-" + digits : digits;
}

std::string text(const Limits &range) {
  return text(range.least) + ".." + text(range.most);
}

std::string text(const Grid &grid) { return text(Limits{grid.low, grid.high}); }

std::string text(const Size &size) {
  return text(std::vector<int64_t>{size.height, size.width});
}

std::string text(const std::vector<int64_t> &shape) {
  std::string sides;
  for (const int64_t side : shape) {
    sides += (sides.empty() ? "" : " x ") + text(side);
  }
  return sides;
}

size_t whole_letters(std::string_view words, size_t most) {
  if (words.size() <= most) return words.size();
  // The bytes behind the first of a letter of UTF-8 are 10xxxxxx.
  while (most > 0 && (words[most] & 0xc0) == 0x80) --most;
  return most;
}

std::string shown(std::string_view name) {
  std::string plain;
  unsigned char before = 0;
  for (const char c : name.substr(0, whole_letters(name, kShown))) {
    const auto byte = static_cast<unsigned char>(c);
    // Some numbers command a terminal: 0 to 31, and 127 to 159, which UTF-8
    // writes as two bytes from 128 on.
    const bool is_second = before == 0xc2 && byte < 0xa0;
    if (is_second) plain.pop_back();
    plain += is_second || byte < 0x20 || byte == 0x7f ? ' ' : c;
    before = byte;
  }
  return name.size() > kShown ? plain + "..." : plain;
}

std::string quoted(std::string_view name) { return "'" + shown(name) + "'"; }

std::string filled(const char *sentence,
                   std::initializer_list<std::string> values) {
  std::string all;
  auto next = values.begin();
  for (; *sentence != '\0'; ++sentence) {
    all += *sentence == '%' ? *next++ : std::string(1, *sentence);
  }
  return all;
}

std::string refusal(const std::string &where, const std::string &expected,
                    const std::string &found) {
  return where + ": expected " + expected + ", found " + found;
}

uint64_t count_of(const std::vector<int64_t> &shape) {
  constexpr uint64_t kMost = uint64_t{1} << 60;
  uint64_t count = 1;
  for (const int64_t each : shape) {
    const uint64_t side = static_cast<uint64_t>(each);
    count = side != 0 && count > kMost / side ? kMost : count * side;
  }
  return count;
}

bool Reader::open(std::string_view json, std::string_view data) {
  size_t stop;
  const bool is_json = parse_json(json, &json_, &stop);
  at("section JSON");
  expect(is_json, "a mistake at byte " + text(stop), "JSON");
  at("JSON");
  data_ = data;
  return is_json;
}

Value Reader::root() { return {this, &json_.root()}; }

void Reader::tell(std::string_view key, const std::string &expected,
                  const std::string &found) {
  const std::string child = key.empty() ? "" : "." + std::string(key);
  if (ok()) *message_ = refusal(where_ + child, expected, found);
}

std::string text(const Value &value) {
  const JsonNode &node = *value.node_;
  const JsonType type = node.type;
  if (type == JsonType::kBool) return node.truth ? "true" : "false";
  if (type == JsonType::kInteger) return text(node.integer);
  if (type == JsonType::kReal) return "a number that is no integer of 64 bits";
  if (type == JsonType::kString) return quoted(node.text);
  if (type == JsonType::kArray) return "a list of " + text(node.count);
  return type == JsonType::kObject ? "an object" : "null";
}

Value Value::operator[](const char *key) const {
  const JsonNode *found = reader_->json_.find(*node_, key);
  if (found == nullptr) {
    const bool is_object = node_->type == JsonType::kObject;
    reader_->expect(false, is_object ? "no such key" : text(*this),
                    "the key %", key);
    return {reader_, &kNothing};
  }
  found->is_read = true;
  return {reader_, found};
}

void Value::done() const {
  const Json &json = reader_->json_;
  for (size_t i = node_->child; i != 0; i = json.nodes[i].next) {
    if (!reader_->ok()) return;
    const JsonNode &each = json.nodes[i];
    const bool is_twice = json.find(*node_, each.key) != &each;
    reader_->expect(!is_twice, quoted(each.key) + " twice", "each key once");
    reader_->expect(each.is_read, quoted(each.key), "keys of the format alone");
  }
}

int64_t Value::integer(const Limits &limits) const {
  const bool is_integer = node_->type == JsonType::kInteger;
  if (is_integer && limits.hold(node_->integer)) return node_->integer;
  expect(false, *this, "% to %", limits.least, limits.most);
  return limits.least;
}

bool Value::truth() const {
  expect(node_->type == JsonType::kBool, *this, "true or false");
  return node_->truth;
}

void Value::real() const {
  const bool is_integer = node_->type == JsonType::kInteger;
  expect(is_integer || node_->type == JsonType::kReal, *this, "a number");
}

std::string_view Value::string() const {
  expect(node_->type == JsonType::kString, *this, "a string");
  return node_->text;
}

std::vector<Value> Value::items(JsonType type) const {
  std::vector<Value> found;
  if (!expect(node_->type == type, *this,
              type == JsonType::kArray ? "a list" : "an object")) {
    return found;
  }
  found.reserve(node_->count);
  const std::vector<JsonNode> &nodes = reader_->json_.nodes;
  for (size_t i = node_->child; i != 0; i = nodes[i].next) {
    found.emplace_back(reader_, &nodes[i]);
  }
  return found;
}

Size Value::pair(const Limits &limits) const {
  const auto found = items();
  if (!expect(found.size() == 2, found.size(), "2 items")) return {};
  return {found[0].int32(limits), found[1].int32(limits)};
}

Grid Value::grid() const {
  Grid grid;
  grid.low = (*this)["lo"].int32(kGridLo);
  grid.high = (*this)["hi"].int32(kGridHi);
  done();
  expect(grid.low <= grid.high, grid, "lo up to hi");
  return grid;
}

uint64_t number_at(std::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    number = number << 8 | static_cast<uint8_t>(bytes[i - 1]);
  }
  return number;
}

int64_t Array::operator[](size_t index) const {
  const uint64_t bits = number_at(bytes.substr(index * width, width));
  const size_t unused = is_signed ? 64 - 8 * width : 0;
  return static_cast<int64_t>(bits << unused) >> unused;
}

Array Value::array(int64_t row, Types types) const {
  Array made;
  const std::string_view type = (*this)["dtype"].string();
  made.is_signed = type.substr(0, 1) == "i";
  const uint64_t version = reader_->version();
  size_t known = types == Types::kAll ? std::size(kTypes) : kTypesOfC;
  if (version < 5) known = version;
  for (size_t i = 0; i < known; ++i) {
    if (type == kTypes[i].first) made.width = kTypes[i].second;
  }
  if (!expect(made.width > 0, quoted(type), "a type of numbers")) return {};
  const auto shape = (*this)["shape"].integers(kArrayShape);
  const bool fits = row == 0 ? shape.size() == 1
                             : shape.size() == 2 && shape[1] == row;
  if (!expect(fits, shape, row == 0 ? "one axis" : "rows of %", row)) return {};
  const int64_t at = (*this)["at"].integer({0, INT64_MAX});
  done();
  const uint64_t start = static_cast<uint64_t>(at);
  const uint64_t length = reader_->data_.size();
  const uint64_t count = count_of(shape);
  const bool is_inside = start % kAlignment == 0 && start <= length &&
                         count <= (length - start) / made.width;
  if (!expect(is_inside, "others, from " + text(at),
              "numbers inside the % bytes of DATA, from a multiple of 8",
              length)) {
    return {};
  }
  made.bytes = reader_->data_.substr(static_cast<size_t>(start));
  made.count = static_cast<size_t>(count);
  return made;
}

std::vector<int64_t> Value::integers(const Limits &limits, int64_t row,
                                     Types types) const {
  std::vector<int64_t> found;
  if (node_->type == JsonType::kArray && row == 0) {
    for (const Value &each : items()) found.push_back(each.integer(limits));
    return found;
  }
  const Array from = array(row, types);
  found.reserve(from.count);
  for (size_t i = 0; i < from.count && reader_->ok(); ++i) {
    found.push_back(from[i]);
    expect(limits.hold(from[i]), from[i], "% to %", limits.least, limits.most);
  }
  return found;
}

Multipliers Value::multipliers(int32_t channels, const Limits &biases) const {
  Multipliers table;
  table.m = (*this)["m"].numbers<int32_t>(kAll<int32_t>, 0, Types::kAll);
  table.s = (*this)["s"].numbers<uint8_t>(kMultipliersS);
  const bool is_whole = reader_->version() > 4 && (*this)["whole"].truth();
  table.b = (*this)["b"].integers(is_whole ? kMultipliersOffset : biases, 0,
                                  Types::kAll);
  done();
  if (!reader_->ok()) return {};
  const size_t n = table.m.size();
  const bool is_one_length = table.b.size() == n && table.s.size() == n;
  const bool fits = n == static_cast<size_t>(channels) || n == 1;
  if (!reader_->expect(
          is_one_length && fits,
          is_one_length ? text(n) : "m, b and s of other lengths",
          "% multipliers, or one", channels)) {
    return {};
  }
  for (size_t k = 0; is_whole && k < n; ++k) {
    const int64_t step = int64_t{1} << table.s[k];
    table.b[k] = table.b[k] * step + step / 2;
  }
  return table;
}

}  // namespace aqd
