// Reads model.aqd: docs/file_format.md. The twin of integer/file.py, and of
// integer/check.py for programs.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "format/model.h"
#include "format/read_detector.h"
#include "format/reader.h"
#include "graph/schedule.h"

namespace aqd {
namespace {

constexpr char kMagic[] = "\x89"
                          "AQD\r\n\x1a\n";
constexpr uint32_t kVersion = 3;
constexpr size_t kHeader = 16;
constexpr size_t kSection = 16;
constexpr size_t kSections = 2;
constexpr int64_t kMaxWindow = 255;

uint32_t u32_at(const uint8_t *at) {
  return at[0] | at[1] << 8 | at[2] << 16 | static_cast<uint32_t>(at[3]) << 24;
}

uint64_t u64_at(const uint8_t *at) {
  return u32_at(at) | static_cast<uint64_t>(u32_at(at + 4)) << 32;
}

uint32_t crc32(const uint8_t *data, size_t length) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
    }
    table[i] = value;
  }
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; ++i) {
    crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
  }
  return ~crc;
}

struct KindName {
  const char *name;
  Kind kind;
  int inputs;  // 0 for any number but none
};

constexpr KindName kKinds[] = {
    {"Image", Kind::kImage, 1},
    {"Region", Kind::kRegion, 1},
    {"Convolution", Kind::kConvolution, 1},
    {"MaxPool", Kind::kMaxPool, 1},
    {"Requantize", Kind::kRequantize, 1},
    {"Add", Kind::kAdd, 2},
    {"Multiply", Kind::kMultiply, 2},
    {"Mean", Kind::kMean, 1},
    {"Lookup", Kind::kLookup, 1},
    {"Upsample", Kind::kUpsample, 2},
    {"Concatenate", Kind::kConcatenate, 0},
    {"Slice", Kind::kSlice, 1},
};

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

// Reads programs.
class ProgramReader : public Reader {
 public:
  using Reader::Reader;

  Weights weights(const JsonNode &node) {
    Weights made;
    made.name = node.key;
    const int64_t bits = integer(node, "bits", 2, 8);
    const auto sides = items(child(node, "shape"), JsonType::kArray);
    if (!need(sides.size() == 4, "of weights of four axes")) return made;
    uint64_t count = 1;
    for (const JsonNode *side : sides) {
      const int64_t n = integer(*side, 1, kMaxSide);
      // Four weights of two bits are a byte of the file.
      if (!need(count <= 4 * length(), "of weights inside DATA")) return made;
      count *= static_cast<uint64_t>(n);
      made.shape.push_back(n);
    }
    std::vector<int64_t> shape;
    const uint8_t *packed =
        array(child(node, "packed"), "uint8", 1, 1, &shape);
    if (!ok() || !need(count <= 4 * length(), "of weights inside DATA")) {
      return made;
    }
    const uint64_t width = static_cast<uint64_t>(bits);
    const bool right = static_cast<uint64_t>(shape[0]) == (count * width + 7) / 8;
    if (!need(right, "of weights of their length")) return made;
    const int low = bits < 8 ? 1 - (1 << bits) : -127;
    Levels levels(packed, static_cast<size_t>(shape[0]),
                  static_cast<int>(bits), low);
    need(unpack(&levels, &made), "of codes of its grid");
    return made;
  }

  void program(const JsonNode &node, Kind first, Program *made);

 private:
  void op(const JsonNode &node, Kind first, Program *made, Names *names);
  void check(const JsonNode &node, Op *op, Program *made);
  void check_convolution(const JsonNode &node, Op *op, Program *made);
  void check_requantize(const JsonNode &node, Op *op, const Program &made);
};

void ProgramReader::program(const JsonNode &node, Kind first, Program *made) {
  for (const JsonNode *entry :
       items(child(node, "weights"), JsonType::kObject)) {
    at("weights " + std::string(entry->key));
    made->weights.push_back(weights(*entry));
    if (!ok()) return;
  }
  at("a program");
  const auto ops = items(child(node, "ops"), JsonType::kArray);
  need(!ops.empty(), "one with operators");
  Names names;
  for (const JsonNode *entry : ops) {
    op(*entry, first, made, &names);
    if (!ok()) return;
  }
  at("a program");
  made->stride = static_cast<int32_t>(integer(node, "stride", 1, kMaxStride));
  for (const JsonNode *out : items(child(node, "outputs"), JsonType::kArray)) {
    const auto entries = items(child(*out, "tensors"), JsonType::kArray);
    made->levels.push_back(static_cast<int>(entries.size()));
    for (const JsonNode *entry : entries) {
      const auto found = names.find(string(*entry));
      if (!need(found != names.end(), "one whose outputs exist")) return;
      made->outputs.push_back(found->second);
    }
  }
}

void ProgramReader::op(const JsonNode &node, Kind first, Program *made,
                       Names *names) {
  const int position = static_cast<int>(names->size());
  const std::string_view name = string(child(node, "output"));
  at("operator " + std::to_string(position) + " (" + std::string(name) + ")");
  const bool fresh = name != "image" && names->count(name) == 0;
  if (!need(fresh, "one of a new name")) return;
  const std::string_view word = string(child(node, "kind"));
  const KindName *kind = nullptr;
  for (const KindName &each : kKinds) {
    if (word == each.name) kind = &each;
  }
  if (!need(kind != nullptr, "of a kind that there is")) return;
  Op op;
  op.kind = kind->kind;
  const bool given = op.kind == Kind::kImage || op.kind == Kind::kRegion;
  const bool right = position == 0 ? op.kind == first : !given;
  if (!need(right, "in place")) return;
  const auto inputs = items(child(node, "inputs"), JsonType::kArray);
  const size_t count = static_cast<size_t>(kind->inputs);
  if (!need(count ? inputs.size() == count : !inputs.empty(),
            "one of so many inputs")) {
    return;
  }
  for (const JsonNode *entry : inputs) {
    const std::string_view source = string(*entry);
    if (position == 0) {
      if (!need(source == "image", "one that reads the image")) return;
      continue;
    }
    const auto found = names->find(source);
    if (!need(found != names->end(), "one that reads what exists")) return;
    op.inputs.push_back(found->second);
  }
  op.channels = static_cast<int32_t>(integer(node, "channels", 1, kMaxChannels));
  op.grid = grid(node);
  if (!ok()) return;
  check(node, &op, made);
  names->emplace(name, position);
  made->ops.push_back(std::move(op));
}

void ProgramReader::check(const JsonNode &node, Op *op, Program *made) {
  const Op nothing;
  const auto input = [&](size_t i) -> const Op & {
    return i < op->inputs.size()
               ? made->ops[static_cast<size_t>(op->inputs[i])]
               : nothing;
  };
  const Op &x = input(0), &y = input(1);
  const bool window = op->kind == Kind::kConvolution || op->kind == Kind::kMaxPool;
  if (window) {
    op->kernel = pair(node, "kernel", 1, kMaxWindow);
    op->stride = pair(node, "stride", 1, kMaxWindow);
    op->padding = pair(node, "padding", 0, kMaxWindow);
    op->dilation = pair(node, "dilation", 1, kMaxWindow);
  }
  const bool same = op->kind != Kind::kConvolution &&
                    op->kind != Kind::kConcatenate &&
                    op->kind != Kind::kSlice && !op->inputs.empty();
  if (same) need(x.channels == op->channels, "one of its channels");
  switch (op->kind) {
    case Kind::kImage: {
      const auto means = items(child(node, "mean"), JsonType::kArray);
      need(means.size() == static_cast<size_t>(op->channels),
           "one of all means");
      for (const JsonNode *mean : means) {
        op->table.push_back(static_cast<int32_t>(integer(*mean, 0, 255)));
      }
      need(holds(op->grid, -255, 255), "one of its codes");
      break;
    }
    case Kind::kRegion:
      break;
    case Kind::kConvolution:
      check_convolution(node, op, made);
      break;
    case Kind::kMaxPool: {
      const auto sees = [](int32_t p, int32_t k, int32_t d) {
        return 2 * p <= d * (k - 1) + 1;
      };
      need(sees(op->padding.height, op->kernel.height, op->dilation.height) &&
               sees(op->padding.width, op->kernel.width, op->dilation.width),
           "a window that sees more than the border");
      need(holds(op->grid, x.grid.low, x.grid.high), "one of its codes");
      break;
    }
    case Kind::kRequantize:
      check_requantize(node, op, *made);
      break;
    case Kind::kAdd:
      need(y.channels == op->channels, "one of both channels");
      need(magnitude(x.grid) <= 1 << 30 && magnitude(y.grid) <= 1 << 30,
           "one whose sum fits");
      break;
    case Kind::kMultiply: {
      need(y.channels == op->channels, "one of both channels");
      for (const int64_t p : {x.grid.low, x.grid.high}) {
        for (const int64_t q : {y.grid.low, y.grid.high}) {
          need(holds(op->grid, p * q, p * q), "one of its codes");
        }
      }
      break;
    }
    case Kind::kMean:
      need(magnitude(x.grid) <= 1 << 15, "one of codes of 16 bits");
      need(holds(op->grid, x.grid.low * (int64_t{1} << kMeanBits),
                 x.grid.high * (int64_t{1} << kMeanBits)),
           "one of its codes");
      break;
    case Kind::kLookup: {
      const int64_t count = int64_t{x.grid.high} - x.grid.low + 1;
      std::vector<int64_t> shape;
      op->table = numbers(child(node, "table"), 1, &shape);
      if (!ok() || !need(shape[0] == count, "of a value for each code")) return;
      op->first = static_cast<int32_t>(
          integer(node, "first", x.grid.low, x.grid.low));
      for (const int32_t code : op->table) {
        if (!need(holds(op->grid, code, code), "one of its codes")) return;
      }
      break;
    }
    case Kind::kUpsample:
      need(holds(op->grid, x.grid.low, x.grid.high), "one of its codes");
      break;
    case Kind::kConcatenate: {
      int64_t channels = 0;
      for (size_t i = 0; i < op->inputs.size(); ++i) {
        channels += input(i).channels;
        need(holds(op->grid, input(i).grid.low, input(i).grid.high),
             "one of its codes");
      }
      need(channels == op->channels, "one of their channels");
      break;
    }
    case Kind::kSlice:
      op->first = static_cast<int32_t>(
          integer(node, "first", 0, int64_t{x.channels} - op->channels));
      op->padding = pair(node, "offset", 0, kMaxWindow);
      op->stride = pair(node, "step", 1, kMaxWindow);
      need(holds(op->grid, x.grid.low, x.grid.high), "one of its codes");
      break;
  }
}

void ProgramReader::check_convolution(const JsonNode &node, Op *op,
                                      Program *made) {
  const Op &x = made->ops[static_cast<size_t>(op->inputs[0])];
  op->groups = static_cast<int>(integer(node, "groups", 1, x.channels));
  const std::string_view name = string(child(node, "weights"));
  for (Weights &weights : made->weights) {
    if (weights.name == name) op->weights = &weights;
  }
  if (!need(op->weights != nullptr, "one with weights")) return;
  need(x.channels % op->groups == 0 && op->channels % op->groups == 0,
       "one whose channels are multiples of its groups");
  const std::vector<int64_t> shape = {op->channels, x.channels / op->groups,
                                      op->kernel.height, op->kernel.width};
  need(op->weights->shape == shape, "one of weights of its shape");
  need(op->grid.low == -kLimit31 && op->grid.high == kLimit31, "one of int32");
  need(holds(x.grid, 0, 0), "one whose input has a zero");
  const int64_t limit = magnitude(x.grid);
  if (!need(limit <= 1 << 15, "one of codes of 16 bits")) return;
  for (const int64_t sum : op->weights->sums) {
    need(sum * limit <= kLimit31, "proven to fit 31 bits");
  }
}

// Whether (a * m + b) >> s fits 32 bits for all |a * m + b| <= most.
//
// Vector kernels shift numbers of 64 bits, keep the lower 32 of each and clamp
// these as signed ones, which is right from -2^31 to 2^31 - 1. The highest is
// most >> s. Where it fits, most is less than 2^(31 + s), and the lowest, which
// is -most / 2^s rounded down, is not below -2^31.
bool is_narrow(int64_t most, int shift) { return most >> shift <= INT32_MAX; }

void ProgramReader::check_requantize(const JsonNode &node, Op *op,
                                     const Program &made) {
  op->multipliers = multipliers(child(node, "multipliers"), op->channels);
  if (!ok()) return;
  const Op &x = made.ops[static_cast<size_t>(op->inputs[0])];
  for (size_t c = 0; c < static_cast<size_t>(op->channels); ++c) {
    const size_t k = op->multipliers.m.size() > 1 ? c : 0;
    const int64_t largest =
        x.kind == Kind::kConvolution
            ? x.weights->sums[c] *
                  magnitude(made.ops[static_cast<size_t>(x.inputs[0])].grid)
            : magnitude(x.grid);
    const int64_t m = std::abs(static_cast<int64_t>(op->multipliers.m[k]));
    const int64_t b = op->multipliers.b[k];
    const bool right =
        b != INT64_MIN && std::abs(b) <= INT64_MAX - largest * m;
    if (!need(right, "proven to fit 63 bits")) return;
    const int64_t most = largest * m + std::abs(b);
    if (!is_narrow(most, op->multipliers.s[k])) op->is_narrow = false;
  }
}

bool fail(std::string *message, const char *text) {
  *message = text;
  return false;
}

}  // namespace

bool load_model(const uint8_t *content, size_t length, Model *model,
                std::string *message) {
  message->clear();
  if (length < 8 || std::memcmp(content, kMagic, 8) != 0) {
    return fail(message, "it is not an .aqd file (its first bytes are others)");
  }
  const size_t table = kHeader + kSections * kSection;
  if (length < table) return fail(message, "it is not whole");
  if (u32_at(content + 8) != kVersion) {
    return fail(message, "it is of a version that this release does not read");
  }
  if (u32_at(content + 12) != kSections) {
    return fail(message, "it is not of 2 sections");
  }
  const uint8_t *sections[kSections];
  size_t lengths[kSections];
  size_t at = table;
  for (size_t i = 0; i < kSections; ++i) {
    const uint8_t *entry = content + kHeader + i * kSection;
    if (std::memcmp(entry, i == 0 ? "JSON" : "DATA", 4) != 0) {
      return fail(message, "its sections are not JSON and DATA");
    }
    const uint64_t size = u64_at(entry + 8);
    if (size > length - at) return fail(message, "it is not whole");
    sections[i] = content + at;
    lengths[i] = static_cast<size_t>(size);
    at += lengths[i];
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (crc32(sections[i], lengths[i]) != u32_at(entry + 4)) {
      return fail(message, "it is damaged: a checksum is another");
    }
#endif
  }
  if (at != length) return fail(message, "it does not end with its sections");
  Json json;
  const std::string_view text(reinterpret_cast<const char *>(sections[0]),
                              lengths[0]);
  if (!parse_json(text, &json)) return fail(message, "section JSON is not JSON");
  ProgramReader reader(json, sections[1], lengths[1], message);
  std::vector<const JsonNode *> stages;
  const JsonNode &regions = reader.child(json.root(), "regions");
  if (regions.type != JsonType::kNull) {
    stages = reader.items(reader.child(regions, "stages"), JsonType::kArray);
  }
  // Operators point into weights of their program: no program may move.
  model->programs.clear();
  model->programs.resize(1 + stages.size());
  reader.program(reader.child(json.root(), "program"), Kind::kImage,
                 &model->programs[0]);
  for (size_t i = 0; i < stages.size() && reader.ok(); ++i) {
    reader.program(reader.child(*stages[i], "program"), Kind::kRegion,
                   &model->programs[i + 1]);
  }
  if (!reader.ok()) return false;
  model->refusal.clear();
  Reader rest(json, sections[1], lengths[1], &model->refusal);
  read_detector(json.root(), model->programs, &rest, &model->detector);
  for (Program &program : model->programs) schedule(&program);
  return true;
}

}  // namespace aqd
