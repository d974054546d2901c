#include "kernels/packing.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/winograd.h"

namespace aqd {
namespace {

// Weights of other formats are other numbers; 0 is for none.
constexpr int kAlone = 5;

int format_of(const Node &node) {
  return (node.packed.reading.as_words ? 1 : 2) + (node.conv().window.dilation.width == 1 ? 0 : 2);
}

// Weights of a vector of output channels that meet the codes of one
// instruction.
int8_t *pack_vector(const Runs &runs, const int8_t *from, int64_t outs,
                    int64_t first, int64_t end, int64_t step, bool as_words,
                    int8_t *to) {
  const int64_t each = as_words ? 2 : 4;
  for (int64_t o = first; o < end; ++o) {
    for (int64_t i = step * each; i < (step + 1) * each; ++i) {
      const bool inside = o < outs && i < runs.codes;
      const int8_t code = inside ? from[i * outs + o] : int8_t{0};
      *to++ = code;
      if (as_words) *to++ = code < 0 ? int8_t{-1} : int8_t{0};
    }
  }
  return to;
}

// Weights: block of vectors, run, instruction, vector, lane.
void pack(const Vectors &set, const Node &node, int32_t channels,
          Weights *weights) {
  const Runs runs = runs_of(node, channels);
  const int64_t steps = steps_of(node, runs.codes), outs = node.op.channels;
  const int64_t vectors = vectors_of(outs, set.lanes);
  const int64_t bytes = vectors * runs.count * steps * set.lanes * 4;
  weights->packed.format = format_of(node);
  weights->packed.lines.resize(static_cast<size_t>(whole_lines(bytes)) /
                         sizeof(Line));
  int8_t *to = weights->packed.lines.data()->bytes;
  for (int64_t block = 0; block < vectors; block += set.together) {
    const int64_t end = std::min(block + set.together, vectors);
    for (int64_t run = 0; run < runs.count; ++run) {
      const int8_t *from =
          weights->codes.data() + tap_of(node, runs, run) * channels * outs;
      for (int64_t step = 0; step < steps; ++step) {
        for (int64_t v = block; v < end; ++v) {
          to = pack_vector(runs, from, outs, v * set.lanes,
                           (v + 1) * set.lanes, step, node.packed.reading.as_words, to);
        }
      }
    }
  }
}

// Weights of channels by themselves stay as they are, but with a line behind
// them that may be read.
void pack_alone(Weights *weights) {
  const std::vector<int8_t> &codes = weights->codes;
  weights->packed.format = kAlone;
  weights->packed.lines.resize(codes.size() / sizeof(Line) + 2);
  std::memcpy(weights->packed.lines.data()->bytes, codes.data(), codes.size());
}

void prepare_convolution(const Vectors &set, const ValueTypes &types,
                         ReadBytes read, const Node &x, Node *node) {
  Codes codes = {x.op.grid.type(), x.op.grid};
  node->packed.reading.as_words = codes.type == Type::kI16;
  if (codes.type == Type::kI32) return;
  if (node->conv().groups > 1) {
    // Each channel by itself, or by portable kernels.
    if (node->conv().groups < node->op.channels || node->conv().groups < x.op.channels) return;
    if (node->conv().weights->packed.format == 0) pack_alone(node->conv().weights);
    node->packed.has_kernel = node->conv().weights->packed.format == kAlone;
    return;
  }
  node->packed.reads_pixels = x.op.is<ImageOp>();
  node->packed.has_kernel = prepare_winograd(set, types, node, x);
  if (node->packed.has_kernel) return;
  if (node->packed.reads_pixels) {
    codes = {Type::kU8, {0, UINT8_MAX}};
    node->packed.means = x.op.as<ImageOp>().means;
  }
  if (codes.type != Type::kI16) node->packed.reading = read(*node, codes);
  if (node->conv().weights->packed.format == 0) pack(set, *node, x.op.channels, node->conv().weights);
  node->packed.has_kernel = node->conv().weights->packed.format == format_of(*node);
  node->packed.reads_pixels = node->packed.reads_pixels && node->packed.has_kernel;
  set_start(set.lanes, x.op.channels, node);
}

// Multipliers and what goes with them, a vector's in a row; left empty for
// values that are not narrow.
//
// A shift without a sign is exact for a value raised by 2^63, and then too
// large by 2^(63 - s).
void pack_table(const Vectors &set, Node *node) {
  if (!node->op.as<Requantize>().fits_int32) return;
  const Multipliers &table = node->op.as<Requantize>().multipliers;
  const int lanes = set.lanes, size = table_size(lanes);
  node->packed.multipliers.assign(
      static_cast<size_t>(vectors_of(node->op.channels, lanes) * size), 0);
  for (int c = 0; c < node->op.channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    const int lane = c % lanes;
    const int place =
        set.even_first ? lane % 2 * lanes / 2 + lane / 2 : lane;
    int64_t *to = node->packed.multipliers.data() + c / lanes * size;
    const uint64_t raised = uint64_t{1} << 63;
    const int32_t less = static_cast<int32_t>(raised >> table.s[k]);
    std::memcpy(reinterpret_cast<char *>(to) + 4 * lane, &table.m[k], 4);
    std::memcpy(reinterpret_cast<char *>(to) + 4 * (lanes + lane), &less, 4);
    to[lanes + place] =
        static_cast<int64_t>(static_cast<uint64_t>(table.b[k]) + raised);
    to[2 * lanes + place] = table.s[k];
  }
}

}  // namespace

void set_start(int lanes, int32_t channels, Node *node) {
  const size_t outs = static_cast<size_t>(node->op.channels);
  const std::vector<int8_t> &codes = node->conv().weights->codes;
  std::vector<int64_t> sums(outs, 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t channel = i / outs % static_cast<size_t>(channels);
    const int zero = node->packed.reads_pixels ? node->packed.means[channel] : 0;
    sums[i % outs] -= int64_t{codes[i]} * (zero + node->packed.reading.raise);
  }
  const int64_t count = vectors_of(node->op.channels, lanes) * lanes;
  node->packed.start.assign(static_cast<size_t>(count), 0);
  // Of 32 bits, as sums are, which fit in the end.
  for (size_t o = 0; o < outs; ++o) {
    node->packed.start[o] = static_cast<int32_t>(sums[o]);
  }
}

void drop_image(Program *program) {
  const auto has_image = [](const std::vector<int> &positions) {
    return std::find(positions.begin(), positions.end(), 0) != positions.end();
  };
  for (const Node &node : program->nodes) {
    if (has_image(node.op.inputs) && !node.packed.reads_pixels) return;
  }
  if (has_image(program->outputs)) return;
  program->nodes[0].is_stored = !program->nodes[0].op.is<ImageOp>();
}

int largest_weight(const Weights &weights) {
  int largest = 1;
  for (const int8_t code : weights.codes) {
    largest = std::max(largest, std::abs(code));
  }
  return largest;
}

int64_t bytes_read(const Node &node) { return node.packed.reading.as_words ? 2 : 1; }

int64_t steps_of(const Node &node, int64_t codes) {
  const int64_t each = node.packed.reading.as_words ? 2 : 4;
  return (codes + each - 1) / each;
}

Source source_of(const Node &node, const Tensor &x) {
  const bool widens = node.packed.reading.as_words && x.type != Type::kI16;
  return source_of(node, x, static_cast<size_t>(bytes_read(node)),
                   node.packed.reading.raise != 0 || widens);
}

void prepare(const Vectors &set, const ValueTypes &types, ReadBytes read,
             Program *program) {
  for (Node &node : program->nodes) {
    if (node.op.is<Convolution>()) {
      const size_t x = static_cast<size_t>(node.op.inputs[0]);
      prepare_convolution(set, types, read, program->nodes[x], &node);
      continue;
    }
    node.packed.has_kernel = node.op.is<Requantize>() || node.op.is<Add>();
    if (node.op.is<Requantize>()) pack_table(set, &node);
  }
  drop_image(program);
}

int64_t scratch_of(const Vectors &set, const Program &program, int position,
                   const Plan &plan) {
  const Node &node = program.nodes[static_cast<size_t>(position)];
  if (!node.op.is<Convolution>()) return 0;
  const size_t read = static_cast<size_t>(node.op.inputs[0]);
  const Node &x = program.nodes[read];
  if (node.packed.method == Method::kWinograd) {
    return scratch_of_winograd(set, node, x.op.channels);
  }
  const Tensor tensor = {nullptr, x.op.grid.type(), x.op.channels, plan.sizes[read]};
  return scratch_for(node, tensor.size, source_of(node, tensor),
                     plan.sizes[static_cast<size_t>(position)].height);
}

}  // namespace aqd
