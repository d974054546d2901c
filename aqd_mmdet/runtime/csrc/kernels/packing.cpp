#include "kernels/isa.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/padding.h"

namespace aqd {
namespace {

// A convolution that is to be packed.
struct Task {
  const Isa &isa;
  const Node &node;
  const Op &x;  // that makes its input
  std::list<PackedConv> &store;

  const Op &op() const { return node.op; }
  const Convolution &conv() const { return node.conv(); }
  const Weights &weights() const { return *conv().weights; }
  bool is_dilated() const { return conv().window.dilation.width != 1; }
  // Of channels of codes; none if all are 0.
  std::vector<int32_t> zero_points() const {
    std::vector<int32_t> zeros = conv().zeros;
    if (x.is<ImageOp>()) {
      const std::vector<int32_t> &means = x.as<ImageOp>().means;
      for (size_t c = 0; c < zeros.size(); ++c) zeros[c] += means[c];
    }
    const bool are_none = std::count(zeros.begin(), zeros.end(), 0) ==
                          static_cast<std::ptrdiff_t>(zeros.size());
    return are_none ? std::vector<int32_t>() : zeros;
  }
  // Whether the border, which has the zero points, is of codes that are read.
  // An image's zero points and means may exceed its bytes.
  bool has_border_codes() const {
    const std::vector<int32_t> zeros = zero_points();
    return std::all_of(zeros.begin(), zeros.end(), [&](int32_t zero) {
      return codes().holds(zero, zero);
    });
  }
  // Of an image its bytes are read.
  Grid codes() const { return x.is<ImageOp>() ? Grid{0, UINT8_MAX} : x.grid; }

  // How the codes are read that are multiplied as they are.
  InputFormat format() const {
    return codes().type() == Type::kI16 ? words() : format(isa.byte_format);
  }
  InputFormat words() const { return format(as_words); }
  template <class Make>
  InputFormat format(const Make &make) const {
    InputFormat format = make(weights(), codes());
    format.zero_points = zero_points();
    return format;
  }

  // What was packed of these weights for another convolution, if it fits this
  // one; null for none.
  template <class T, class Fits>
  const PackedConv *find(const Fits &fits) const {
    for (const PackedConv &each : store) {
      const T *found = std::get_if<T>(&each.weights);
      if (each.source == &weights() && found != nullptr && fits(*found)) {
        return &each;
      }
    }
    return nullptr;
  }

  template <class T>
  const PackedConv *add(T packed) const {
    store.push_back({&weights(), std::move(packed)});
    return &store.back();
  }
};

// The zero point compensation: what accumulators lack since the codes that are
// read exceed those that they stand for.
std::vector<int32_t> acc_init(const Task &task, const InputFormat &format) {
  const size_t outs = static_cast<size_t>(task.op().channels);
  const std::vector<int8_t> &codes = task.weights().codes;
  const std::vector<int> zeros = format.zeros(task.x.channels);
  const int64_t lanes = task.isa.shape.lanes;
  // Modulo 2^32, as accumulators are, which fit in the end.
  std::vector<uint32_t> init(
      static_cast<size_t>(vectors_of(task.op().channels, lanes) * lanes), 0);
  const bool is_depthwise = task.conv().groups != 1;
  for (size_t i = 0; i < codes.size(); i += outs) {
    for (size_t o = 0; o < outs; ++o) {
      const size_t channel = is_depthwise ? o : i / outs % zeros.size();
      init[o] -= static_cast<uint32_t>(int32_t{codes[i + o]}) *
                 static_cast<uint32_t>(zeros[channel]);
    }
  }
  return {init.begin(), init.end()};
}

// Weights of one vector of output channels that one MAC reads: `count` codes of
// K, which are `outs` apart, by lane.
void pack_step(const int8_t *from, int64_t outs, int64_t count, int64_t lanes,
               bool widen, int8_t *to) {
  for (int64_t i = 0; i < count; ++i, from += outs) {
    int8_t *place = to + i * (widen ? 2 : 1);
    for (int64_t lane = 0; lane < lanes; ++lane, place += 4) {
      place[0] = from[lane];
      if (widen) place[1] = from[lane] < 0 ? int8_t{-1} : int8_t{0};
    }
  }
}

// Blocks of up to nr vectors; so many steps of K of a vector lie together.
std::vector<Line> pack_blocks(const Task &task, const InputFormat &format,
                              int nr, int64_t together) {
  const KSegments segments(task.conv().window, task.x.channels);
  const int64_t outs = task.op().channels, lanes = task.isa.shape.lanes;
  const int64_t vectors = vectors_of(outs, lanes);
  const int64_t each = format.widen ? 2 : 4;
  const int64_t steps = format.k_steps(segments.codes);
  const int64_t groups = (steps + together - 1) / together;
  const int64_t count = static_cast<int64_t>(segments.taps.size());
  const int64_t bytes = 4 * lanes;
  std::vector<Line> lines =
      lines_of(vectors * count * groups * together * bytes);
  int8_t *to = lines.data()->bytes;
  for (int64_t block = 0, end; block < vectors; block = end) {
    end = block + block_vectors(vectors - block, nr);
    for (const int64_t tap : segments.taps) {
      const int8_t *codes =
          task.weights().codes.data() + tap * task.x.channels * outs;
      for (int64_t group = 0; group < groups; ++group) {
        for (int64_t v = block; v < end; ++v) {
          for (int64_t i = 0; i < together; ++i, to += bytes) {
            const int64_t k = (group * together + i) * each;
            pack_step(codes + k * outs + v * lanes, outs,
                      std::min(each, segments.codes - k),
                      std::min(lanes, outs - v * lanes), format.widen, to);
          }
        }
      }
    }
  }
  return lines;
}

template <class Packed>
const PackedConv *pack_direct(const Task &task, const InputFormat &format,
                              int nr, int64_t together) {
  const PackedConv *packed = task.find<Packed>([&](const Packed &each) {
    return each.input == format && each.is_dilated == task.is_dilated();
  });
  if (packed != nullptr) return packed;
  Packed made;
  made.input = format;
  made.is_dilated = task.is_dilated();
  made.weights = pack_blocks(task, format, nr, together);
  made.acc_init = acc_init(task, format);
  return task.add(std::move(made));
}

// Weights of all phases: those of a tap are where its column is in a group.
std::vector<Line> pack_phases(const Task &task, const PackedDepthwise &packed) {
  const int64_t outs = task.op().channels, lanes = task.isa.shape.lanes;
  const ColumnGroups &groups = packed.groups;
  const Size &kernel = task.conv().window.kernel;
  const int64_t bytes =
      kernel.height * groups.count * groups.phases * 4 * lanes;
  std::vector<Line> lines = lines_of(vectors_of(outs, lanes) * bytes);
  for (int64_t channel = 0; channel < outs; channel += lanes) {
    const int8_t *from = task.weights().codes.data() + channel;
    int8_t *to = lines.data()->bytes + channel / lanes * bytes;
    for (int64_t tap = 0; tap < int64_t{kernel.height} * kernel.width; ++tap) {
      for (int64_t phase = 0; phase < groups.phases; ++phase) {
        const int64_t column = tap % kernel.width + phase * groups.stride;
        const int64_t group = tap / kernel.width * groups.count +
                              column / groups.columns;
        pack_step(from + tap * outs, outs, 1, std::min(lanes, outs - channel),
                  packed.input.widen,
                  to + (group * groups.phases + phase) * 4 * lanes +
                      column % groups.columns * packed.input.code_bytes());
      }
    }
  }
  return lines;
}

const PackedConv *pack_depthwise(const Task &task) {
  const int channels = task.conv().groups;
  if (channels != task.op().channels || channels != task.x.channels) {
    return nullptr;
  }
  const Window &window = task.conv().window;
  InputFormat format = task.format();
  // Accumulators of 16 bits are never spilled.
  const int64_t steps =
      window.kernel.height * ColumnGroups(window, format).count;
  if (format.k_per_spill != 0 && format.k_per_spill < steps) {
    format = task.words();
  }
  const ColumnGroups groups(window, format);
  const PackedConv *found = task.find<PackedDepthwise>(
      [&](const PackedDepthwise &each) {
        return each.input == format && each.groups == groups;
      });
  if (found != nullptr) return found;
  PackedDepthwise packed = {format, groups, {}, acc_init(task, format)};
  packed.weights = pack_phases(task, packed);
  return task.add(std::move(packed));
}

const PackedConv *pack_winograd(const Task &task) {
  if (!has_winograd_window(task.op(), task.codes())) return nullptr;
  const std::vector<int32_t> zeros = task.zero_points();
  const Grid codes = zeros.empty() ? with_zero(task.codes()) : task.codes();
  const PackedConv *packed =
      task.find<PackedWinograd>([&](const PackedWinograd &each) {
        return same(each.codes, codes) && each.zero_points == zeros;
      });
  if (packed != nullptr) return packed;
  PackedWinograd made =
      pack_winograd(task.isa.shape, codes, zeros, task.weights());
  return made.tile.rows == 0 ? nullptr : task.add(std::move(made));
}

const PackedConv *pack_lut(const Task &task) {
  const LutScheme *scheme = lut_scheme(task.op(), task.x);
  InputFormat format;
  format.zero_points = task.zero_points();
  const Size &padding = task.conv().window.padding;
  const bool is_padded = padding.height > 0 || padding.width > 0;
  if (scheme == nullptr || (is_padded && !format.zero_points.empty())) {
    return nullptr;
  }
  const PackedConv *packed = task.find<PackedLut>([&](const PackedLut &each) {
    return each.scheme == scheme && each.zero_points == format.zero_points;
  });
  if (packed != nullptr) return packed;
  PackedLut made = pack_lut(*scheme, task.op(), task.x.channels);
  const std::vector<int32_t> init = acc_init(task, format);
  for (size_t o = 0; o < init.size(); ++o) made.acc_init[o] += init[o];
  made.zero_points = format.zero_points;
  return task.add(std::move(made));
}

// The first algorithm that can compute the convolution, the fastest first; null
// if it is left to portable kernels.
const PackedConv *pack_conv(const Task &task) {
  const Type type = task.codes().type();
  if (type == Type::kI32 || !task.has_border_codes()) return nullptr;
  const bool is_image = task.x.is<ImageOp>();
  const bool is_plain = !is_image && !task.node.is_pooled();
  if (task.conv().groups != 1) {
    return is_plain ? pack_depthwise(task) : nullptr;
  }
  if (is_plain && !task.isa.has_amx) {
    const PackedConv *packed = pack_winograd(task);
    if (packed == nullptr && task.isa.has_lut) packed = pack_lut(task);
    if (packed != nullptr) return packed;
  }
  const InputFormat format = task.format();
  if (task.isa.has_amx && !format.widen) {
    return pack_direct<PackedAmx>(task, format, kAmxNr, kAmxSteps);
  }
  return pack_direct<PackedDirect>(task, format, task.isa.shape.nr, 1);
}

void pack_node(const Isa &isa, Program *program, Node *node) {
  Packed &packed = node->packed;
  if (node->op.is<Requantize>()) {
    const Op &x = program->nodes[node->op.inputs[0]].op;
    packed.requantize = pack_requantize(isa, node->op, x);
    packed.has_kernel = true;
  } else if (node->op.is<Lookup>()) {
    const Op &x = program->nodes[node->op.inputs[0]].op;
    if (isa.has_lines) packed.lookup = pack_lookup(isa.shape, node->op, x);
    packed.has_kernel = true;
  } else if (node->op.is<Add>()) {
    packed.has_kernel = true;
  } else if (node->op.is<Convolution>()) {
    const Op &x = program->nodes[node->op.inputs[0]].op;
    packed.conv = pack_conv({isa, *node, x, program->packed});
    packed.has_kernel = packed.conv != nullptr;
    packed.reads_pixels = packed.has_kernel && x.is<ImageOp>();
  }
}

// An image that only convolutions of its bytes read is not made.
void drop_image(Program *program) {
  const auto has_image = [](const std::vector<size_t> &positions) {
    return std::find(positions.begin(), positions.end(), 0) != positions.end();
  };
  for (const Node &node : program->nodes) {
    if (has_image(node.op.inputs) && !node.packed.reads_pixels) return;
  }
  Node &first = program->nodes[0];
  if (first.op.is<ImageOp>() && !has_image(program->outputs)) {
    first.is_stored = false;
  }
}

}  // namespace

std::vector<int> InputFormat::zeros(int64_t channels) const {
  std::vector<int> zeros(static_cast<size_t>(channels), zero_point_shift);
  for (size_t c = 0; c < zero_points.size(); ++c) zeros[c] += zero_points[c];
  return zeros;
}

bool InputFormat::operator==(const InputFormat &other) const {
  return widen == other.widen && zero_point_shift == other.zero_point_shift &&
         k_per_spill == other.k_per_spill && zero_points == other.zero_points;
}

ColumnGroups::ColumnGroups(const Window &window, const InputFormat &format)
    : columns(format.widen ? 2 : 4), stride(window.stride.width),
      dilation(window.kernel.width == 1 ? 1 : window.dilation.width),
      are_shared(columns % stride == 0 && dilation == 1),
      phases(are_shared ? columns / stride : 1) {
  const auto needed = [&](int64_t phase) {
    return (phase * stride + window.kernel.width + columns - 1) / columns;
  };
  count = needed(phases - 1);
  step = are_shared ? 1 : count;
  while (needed(first_of_last) < count) ++first_of_last;
}

bool ColumnGroups::operator==(const ColumnGroups &other) const {
  return columns == other.columns && stride == other.stride &&
         dilation == other.dilation;
}

int64_t ColumnGroups::of_row(int64_t width) const {
  return (width - 1) / phases * step + count;
}

std::vector<int64_t> ColumnGroups::starts(int64_t width,
                                          int64_t padding) const {
  std::vector<int64_t> starts;
  for (int64_t group = 0; group < of_row(width); ++group) {
    const int64_t own =
        group / count * stride + group % count * columns * dilation;
    starts.push_back((are_shared ? group * columns : own) - padding);
  }
  return starts;
}

InputFormat unsigned_bytes(const Weights &, const Grid &codes) {
  InputFormat format;
  if (codes.type() == Type::kI8) format.zero_point_shift = -codes.low;
  return format;
}

InputFormat as_words(const Weights &, const Grid &) {
  InputFormat format;
  format.widen = true;
  return format;
}

void pack_program(const Isa &isa, Program *program) {
  for (Node &node : program->nodes) pack_node(isa, program, &node);
  drop_image(program);
}

int64_t scratch_bytes(const SimdShape &shape, const Program &program,
                      size_t position, const Plan &plan) {
  const Node &node = program.nodes[position];
  if (!node.op.is<Convolution>()) return 0;
  const size_t read = node.op.inputs[0];
  const Op &x = program.nodes[read].op;
  const Tensor tensor = {
      nullptr, node.packed.reads_pixels ? Type::kU8 : x.grid.type(), x.channels,
      plan.sizes[read]};
  const int64_t rows = plan.sizes[position].height;
  return std::visit(
      [&](const auto &packed) -> int64_t {
        using T = std::decay_t<decltype(packed)>;
        if constexpr (std::is_same_v<T, PackedWinograd>) {
          return WinogradScratch(shape, packed, x.channels, nullptr).bytes();
        } else if constexpr (std::is_same_v<T, PackedLut>) {
          return LutScratch(packed, node.op, nullptr).bytes();
        } else if constexpr (std::is_same_v<T, PackedDepthwise>) {
          const InputView view(node, tensor, packed, shape.lanes);
          const int64_t slack =
              kDepthwiseSlack * packed.groups.step * view.pixel_bytes;
          return strip_scratch(node, tensor.size, view, rows) +
                 whole_lines(slack);
        } else {
          const InputView view(node, tensor, packed.input);
          return strip_scratch(node, tensor.size, view, rows);
        }
      },
      node.packed.conv->weights);
}

}  // namespace aqd
