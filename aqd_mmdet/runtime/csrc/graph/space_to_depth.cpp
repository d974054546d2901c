// Space-to-depth layers of images, which are folded into what convolves them.

#include <algorithm>

#include "graph/program.h"

namespace aqd {
namespace {

// The pixels of an image that a channel of a tensor has.
struct Source {
  int32_t channel;
  Size offset, step;
};

// A space-to-depth layer (the "focus" of a YOLOX) slices an image by a step s
// and concatenates the slices. A convolution of what it makes, with a kernel k,
// is a convolution of the image, with a kernel s * k and s times the stride and
// the padding: row v of its window, of a slice from row a, is row s * v + a of
// the image's. Sums have the same terms, since sides of images are multiples of
// s: of the image's rows that one of the slices stands for all are padding, or
// none is.
class SpaceToDepthFolder {
 public:
  explicit SpaceToDepthFolder(Program *program)
      : program_(*program), uses_(program->nodes.size(), 0) {}

  void run() {
    if (!op(0).is<ImageOp>()) return;
    for (const Node &node : program_.nodes) {
      for (const size_t input : node.op.inputs) ++uses_[input];
    }
    for (const size_t output : program_.outputs) ++uses_[output];
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      if (!can_read_image(i)) continue;
      const size_t concatenated = op(i).inputs[0];
      const std::vector<Source> sources = sources_of(concatenated);
      if (!is_space_to_depth(sources)) continue;
      const std::vector<int32_t> zeros = zeros_of(op(i), sources);
      if (zeros.empty()) continue;
      fold(sources, zeros, &op(i));
      ++uses_[0];
      release(concatenated);
    }
  }

 private:
  Op &op(size_t position) { return program_.nodes[position].op; }

  // Whether it is a convolution of concatenated channels whose weights can be
  // reordered.
  bool can_read_image(size_t position) {
    if (!op(position).is<Convolution>()) return false;
    const Convolution &conv = op(position).as<Convolution>();
    return op(op(position).inputs[0]).is<Concatenate>() && conv.groups == 1 &&
           same(conv.window.dilation, {1, 1}) &&
           program_.are_private(*conv.weights);
  }

  // Of each of the concatenated channels; empty if some are no slices of an
  // image.
  std::vector<Source> sources_of(size_t concatenated) {
    std::vector<Source> sources;
    for (const size_t input : op(concatenated).inputs) {
      Source source = {0, {0, 0}, {1, 1}};
      size_t position = input;
      for (; op(position).is<Slice>(); position = op(position).inputs[0]) {
        if (!prepend(op(position).as<Slice>(), &source)) return {};
      }
      if (position != 0) return {};
      for (int32_t i = 0; i < op(input).channels; ++i, ++source.channel) {
        sources.push_back(source);
      }
    }
    return sources;
  }

  // Lets a source be of what was sliced before. Returns whether it can be part
  // of a space-to-depth layer.
  bool prepend(const Slice &slice, Source *source) const {
    source->channel += slice.first;
    const auto prepend_side = [&](int32_t Size::*side) {
      int32_t &offset = source->offset.*side, &step = source->step.*side;
      offset = offset * slice.step.*side + slice.offset.*side;
      step *= slice.step.*side;
      return program_.stride % step == 0 && offset < step;
    };
    return prepend_side(&Size::height) && prepend_side(&Size::width);
  }

  // Whether channels are all those of an image at all offsets, each once.
  bool is_space_to_depth(const std::vector<Source> &sources) {
    if (sources.empty()) return false;
    const Size step = sources[0].step;
    const int64_t channels = op(0).channels;
    std::vector<bool> are_there(sources.size(), false);
    for (const Source &each : sources) {
      const size_t place = static_cast<size_t>(
          (int64_t{each.offset.height} * step.width + each.offset.width) *
              channels + each.channel);
      if (!same(each.step, step) || place >= sources.size() ||
          are_there[place]) {
        return false;
      }
      are_there[place] = true;
    }
    return static_cast<int64_t>(sources.size()) ==
           int64_t{step.height} * step.width * channels;
  }

  // Zero points of an image's channels; empty if they differ by offset, or if
  // those of its bytes are no bytes, which only portable kernels convolve.
  std::vector<int32_t> zeros_of(const Op &conv,
                                const std::vector<Source> &sources) {
    const std::vector<int32_t> &from = conv.as<Convolution>().zeros;
    const std::vector<int32_t> &means = op(0).as<ImageOp>().means;
    std::vector<int32_t> zeros(means.size());
    const auto channel = [&](size_t i) {
      return static_cast<size_t>(sources[i].channel);
    };
    for (size_t i = 0; i < from.size(); ++i) zeros[channel(i)] = from[i];
    for (size_t i = 0; i < from.size(); ++i) {
      const int64_t zero = int64_t{from[i]} + means[channel(i)];
      if (from[i] != zeros[channel(i)] || zero < 0 || zero > UINT8_MAX) {
        return {};
      }
    }
    return zeros;
  }

  // Lets a convolution read the image.
  void fold(const std::vector<Source> &sources,
            const std::vector<int32_t> &zeros, Op *folded) {
    Convolution &conv = folded->as<Convolution>();
    Weights &weights = *conv.weights;
    const Size kernel = conv.window.kernel, step = sources[0].step;
    const auto scale = [&](Size *size) {
      *size = {size->height * step.height, size->width * step.width};
    };
    scale(&conv.window.kernel);
    scale(&conv.window.stride);
    scale(&conv.window.padding);
    const size_t channels = zeros.size();
    const auto outs = static_cast<std::ptrdiff_t>(folded->channels);
    std::vector<int8_t> codes(weights.codes.size());
    auto from = weights.codes.begin();
    for (int32_t v = 0; v < kernel.height; ++v) {
      for (int32_t u = 0; u < kernel.width; ++u) {
        for (const Source &each : sources) {
          const int64_t row = v * step.height + each.offset.height;
          const int64_t column = u * step.width + each.offset.width;
          const int64_t tap = row * conv.window.kernel.width + column;
          const int64_t in =
              tap * static_cast<int64_t>(channels) + each.channel;
          std::copy(from, from + outs, codes.begin() + in * outs);
          from += outs;
        }
      }
    }
    weights.codes = std::move(codes);
    weights.shape = {outs, static_cast<int64_t>(channels),
                     conv.window.kernel.height, conv.window.kernel.width};
    conv.zeros = zeros;
    folded->inputs = {0};
  }

  // Takes away one use of an operator, and removes what has none left.
  void release(size_t position) {
    std::vector<size_t> released = {position};
    while (!released.empty()) {
      const size_t last = released.back();
      released.pop_back();
      if (--uses_[last] > 0) continue;
      Op &unused = op(last);
      unused.info = nullptr;
      released.insert(released.end(), unused.inputs.begin(),
                      unused.inputs.end());
    }
  }

  Program &program_;
  std::vector<size_t> uses_;  // of each operator, by others and as an output
};

}  // namespace

void fold_space_to_depth(Program *program) {
  SpaceToDepthFolder(program).run();
}

}  // namespace aqd
