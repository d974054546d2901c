#include "format/reader.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace aqd {
namespace {

constexpr size_t kAlignment = 8;
constexpr int64_t kMaxShift = 47;

}  // namespace

int64_t magnitude(const Grid &grid) {
  return std::max(std::abs(static_cast<int64_t>(grid.low)),
                  std::abs(static_cast<int64_t>(grid.high)));
}

bool holds(const Grid &grid, int64_t low, int64_t high) {
  return grid.low <= low && high <= grid.high;
}

bool Reader::need(bool right, const std::string &what) {
  if (!right && ok()) message_ = where_ + " is not " + what;
  return right && ok();
}

const JsonNode &Reader::child(const JsonNode &node, const char *key) {
  const JsonNode *found = json_.find(node, key);
  need(found != nullptr, std::string("an object with ") + key);
  return found == nullptr ? nothing_ : *found;
}

int64_t Reader::integer(const JsonNode &node, int64_t low, int64_t high) {
  const bool right = node.type == JsonType::kInteger && low <= node.integer &&
                     node.integer <= high;
  need(right, "of integers in their range");
  return right ? node.integer : low;
}

int64_t Reader::integer(const JsonNode &node, const char *key, int64_t low,
                        int64_t high) {
  return integer(child(node, key), low, high);
}

bool Reader::truth(const JsonNode &node) {
  need(node.type == JsonType::kBool, "of true and false where they stand");
  return node.truth;
}

std::string_view Reader::string(const JsonNode &node) {
  need(node.type == JsonType::kString, "of names where they stand");
  return node.text;
}

std::vector<const JsonNode *> Reader::items(const JsonNode &node,
                                            JsonType type) {
  std::vector<const JsonNode *> found;
  if (!need(node.type == type, "of lists and objects")) return found;
  found.reserve(node.count);
  for (size_t i = node.child; i != 0; i = json_.nodes[i].next) {
    found.push_back(&json_.nodes[i]);
  }
  return found;
}

Size Reader::pair(const JsonNode &node, const char *key, int64_t low,
                  int64_t high) {
  const auto found = items(child(node, key), JsonType::kArray);
  if (!need(found.size() == 2, "of pairs of integers")) return {};
  return {static_cast<int32_t>(integer(*found[0], low, high)),
          static_cast<int32_t>(integer(*found[1], low, high))};
}

Grid Reader::grid(const JsonNode &node) {
  const JsonNode &found = child(node, "grid");
  Grid grid;
  grid.low = static_cast<int32_t>(integer(found, "lo", -kLimit31, kLimit31));
  grid.high = static_cast<int32_t>(integer(found, "hi", -kLimit31, kLimit31));
  need(grid.low <= grid.high, "of codes in order");
  return grid;
}

const uint8_t *Reader::array(const JsonNode &node, const char *dtype,
                             size_t width, size_t axes,
                             std::vector<int64_t> *shape) {
  const bool right = string(child(node, "dtype")) == dtype;
  if (!need(right, std::string("of arrays of ") + dtype)) return nullptr;
  const auto sides = items(child(node, "shape"), JsonType::kArray);
  if (!need(sides.size() == axes, "of arrays of their shape")) return nullptr;
  uint64_t count = 1;
  for (const JsonNode *side : sides) {
    const int64_t n = integer(*side, 0, kMaxSide);
    // Never above the file's length by more than a side.
    if (!need(count <= length_, "of numbers inside DATA")) return nullptr;
    count *= static_cast<uint64_t>(n);
    shape->push_back(n);
  }
  const int64_t at = integer(node, "at", 0, INT64_MAX);
  const uint64_t start = static_cast<uint64_t>(at);
  const bool inside = start % kAlignment == 0 && start <= length_ &&
                      count <= (length_ - start) / width;
  if (!need(inside, "of numbers inside DATA")) return nullptr;
  return data_ + start;
}

std::vector<int32_t> Reader::numbers(const JsonNode &node, size_t axes,
                                     std::vector<int64_t> *shape) {
  const uint8_t *at = array(node, "int32", 4, axes, shape);
  if (!ok()) return {};
  size_t count = 1;
  for (const int64_t side : *shape) count *= static_cast<size_t>(side);
  std::vector<int32_t> made(count);
  if (count > 0) std::memcpy(made.data(), at, 4 * count);
  return made;
}

Multipliers Reader::multipliers(const JsonNode &node, int32_t channels) {
  Multipliers made;
  std::vector<int64_t> shapes[3];
  const uint8_t *m = array(child(node, "m"), "int32", 4, 1, &shapes[0]);
  const uint8_t *b = array(child(node, "b"), "int64", 8, 1, &shapes[1]);
  const uint8_t *s = array(child(node, "s"), "uint8", 1, 1, &shapes[2]);
  if (!ok()) return made;
  const int64_t count = shapes[0][0];
  const bool right = shapes[0] == shapes[1] && shapes[0] == shapes[2] &&
                     (count == channels || count == 1);
  if (!need(right, "of a multiplier a channel, or one")) return made;
  const size_t n = static_cast<size_t>(count);
  made.m.resize(n);
  made.b.resize(n);
  made.s.assign(s, s + n);
  std::memcpy(made.m.data(), m, 4 * n);
  std::memcpy(made.b.data(), b, 8 * n);
  for (const uint8_t shift : made.s) {
    need(shift <= kMaxShift, "of shifts up to 47");
  }
  return made;
}

}  // namespace aqd
