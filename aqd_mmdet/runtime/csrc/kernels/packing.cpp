#include "kernels/packing.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/winograd.h"

namespace aqd {
namespace {

// Weights of other formats are other numbers; 0 is for none.
constexpr int kAlone = 5;

int format_of(const Op &op) {
  return (op.reading.as_words ? 1 : 2) + (op.dilation.width == 1 ? 0 : 2);
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
void pack(const Vectors &set, const Op &op, int32_t channels,
          Weights *weights) {
  const Runs runs = runs_of(op, channels);
  const int64_t steps = steps_of(op, runs.codes), outs = op.channels;
  const int64_t vectors = vectors_of(outs, set.lanes);
  const int64_t bytes = vectors * runs.count * steps * set.lanes * 4;
  weights->format = format_of(op);
  weights->packed.resize(static_cast<size_t>(whole_lines(bytes)) /
                         sizeof(Line));
  int8_t *to = weights->packed.data()->bytes;
  for (int64_t block = 0; block < vectors; block += set.together) {
    const int64_t end = std::min(block + set.together, vectors);
    for (int64_t run = 0; run < runs.count; ++run) {
      const int8_t *from =
          weights->codes.data() + tap_of(op, runs, run) * channels * outs;
      for (int64_t step = 0; step < steps; ++step) {
        for (int64_t v = block; v < end; ++v) {
          to = pack_vector(runs, from, outs, v * set.lanes,
                           (v + 1) * set.lanes, step, op.reading.as_words, to);
        }
      }
    }
  }
}

// Weights of channels by themselves stay as they are, but with a line behind
// them that may be read.
void pack_alone(Weights *weights) {
  const std::vector<int8_t> &codes = weights->codes;
  weights->format = kAlone;
  weights->packed.resize(codes.size() / sizeof(Line) + 2);
  std::memcpy(weights->packed.data()->bytes, codes.data(), codes.size());
}

void prepare_convolution(const Vectors &set, const ValueTypes &types,
                         ReadBytes read, const Op &x, Op *op) {
  Codes codes = {x.grid.type(), x.grid};
  op->reading.as_words = codes.type == Type::kI16;
  if (codes.type == Type::kI32) return;
  if (op->groups > 1) {
    // Each channel by itself, or by portable kernels.
    if (op->groups < op->channels || op->groups < x.channels) return;
    if (op->weights->format == 0) pack_alone(op->weights);
    op->is_packed = op->weights->format == kAlone;
    return;
  }
  op->reads_pixels = x.kind == Kind::kImage;
  op->is_packed = prepare_winograd(set, types, op, x);
  if (op->is_packed) return;
  if (op->reads_pixels) {
    codes = {Type::kU8, {0, UINT8_MAX}};
    op->table = x.table;
  }
  if (codes.type != Type::kI16) op->reading = read(*op, codes);
  if (op->weights->format == 0) pack(set, *op, x.channels, op->weights);
  op->is_packed = op->weights->format == format_of(*op);
  op->reads_pixels = op->reads_pixels && op->is_packed;
  set_start(set.lanes, x.channels, op);
}

// Multipliers and what goes with them, a vector's in a row; left empty for
// values that are not narrow.
//
// A shift without a sign is exact for a value raised by 2^63, and then too
// large by 2^(63 - s).
void pack_table(const Vectors &set, Op *op) {
  if (!op->is_narrow) return;
  const Multipliers &table = op->multipliers;
  const int lanes = set.lanes, size = table_size(lanes);
  op->packed.assign(
      static_cast<size_t>(vectors_of(op->channels, lanes) * size), 0);
  for (int c = 0; c < op->channels; ++c) {
    const size_t k = table.m.size() > 1 ? static_cast<size_t>(c) : 0;
    const int lane = c % lanes;
    const int place =
        set.even_first ? lane % 2 * lanes / 2 + lane / 2 : lane;
    int64_t *to = op->packed.data() + c / lanes * size;
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

void set_start(int lanes, int32_t channels, Op *op) {
  const size_t outs = static_cast<size_t>(op->channels);
  const std::vector<int8_t> &codes = op->weights->codes;
  std::vector<int64_t> sums(outs, 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t channel = i / outs % static_cast<size_t>(channels);
    const int zero = op->reads_pixels ? op->table[channel] : 0;
    sums[i % outs] -= int64_t{codes[i]} * (zero + op->reading.raise);
  }
  const int64_t count = vectors_of(op->channels, lanes) * lanes;
  op->start.assign(static_cast<size_t>(count), 0);
  // Of 32 bits, as sums are, which fit in the end.
  for (size_t o = 0; o < outs; ++o) {
    op->start[o] = static_cast<int32_t>(sums[o]);
  }
}

void drop_image(Program *program) {
  const auto has_image = [](const std::vector<int> &positions) {
    return std::find(positions.begin(), positions.end(), 0) != positions.end();
  };
  for (const Op &op : program->ops) {
    if (has_image(op.inputs) && !op.reads_pixels) return;
  }
  if (has_image(program->outputs)) return;
  program->ops[0].is_stored = program->ops[0].kind != Kind::kImage;
}

int largest_weight(const Weights &weights) {
  int largest = 1;
  for (const int8_t code : weights.codes) {
    largest = std::max(largest, std::abs(code));
  }
  return largest;
}

int64_t bytes_read(const Op &op) { return op.reading.as_words ? 2 : 1; }

int64_t steps_of(const Op &op, int64_t codes) {
  const int64_t each = op.reading.as_words ? 2 : 4;
  return (codes + each - 1) / each;
}

Source source_of(const Op &op, const Tensor &x) {
  const bool widens = op.reading.as_words && x.type != Type::kI16;
  return source_of(op, x, static_cast<size_t>(bytes_read(op)),
                   op.reading.raise != 0 || widens);
}

void prepare(const Vectors &set, const ValueTypes &types, ReadBytes read,
             Program *program) {
  for (Op &op : program->ops) {
    switch (op.kind) {
      case Kind::kConvolution:
        prepare_convolution(
            set, types, read, program->ops[static_cast<size_t>(op.inputs[0])],
            &op);
        break;
      case Kind::kRequantize:
        op.is_packed = true;
        pack_table(set, &op);
        break;
      default:
        op.is_packed = op.kind == Kind::kAdd;
    }
  }
  drop_image(program);
}

int64_t scratch_of(const Vectors &set, const Program &program, int position,
                   const Plan &plan) {
  const Op &op = program.ops[static_cast<size_t>(position)];
  if (op.kind != Kind::kConvolution) return 0;
  const size_t read = static_cast<size_t>(op.inputs[0]);
  const Op &x = program.ops[read];
  if (op.method == Method::kWinograd) {
    return scratch_of_winograd(set, op, x.channels);
  }
  const Tensor tensor = {nullptr, x.grid.type(), x.channels, plan.sizes[read]};
  return scratch_for(op, tensor.size, source_of(op, tensor),
                     plan.sizes[static_cast<size_t>(position)].height);
}

}  // namespace aqd
