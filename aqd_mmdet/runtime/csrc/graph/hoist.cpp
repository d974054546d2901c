#include <algorithm>
#include <cstdlib>

#include "graph/schedule.h"

namespace aqd {
namespace {

class MaxPoolHoister {
 public:
  explicit MaxPoolHoister(Program *program)
      : program_(*program), readers_(readers_of(*program)),
        is_dropped_(program->nodes.size(), false) {}

  std::vector<bool> run() {
    if (!op(0).is<ImageOp>()) return is_dropped_;
    for (const size_t conv : readers_[0]) {
      if (!can_hoist(conv)) continue;
      const std::vector<int8_t> signs = signs_of(conv);
      if (!signs.empty()) hoist(conv, signs);
    }
    return is_dropped_;
  }

 private:
  Op &op(size_t position) { return program_.nodes[position].op; }

  std::vector<int32_t> &multipliers(size_t position) {
    return op(position).as<Requantize>().multipliers.m;
  }

  bool is_output(size_t position) const {
    const std::vector<size_t> &outputs = program_.outputs;
    return std::find(outputs.begin(), outputs.end(), position) != outputs.end();
  }

  bool can_hoist(size_t position) {
    const Op &each = op(position);
    return each.is<Convolution>() && each.as<Convolution>().groups == 1 &&
           are_pools_alike(position) &&
           can_negate(*each.as<Convolution>().weights);
  }

  // Whether a convolution is read by requantisations alone, each of these by a
  // max-pool alone, and all max-pools have one window.
  bool are_pools_alike(size_t conv) {
    const Window *first = nullptr;
    for (const size_t reader : readers_[conv]) {
      if (!op(reader).is<Requantize>() || is_output(reader) ||
          readers_[reader].size() != 1) {
        return false;
      }
      const Op &pool = op(readers_[reader][0]);
      if (!pool.is<MaxPool>()) return false;
      const Window &window = pool.as<MaxPool>().window;
      if (first == nullptr) first = &window;
      if (!same(window, *first)) return false;
    }
    return first != nullptr && same(first->dilation, {1, 1}) &&
           !is_output(conv);
  }

  // Whether weights of a convolution can change their signs.
  bool can_negate(const Weights &weights) const {
    const auto reads = [&](const Node &each) {
      return each.op.is<Convolution>() && each.conv().weights == &weights;
    };
    const std::vector<Node> &nodes = program_.nodes;
    const std::vector<int8_t> &codes = weights.codes;
    return std::count_if(nodes.begin(), nodes.end(), reads) == 1 &&
           std::find(codes.begin(), codes.end(), INT8_MIN) == codes.end();
  }

  // The signs of the multipliers of each channel; empty if some have both.
  std::vector<int8_t> signs_of(size_t conv) {
    std::vector<int8_t> signs(static_cast<size_t>(op(conv).channels), 1);
    for (size_t c = 0; c < signs.size(); ++c) {
      int32_t least = 0, most = 0;
      for (const size_t reader : readers_[conv]) {
        const std::vector<int32_t> &m = multipliers(reader);
        least = std::min(least, m[m.size() > 1 ? c : 0]);
        most = std::max(most, m[m.size() > 1 ? c : 0]);
      }
      if (least == INT32_MIN || (least < 0 && most > 0)) return {};
      if (least < 0) signs[c] = -1;
    }
    return signs;
  }

  void hoist(size_t conv, const std::vector<int8_t> &signs) {
    std::vector<int8_t> &codes = op(conv).as<Convolution>().weights->codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<int8_t>(codes[i] * signs[i % signs.size()]);
    }
    for (const size_t reader : readers_[conv]) {
      for (int32_t &m : multipliers(reader)) m = std::abs(m);
      const size_t pool = readers_[reader][0];
      program_.nodes[conv].pooling = op(pool).as<MaxPool>().window;
      is_dropped_[pool] = true;
      // What reads the max-pool reads the requantisation.
      for (const size_t next : readers_[pool]) {
        std::vector<size_t> &inputs = op(next).inputs;
        std::replace(inputs.begin(), inputs.end(), pool, reader);
      }
      std::vector<size_t> &outputs = program_.outputs;
      std::replace(outputs.begin(), outputs.end(), pool, reader);
    }
  }

  Program &program_;
  const std::vector<std::vector<size_t>> readers_;
  std::vector<bool> is_dropped_;
};

}  // namespace

std::vector<bool> hoist_max_pools(Program *program) {
  return MaxPoolHoister(program).run();
}

}  // namespace aqd
