#include "format/read_program.h"

#include <algorithm>
#include <cstdlib>
#include <map>

namespace aqd {
namespace {

// Positions of operators by the names of what they make. Not hashed: the load
// of a hash table is a float, which small machines do not have.
using Names = std::map<std::string_view, int>;

// Codes of weights in their order in a file.
class Levels {
 public:
  Levels(const uint8_t *packed, size_t length, int bits, int low)
      : next_(packed), end_(packed + length), bits_(bits), low_(low) {}

  int next() {
    while (held_ < bits_) {
      buffer_ |= static_cast<uint32_t>(next_ < end_ ? *next_++ : 0) << held_;
      held_ += 8;
    }
    const int level = static_cast<int>(buffer_ & ((1u << bits_) - 1));
    buffer_ >>= bits_;
    held_ -= bits_;
    return low_ + (bits_ < 8 ? 2 : 1) * level;
  }

 private:
  const uint8_t *next_, *const end_;
  const int bits_, low_;
  uint32_t buffer_ = 0;
  int held_ = 0;  // bits of the buffer
};

// Makes codes and sums of weights of a shape; false if a code is too large.
// Output channels, outermost in a file, become innermost, some at a time:
// what they are read from and written to then stays in the cache.
bool unpack(Levels *levels, Weights *made) {
  constexpr size_t kTogether = 64;
  const size_t outs = static_cast<size_t>(made->shape[0]);
  const size_t ins = static_cast<size_t>(made->shape[1]);
  const size_t taps = static_cast<size_t>(made->shape[2] * made->shape[3]);
  const size_t each = ins * taps;
  made->codes.resize(outs * each);
  made->sums.assign(outs, 0);
  std::vector<int8_t> some(std::min(outs, kTogether) * each);
  for (size_t first = 0; first < outs; first += kTogether) {
    const size_t count = std::min(kTogether, outs - first);
    for (size_t o = 0; o < count; ++o) {
      int64_t sum = 0;
      for (size_t k = 0; k < each; ++k) {
        const int code = levels->next();
        if (code > INT8_MAX) return false;
        some[o * each + k] = static_cast<int8_t>(code);
        sum += std::abs(code);
      }
      made->sums[first + o] = sum;
    }
    for (size_t tap = 0; tap < taps; ++tap) {
      for (size_t i = 0; i < ins; ++i) {
        int8_t *to = made->codes.data() + (tap * ins + i) * outs + first;
        const int8_t *from = some.data() + i * taps + tap;
        for (size_t o = 0; o < count; ++o) to[o] = from[o * each];
      }
    }
  }
  return true;
}

class ProgramReader {
 public:
  ProgramReader(const char *first, const std::string &where, Reader *reader,
                Program *program)
      : first_(first), where_(where), reader_(*reader), program_(*program) {}

  void read(const JsonNode &node) {
    all_weights(node);
    reader_.at(where_);
    const auto ops = reader_.items(node, "ops");
    reader_.expect(!ops.empty(), "operators", "none");
    for (const JsonNode *each : ops) {
      if (!reader_.ok()) return;
      op(*each);
    }
    reader_.at(where_);
    program_.stride = reader_.int32(node, "stride", kProgramStride);
    outputs(node);
    reader_.done(node);
  }

 private:
  void all_weights(const JsonNode &node) {
    reader_.at(where_);
    const auto all = reader_.named(node, "weights");
    std::vector<std::string_view> names;
    for (const JsonNode *each : all) names.push_back(each->key);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    reader_.expect(twice == names.end(), "each key once",
                   twice == names.end() ? "" : quoted(*twice) + " twice");
    for (const JsonNode *each : all) {
      if (!reader_.ok()) return;
      reader_.at("weights " + std::string(each->key));
      program_.weights.push_back(weights(*each));
    }
  }

  Weights weights(const JsonNode &node) {
    Weights made;
    made.name = node.key;
    const int bits = reader_.int32(node, "bits", kWeightsBits);
    const auto sides = reader_.items(node, "shape");
    const int64_t axes = static_cast<int64_t>(sides.size());
    if (!reader_.expect(axes == 4, "shape: 4 axes", text(axes))) return made;
    // Four weights of two bits are a byte of the file.
    const uint64_t most = 4 * uint64_t{reader_.data_length()};
    uint64_t count = 1;
    for (const JsonNode *side : sides) {
      made.shape.push_back(reader_.integer(*side, kWeightsShape));
      count = product(count, static_cast<uint64_t>(made.shape.back()), most);
    }
    std::vector<int64_t> length;
    const uint8_t *packed =
        reader_.array(node, "packed", "uint8", 1, &length);
    reader_.done(node);
    if (!reader_.ok()) return made;
    const uint64_t found = static_cast<uint64_t>(length[0]);
    const uint64_t bytes = (count * static_cast<uint64_t>(bits) + 7) / 8;
    if (!reader_.expect(count <= most && found == bytes,
                        "packed: the bytes of its shape and bits",
                        text(length[0]) + " bytes")) {
      return made;
    }
    const int low = bits < 8 ? 1 - (1 << bits) : -127;
    Levels levels(packed, static_cast<size_t>(found), bits, low);
    reader_.expect(unpack(&levels, &made), "levels of 8 bits below 255", "255");
    return made;
  }

  // The output of an operator that stands at a position.
  std::string_view name_of(const JsonNode &node, int position) {
    const std::string number = text(int64_t{position});
    reader_.at(where_ + ": operator " + number);
    const std::string_view name = reader_.string(node, "output");
    reader_.at("operator " + std::string(name));
    const bool is_new = name != "image" && names_.count(name) == 0;
    reader_.expect(is_new, "a new name", quoted(name));
    return name;
  }

  // What an operator reads, by the positions that are returned.
  std::vector<const Op *> inputs(const JsonNode &node, int position, Op *op) {
    std::vector<const Op *> found;
    const auto names = reader_.items(node, "inputs");
    const int expected = op->info->inputs;
    const int64_t count = static_cast<int64_t>(names.size());
    reader_.expect(expected == 0 ? count > 0 : count == expected,
                   expected == 0 ? "1 or more inputs"
                                 : text(int64_t{expected}) + " inputs",
                   text(count));
    for (const JsonNode *each : names) {
      const std::string_view name = reader_.string(*each);
      if (position == 0) {
        reader_.expect(name == "image", "the input 'image'", quoted(name));
        continue;
      }
      const auto at = names_.find(name);
      if (!reader_.expect(at != names_.end(), "inputs made before it",
                          quoted(name))) {
        break;
      }
      op->inputs.push_back(at->second);
      found.push_back(&program_.nodes[static_cast<size_t>(at->second)].op);
    }
    return found;
  }

  void op(const JsonNode &node) {
    const int position = static_cast<int>(program_.nodes.size());
    const std::string_view name = name_of(node, position);
    const std::string_view kind = reader_.string(node, "kind");
    Op op;
    op.info = find_op(kind);
    if (!reader_.expect(op.info != nullptr, "a kind of the format",
                        quoted(kind))) {
      return;
    }
    const bool is_source = kind == "Image" || kind == "Region";
    const bool fits = position == 0 ? kind == first_ : !is_source;
    reader_.expect(fits, position == 0 ? std::string(first_) + " as the first"
                   : "this kind as the first one alone",
                   quoted(kind));
    const OpSource source = {reader_, node, inputs(node, position, &op),
                             program_.weights};
    op.channels = reader_.int32(node, "channels", kOpChannels);
    op.grid = reader_.grid(node);
    if (reader_.ok()) op.info->read(source, &op);
    reader_.done(node);
    names_.emplace(name, position);
    program_.nodes.emplace_back();
    program_.nodes.back().op = std::move(op);
  }

  void outputs(const JsonNode &node) {
    for (const JsonNode *output : reader_.items(node, "outputs")) {
      const auto tensors = reader_.items(*output, "tensors");
      program_.levels.push_back(static_cast<int>(tensors.size()));
      for (const JsonNode *each : tensors) {
        const std::string_view name = reader_.string(*each);
        const auto found = names_.find(name);
        if (!reader_.expect(found != names_.end(),
                            "outputs that an operator makes", quoted(name))) {
          return;
        }
        program_.outputs.push_back(found->second);
      }
      reader_.real(*output, "scale");
      reader_.done(*output);
    }
  }

  const std::string_view first_;
  const std::string where_;
  Reader &reader_;
  Program &program_;
  Names names_;
};

}  // namespace

void read_program(const JsonNode &node, const char *first,
                  const std::string &where, Reader *reader, Program *program) {
  ProgramReader(first, where, reader, program).read(node);
}

}  // namespace aqd
