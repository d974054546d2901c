#include "format/reader.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace aqd {
namespace {

constexpr size_t kAlignment = 8;
// Letters of a text that a message shows.
constexpr size_t kShown = 40;

// What a node holds, for messages.
std::string description(const JsonNode &node) {
  switch (node.type) {
    case JsonType::kNull:
      return "null";
    case JsonType::kBool:
      return node.truth ? "true" : "false";
    case JsonType::kInteger:
      return text(node.integer);
    case JsonType::kReal:
      return "a number that is no integer of 64 bits";
    case JsonType::kString:
      return quoted(node.text);
    case JsonType::kArray:
      return "a list of " + number(node.count);
    case JsonType::kObject:
      break;
  }
  return "an object";
}

size_t width_of(std::string_view dtype) {
  return dtype == "int64" ? 8 : dtype == "int32" ? 4 : 1;
}

}  // namespace

int64_t magnitude(const Grid &grid) {
  return std::max(std::abs(int64_t{grid.low}), std::abs(int64_t{grid.high}));
}

bool holds(const Grid &grid, int64_t low, int64_t high) {
  return grid.low <= low && high <= grid.high;
}

std::string text(int64_t number) {
  // Negative, as the least number has no opposite.
  std::string digits;
  int64_t rest = number < 0 ? number : -number;
  do {
    digits.insert(digits.begin(), static_cast<char>('0' - rest % 10));
    rest /= 10;
  } while (rest != 0);
  return number < 0 ? "-" + digits : digits;
}

std::string number(size_t count) { return text(static_cast<int64_t>(count)); }

std::string text(int64_t low, int64_t high) {
  return text(low) + ".." + text(high);
}

std::string text(const Grid &grid) { return text(grid.low, grid.high); }

std::string text(const Size &size) {
  return text(size.height) + " x " + text(size.width);
}

std::string quoted(std::string_view name) {
  std::string shown = "'";
  for (const char c : name.substr(0, kShown)) {
    shown += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return shown + (name.size() > kShown ? "...'" : "'");
}

uint64_t product(uint64_t x, uint64_t y, uint64_t most) {
  return y != 0 && x > most / y ? most + 1 : x * y;
}

std::string refusal(const std::string &where, const std::string &expected,
                    const std::string &found) {
  return where + ": expected " + expected + ", found " + found;
}

bool Reader::expect(bool ok, const std::string &expected,
                    const std::string &found) {
  if (!ok && this->ok()) message_ = refusal(where_, expected, found);
  return ok && this->ok();
}

bool Reader::expect(const JsonNode &node, bool ok, const std::string &expected,
                    const std::string &found) {
  if (!ok && this->ok()) {
    const std::string key = node.key.empty() ? "" : "." + std::string(node.key);
    message_ = refusal(where_ + key, expected, found);
  }
  return ok && this->ok();
}

const JsonNode &Reader::child(const JsonNode &object, const char *key) {
  const JsonNode *found = json_.find(object, key);
  expect(found != nullptr, std::string("the key ") + key,
         object.type == JsonType::kObject ? "no such key"
         : description(object));
  if (found == nullptr) return nothing_;
  found->is_read = true;
  return *found;
}

void Reader::done(const JsonNode &object) {
  for (size_t i = object.child; i != 0 && ok(); i = json_.nodes[i].next) {
    const JsonNode &each = json_.nodes[i];
    const bool is_twice = json_.find(object, each.key) != &each;
    expect(!is_twice, "each key once", quoted(each.key) + " twice");
    expect(each.is_read, "keys of the format alone", quoted(each.key));
  }
}

int64_t Reader::integer(const JsonNode &node, const Limits &limits) {
  const bool ok = node.type == JsonType::kInteger &&
                  limits.least <= node.integer && node.integer <= limits.most;
  expect(node, ok, text(limits.least) + " to " + text(limits.most),
         description(node));
  return ok ? node.integer : limits.least;
}

int64_t Reader::integer(const JsonNode &object, const char *key,
                        const Limits &limits) {
  return integer(child(object, key), limits);
}

int32_t Reader::int32(const JsonNode &object, const char *key,
                      const Limits &limits) {
  return static_cast<int32_t>(integer(object, key, limits));
}

bool Reader::truth(const JsonNode &object, const char *key) {
  const JsonNode &node = child(object, key);
  expect(node, node.type == JsonType::kBool, "true or false",
         description(node));
  return node.truth;
}

void Reader::real(const JsonNode &object, const char *key) {
  const JsonNode &node = child(object, key);
  const bool ok =
      node.type == JsonType::kInteger || node.type == JsonType::kReal;
  expect(node, ok, "a number", description(node));
}

std::string_view Reader::string(const JsonNode &node) {
  expect(node, node.type == JsonType::kString, "a string", description(node));
  return node.text;
}

std::string_view Reader::string(const JsonNode &object, const char *key) {
  return string(child(object, key));
}

std::vector<const JsonNode *> Reader::children(const JsonNode &node,
                                               JsonType type,
                                               const char *expected) {
  std::vector<const JsonNode *> found;
  const bool ok = node.type == type;
  if (!expect(node, ok, expected, description(node))) return found;
  found.reserve(node.count);
  for (size_t i = node.child; i != 0; i = json_.nodes[i].next) {
    found.push_back(&json_.nodes[i]);
  }
  return found;
}

std::vector<const JsonNode *> Reader::items(const JsonNode &object,
                                            const char *key) {
  return children(child(object, key), JsonType::kArray, "a list");
}

std::vector<const JsonNode *> Reader::named(const JsonNode &object,
                                            const char *key) {
  return children(child(object, key), JsonType::kObject, "an object");
}

Size Reader::pair(const JsonNode &object, const char *key,
                  const Limits &limits) {
  const auto found = items(object, key);
  const int64_t count = static_cast<int64_t>(found.size());
  const JsonNode &node = child(object, key);
  if (!expect(node, count == 2, "2 items", text(count))) return {};
  return {static_cast<int32_t>(integer(*found[0], limits)),
          static_cast<int32_t>(integer(*found[1], limits))};
}

Grid Reader::grid(const JsonNode &object) {
  const JsonNode &node = child(object, "grid");
  Grid grid;
  grid.low = int32(node, "lo", kGridLo);
  grid.high = int32(node, "hi", kGridHi);
  done(node);
  expect(node, grid.low <= grid.high, "lo up to hi", text(grid));
  return grid;
}

const uint8_t *Reader::array(const JsonNode &object, const char *key,
                             const char *dtype, size_t axes,
                             std::vector<int64_t> *shape) {
  const JsonNode &node = child(object, key);
  const std::string_view type = string(node, "dtype");
  expect(node, type == dtype, std::string("an array of ") + dtype,
         quoted(type));
  const auto sides = items(node, "shape");
  const std::string expected = number(axes) + " axes";
  if (!expect(node, sides.size() == axes, expected, number(sides.size()))) {
    return nullptr;
  }
  uint64_t count = 1;
  for (const JsonNode *side : sides) {
    shape->push_back(integer(*side, kArrayShape));
    count = product(count, static_cast<uint64_t>(shape->back()), length_);
  }
  const int64_t at = integer(node, "at", {0, INT64_MAX});
  done(node);
  const uint64_t start = static_cast<uint64_t>(at);
  const bool is_inside = start % kAlignment == 0 && start <= length_ &&
                         count <= (length_ - start) / width_of(dtype);
  expect(node, is_inside,
         "numbers inside the " + number(length_) +
         " bytes of DATA, from a multiple of 8",
         "others, from " + text(at));
  return ok() ? data_ + start : nullptr;
}

std::vector<int32_t> Reader::int32s(const JsonNode &object, const char *key,
                                    size_t axes, std::vector<int64_t> *shape) {
  const uint8_t *at = array(object, key, "int32", axes, shape);
  if (!ok()) return {};
  size_t count = 1;
  for (const int64_t side : *shape) count *= static_cast<size_t>(side);
  std::vector<int32_t> numbers(count);
  if (count > 0) std::memcpy(numbers.data(), at, 4 * count);
  return numbers;
}

Multipliers Reader::multipliers(const JsonNode &object, int32_t channels) {
  Multipliers table;
  std::vector<int64_t> shapes[3];
  const uint8_t *m = array(object, "m", "int32", 1, &shapes[0]);
  const uint8_t *b = array(object, "b", "int64", 1, &shapes[1]);
  const uint8_t *s = array(object, "s", "uint8", 1, &shapes[2]);
  done(object);
  if (!ok()) return table;
  const int64_t count = shapes[0][0];
  const bool is_one_length = shapes[0] == shapes[1] && shapes[0] == shapes[2];
  const bool fits = is_one_length && (count == channels || count == 1);
  if (!expect(fits, text(channels) + " multipliers, or one",
              is_one_length ? text(count) : "m, b and s of other lengths")) {
    return table;
  }
  const size_t n = static_cast<size_t>(count);
  table.m.resize(n);
  table.b.resize(n);
  table.s.assign(s, s + n);
  std::memcpy(table.m.data(), m, 4 * n);
  std::memcpy(table.b.data(), b, 8 * n);
  const int64_t largest = *std::max_element(table.s.begin(), table.s.end());
  expect(largest <= kMultipliersS.most,
         "shifts of at most " + text(kMultipliersS.most), text(largest));
  return table;
}

}  // namespace aqd
