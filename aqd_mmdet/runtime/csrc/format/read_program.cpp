#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "format/model.h"
#include "format/reader.h"

namespace aqd {
namespace {

// Positions of operators by the names of what they make. Not hashed: the load
// of a hash table is a float, which small machines do not have.
using Names = std::map<std::string_view, size_t>;

// Makes codes and sums of weights of a shape; false if a code is too large.
// Output channels, outermost in a file, become innermost, some at a time:
// what they are read from and written to then stays in the cache.
bool unpack(std::string_view packed, int bits, Weights *made) {
  const int low = bits < 8 ? 1 - (1 << bits) : -127, step = bits < 8 ? 2 : 1;
  int buffer = 0, held = 0;  // bits of bytes that were begun
  const char *from = packed.data();
  const auto next = [&] {
    if (held < bits) {
      buffer |= static_cast<uint8_t>(*from++) << held;
      held += 8;
    }
    const int level = buffer & ((1 << bits) - 1);
    buffer >>= bits;
    held -= bits;
    return low + step * level;
  };
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
        const int code = next();
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

Weights read_weights(const Value &value) {
  Reader &reader = value.reader();
  Weights made;
  made.name = value.key();
  reader.at("weights " + shown(made.name));
  const int bits = value["bits"].int32(kWeightsBits);
  made.shape = value["shape"].integers(kWeightsShape);
  if (!reader.expect(made.shape.size() == 4, made.shape.size(),
                     "shape: 4 axes")) {
    return made;
  }
  const Array packed = value["packed"].array();
  value.done();
  const uint64_t all_bits = count_of(made.shape) * static_cast<uint64_t>(bits);
  if (reader.expect(packed.width == 1 && !packed.is_signed,
                    "other numbers", "packed: uint8") &&
      reader.expect(packed.count == (all_bits + 7) / 8,
                    text(packed.count) + " bytes",
                    "packed: the bytes of its shape and bits")) {
    reader.expect(unpack(packed.bytes, bits, &made), 255,
                  "levels of 8 bits below 255");
  }
  return made;
}

void read_all_weights(const Value &value, std::vector<Weights> *made) {
  std::set<std::string_view> names;
  for (const Value &each : value.items(JsonType::kObject)) {
    const bool is_new = names.insert(each.key()).second;
    value.reader().expect(is_new, quoted(each.key()) + " twice",
                          "each key once");
    if (value.reader().ok()) made->push_back(read_weights(each));
  }
}

// What an operator reads, by the positions that it is given.
std::vector<const Op *> read_inputs(const Value &value, const Names &names,
                                    const Program &program, Op *op) {
  Reader &reader = value.reader();
  std::vector<const Op *> found;
  const auto inputs = value.items();
  const size_t expected = op->info->inputs, count = inputs.size();
  reader.expect(expected == 0 ? count > 0 : count == expected, count,
                expected == 0 ? "1 or more inputs" : "% inputs", expected);
  for (const Value &each : inputs) {
    const std::string_view name = each.string();
    if (program.nodes.empty()) {
      reader.expect(name == "image", quoted(name), "the input 'image'");
      continue;
    }
    const auto at = names.find(name);
    if (!reader.expect(at != names.end(), quoted(name),
                       "inputs made before it")) {
      break;
    }
    op->inputs.push_back(at->second);
    found.push_back(&program.nodes[at->second].op);
  }
  return found;
}

// Reads the operator behind those of a program.
void read_op(const Value &value, const char *first, Names *names,
             Tables *tables, Program *program) {
  Reader &reader = value.reader();
  const size_t position = program->nodes.size();
  const std::string_view name = value["output"].string();
  reader.at("operator " + shown(name));
  reader.expect(name != "image" && names->count(name) == 0, quoted(name),
                "a new name");
  const std::string_view kind = value["kind"].string();
  Op op;
  op.name = name;
  op.info = find_op(kind);
  if (!reader.expect(op.info != nullptr, quoted(kind),
                     "a kind of the format")) {
    return;
  }
  const bool is_source = kind == "Image" || kind == "Region";
  reader.expect(position == 0 ? kind == first : !is_source, quoted(kind),
                position == 0 ? "% as the first"
                              : "this kind as the first one alone",
                first);
  const OpSource source = {
      reader, value, read_inputs(value["inputs"], *names, *program, &op),
      program->weights, *tables};
  op.channels = value["channels"].int32(kOpChannels);
  op.grid = value["grid"].grid();
  for (const Op *x : source.inputs) {
    reader.expect(!op.info->keeps || x->channels == op.channels, op.channels,
                  "the % channels of its input", x->channels);
  }
  if (reader.ok()) op.params = op.info->read(source, op);
  value.done();
  names->emplace(name, position);
  program->nodes.emplace_back();
  program->nodes.back().op = std::move(op);
}

void read_outputs(const Value &value, const Names &names, Program *program) {
  for (const Value &output : value.items()) {
    const auto tensors = output["tensors"].items();
    program->levels.push_back(tensors.size());
    for (const Value &each : tensors) {
      const std::string_view name = each.string();
      const auto found = names.find(name);
      if (!value.reader().expect(found != names.end(), quoted(name),
                                 "outputs that an operator makes")) {
        return;
      }
      program->outputs.push_back(found->second);
    }
    output["scale"].real();
    output.done();
  }
}

}  // namespace

void read_program(const Value &value, const char *first,
                  const std::string &where, Program *program) {
  Reader &reader = value.reader();
  reader.at(where);
  read_all_weights(value["weights"], &program->weights);
  reader.at(where);
  const auto ops = value["ops"].items();
  reader.expect(!ops.empty(), "none", "operators");
  Names names;
  Tables tables;
  for (const Value &each : ops) {
    if (!reader.ok()) return;
    reader.at(where + ": operator " + text(program->nodes.size()));
    read_op(each, first, &names, &tables, program);
  }
  program->tables = std::move(tables.values);
  for (Node &node : program->nodes) {
    if (!node.op.is<Lookup>()) continue;
    node.op.as<Lookup>().values = program->tables.data();
  }
  reader.at(where);
  program->stride = value["stride"].int32(kProgramStride);
  read_outputs(value["outputs"], names, program);
  value.done();
}

}  // namespace aqd
