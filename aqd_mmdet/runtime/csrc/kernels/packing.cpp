#include "kernels/packing.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>

#include "kernels/padding.h"
#include "kernels/requantize.h"

namespace aqd {

class PackedStore {
 public:
  // What was packed of these weights for another convolution, if it fits this
  // one; null for none.
  template <class T, class Fits>
  const PackedConv *find(const Weights &weights, const Fits &fits) const {
    const auto all = convs_.find(&weights);
    if (all == convs_.end()) return nullptr;
    for (const PackedConv &each : all->second) {
      const T *found = each.get_if<T>();
      if (found != nullptr && fits(*found)) return &each;
    }
    return nullptr;
  }

  template <class T>
  const PackedConv *add(const Weights &weights, T packed) {
    std::list<PackedConv> &all = convs_[&weights];
    all.push_back({std::move(packed)});
    return &all.back();
  }

  const PackedRequantize *add(PackedRequantize packed) {
    requantizes_.push_back(std::move(packed));
    return &requantizes_.back();
  }

 private:
  // Lists, as nodes point to what is in them.
  std::map<const Weights *, std::list<PackedConv>> convs_;
  std::list<PackedRequantize> requantizes_;
};

namespace {

std::vector<Line> lines_of(int64_t bytes) {
  return std::vector<Line>(static_cast<size_t>(whole_lines(bytes)) /
                           sizeof(Line));
}

// A convolution that is to be packed.
struct Task {
  const KernelSet &set;
  const Op &op;
  const ConvInput &input;

  const Convolution &conv() const { return op.as<Convolution>(); }
  const Weights &weights() const { return *conv().weights; }
  bool is_dilated() const { return conv().window.dilation.width != 1; }
};

// The zero point compensation: what accumulators lack since the codes that are
// read exceed those that they stand for.
std::vector<int32_t> acc_init(const Task &task, const InputFormat &format) {
  const size_t outs = static_cast<size_t>(task.op.channels);
  const size_t channels = static_cast<size_t>(task.input.channels);
  const std::vector<int8_t> &codes = task.weights().codes;
  const std::vector<int> zeros = format.zeros(task.input.channels);
  const int lanes = task.set.shape.lanes;
  std::vector<int32_t> init(
      static_cast<size_t>(vectors_of(task.op.channels, lanes) * lanes), 0);
  for (size_t i = 0; i < codes.size(); i += outs) {
    // Modulo 2^32, as accumulators are, which fit in the end.
    const uint32_t zero = static_cast<uint32_t>(zeros[i / outs % channels]);
    if (zero == 0) continue;
    for (size_t o = 0; o < outs; ++o) {
      const uint32_t product = static_cast<uint32_t>(codes[i + o]) * zero;
      init[o] = static_cast<int32_t>(static_cast<uint32_t>(init[o]) - product);
    }
  }
  return init;
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
  const KSegments segments(task.conv(), task.input.channels);
  const int64_t outs = task.op.channels, lanes = task.set.shape.lanes;
  const int64_t vectors = vectors_of(outs, lanes);
  const int64_t each = format.widen ? 2 : 4;
  const int64_t steps = format.k_steps(segments.codes);
  const int64_t groups = (steps + together - 1) / together;
  const int64_t bytes = 4 * lanes;
  std::vector<Line> lines =
      lines_of(vectors * segments.count * groups * together * bytes);
  int8_t *to = lines.data()->bytes;
  for (int64_t block = 0, end; block < vectors; block = end) {
    end = block + block_vectors(vectors - block, nr);
    for (int64_t segment = 0; segment < segments.count; ++segment) {
      const int8_t *codes =
          task.weights().codes.data() +
          segments.tap(task.conv(), segment) * task.input.channels * outs;
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
const PackedConv *pack_direct(const Task &task, const InputFormat &format, int nr,
                      int64_t together, PackedStore *store) {
  const PackedConv *packed =
      store->find<Packed>(task.weights(), [&](const Packed &each) {
        return each.input == format && each.is_dilated == task.is_dilated();
      });
  if (packed != nullptr) return packed;
  return store->add(task.weights(),
                    Packed{format, task.is_dilated(),
                           pack_blocks(task, format, nr, together),
                           acc_init(task, format)});
}

const PackedConv *pack_depthwise(const Task &task, PackedStore *store) {
  const int groups = task.conv().groups;
  if (groups != task.op.channels || groups != task.input.channels) {
    return nullptr;
  }
  InputFormat format;
  format.widen = task.input.codes.type() == Type::kI16;
  const PackedConv *packed = store->find<PackedDepthwise>(
      task.weights(),
      [&](const PackedDepthwise &each) { return each.input == format; });
  if (packed != nullptr) return packed;
  const std::vector<int8_t> &codes = task.weights().codes;
  std::vector<Line> lines =
      lines_of(static_cast<int64_t>(codes.size() + sizeof(Line)));
  std::memcpy(lines.data()->bytes, codes.data(), codes.size());
  return store->add(task.weights(), PackedDepthwise{format, std::move(lines)});
}

const PackedConv *pack_winograd(const Task &task, PackedStore *store) {
  if (!has_winograd_window(task.op, task.input)) return nullptr;
  const Range codes = with_zero(task.input.codes);
  const PackedConv *packed = store->find<PackedWinograd>(
      task.weights(),
      [&](const PackedWinograd &each) { return each.layer.codes == codes; });
  if (packed != nullptr) return packed;
  const SimdShape &shape = task.set.shape;
  const WinogradLayer layer = exact_layer(shape, codes, task.weights());
  if (layer.tile.rows == 0) return nullptr;
  return store->add(task.weights(),
                    pack_winograd(shape, layer, task.weights()));
}

const PackedConv *pack_lut(const Task &task, PackedStore *store) {
  const LutScheme *scheme = lut_scheme(task.op, task.input);
  if (scheme == nullptr) return nullptr;
  const PackedConv *packed = store->find<PackedLut>(
      task.weights(),
      [&](const PackedLut &each) { return each.scheme == scheme; });
  if (packed != nullptr) return packed;
  return store->add(task.weights(),
                    pack_lut(*scheme, task.op, task.input.channels));
}

// The first algorithm that can compute the convolution, the fastest first; null
// if it is left to portable kernels.
const PackedConv *pack_conv(const Task &task, const Window &pooling, PackedStore *store) {
  const Type type = task.input.codes.type();
  if (type == Type::kI32) return nullptr;
  const bool is_plain =
      task.input.image == nullptr && pooling.kernel.height == 0;
  if (task.conv().groups != 1) {
    return is_plain ? pack_depthwise(task, store) : nullptr;
  }
  if (is_plain && !task.set.has_amx) {
    const PackedConv *packed = pack_winograd(task, store);
    if (packed == nullptr && task.set.has_lut) packed = pack_lut(task, store);
    if (packed != nullptr) return packed;
  }
  InputFormat format;
  if (type == Type::kI16) {
    format.widen = true;
  } else {
    format = task.set.byte_format(task.weights(), task.input.codes);
  }
  if (task.input.image != nullptr) format.means = task.input.image->means;
  if (task.set.has_amx && !format.widen) {
    return pack_direct<PackedAmx>(task, format, kAmxNr, kAmxSteps, store);
  }
  return pack_direct<PackedDirect>(task, format, task.set.shape.nr, 1, store);
}

void pack_node(const KernelSet &set, const Program &program, Node *node,
               PackedStore *store) {
  if (node->op.is<Requantize>()) {
    node->packed.requantize =
        store->add(pack_requantize(set.shape, node->op));
    node->packed.has_kernel = true;
  } else if (node->op.is<Add>()) {
    node->packed.has_kernel = true;
  } else if (node->op.is<Convolution>()) {
    const Op &x = program.nodes[node->op.inputs[0]].op;
    const bool is_image = x.is<ImageOp>();
    const ConvInput input = {x.channels, is_image ? Grid{0, UINT8_MAX} : x.grid,
                             is_image ? &x.as<ImageOp>() : nullptr};
    node->packed.conv =
        pack_conv({set, node->op, input}, node->pooling, store);
    node->packed.has_kernel = node->packed.conv != nullptr;
    node->packed.reads_pixels = node->packed.has_kernel && is_image;
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

void DeletePackedStore::operator()(PackedStore *store) const { delete store; }

std::vector<int> InputFormat::zeros(int64_t channels) const {
  std::vector<int> zeros(static_cast<size_t>(channels), zero_point_shift);
  for (size_t c = 0; c < means.size(); ++c) zeros[c] += means[c];
  return zeros;
}

bool InputFormat::operator==(const InputFormat &other) const {
  return widen == other.widen && zero_point_shift == other.zero_point_shift &&
         k_per_spill == other.k_per_spill && means == other.means;
}

InputFormat unsigned_bytes(const Weights &, const Grid &codes) {
  InputFormat format;
  if (codes.type() == Type::kI8) format.zero_point_shift = -codes.low;
  return format;
}

int max_weight(const Weights &weights) {
  int largest = 1;
  for (const int8_t code : weights.codes) {
    largest = std::max(largest, std::abs(code));
  }
  return largest;
}

void pack_program(const KernelSet &set, Program *program) {
  program->packed.reset(new PackedStore);
  for (Node &node : program->nodes) {
    pack_node(set, *program, &node, program->packed.get());
  }
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
          return winograd_scratch(shape, packed.layer.tile, x.channels);
        } else if constexpr (std::is_same_v<T, PackedLut>) {
          return lut_scratch(packed, node.op);
        } else {
          const InputView view(node, tensor, packed.input);
          return strip_scratch(node, tensor.size, view, rows);
        }
      },
      node.packed.conv->weights);
}

}  // namespace aqd
