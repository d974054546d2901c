#include <algorithm>
#include <cstdlib>

#include "graph/schedule.h"

namespace aqd {
namespace {

size_t at(int position) { return static_cast<size_t>(position); }

class MaxPoolHoister {
 public:
  explicit MaxPoolHoister(Program *program)
      : program_(*program), readers_(readers_of(*program)),
        is_dropped_(program->nodes.size(), false) {}

  std::vector<bool> run() {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      const Op &each = program_.nodes[i].op;
      const bool is_first = each.is<Convolution>() &&
                            each.as<Convolution>().groups == 1 &&
                            each.inputs[0] == 0 &&
                            program_.nodes[0].op.is<ImageOp>();
      const int position = static_cast<int>(i);
      if (is_first && can_hoist(position)) hoist(position);
    }
    return is_dropped_;
  }

 private:
  Op &op(int position) { return program_.nodes[at(position)].op; }

  Weights *weights(int position) {
    return op(position).as<Convolution>().weights;
  }

  bool is_output(int position) const {
    const std::vector<int> &outputs = program_.outputs;
    return std::find(outputs.begin(), outputs.end(), position) != outputs.end();
  }

  // The only reader of an operator that is no output; -1 if there is none.
  int only_reader(int position) const {
    const std::vector<int> &readers = readers_[at(position)];
    return is_output(position) || readers.size() != 1 ? -1 : readers[0];
  }

  bool can_hoist(int position) {
    const std::vector<int> &readers = readers_[at(position)];
    if (readers.empty() || is_output(position)) return false;
    const Window *first = nullptr;
    for (const int reader : readers) {
      const int next = only_reader(reader);
      if (!op(reader).is<Requantize>() || next < 0) return false;
      if (!op(next).is<MaxPool>()) return false;
      const Window &pool = op(next).as<MaxPool>().window;
      if (!same(pool.dilation, {1, 1})) return false;
      if (first == nullptr) first = &pool;
      if (!same(pool.kernel, first->kernel) ||
          !same(pool.stride, first->stride) ||
          !same(pool.padding, first->padding)) {
        return false;
      }
    }
    return can_negate(position);
  }

  // Whether all multipliers of a channel have one sign, and weights of those
  // that are negative can change theirs.
  bool can_negate(int position) {
    for (const Node &other : program_.nodes) {
      if (&other.op == &op(position) || !other.op.is<Convolution>()) continue;
      if (other.op.as<Convolution>().weights == weights(position)) return false;
    }
    const std::vector<int8_t> &codes = weights(position)->codes;
    if (std::find(codes.begin(), codes.end(), INT8_MIN) != codes.end()) {
      return false;
    }
    for (int c = 0; c < op(position).channels; ++c) {
      const bool is_negative = sign_of(position, c) < 0;
      for (const int reader : readers_[at(position)]) {
        const int32_t m = multiplier(op(reader), c);
        if (m == INT32_MIN || (is_negative && m > 0)) return false;
      }
    }
    return true;
  }

  static int32_t &multiplier(Op &op, int channel) {
    std::vector<int32_t> &m = op.as<Requantize>().multipliers.m;
    return m[m.size() > 1 ? at(channel) : 0];
  }

  // The least sign of a channel's multipliers.
  int sign_of(int position, int channel) {
    int sign = 1;
    for (const int reader : readers_[at(position)]) {
      if (multiplier(op(reader), channel) < 0) sign = -1;
    }
    return sign;
  }

  void hoist(int position) {
    const size_t outs = at(op(position).channels);
    std::vector<int8_t> signs;
    for (int c = 0; c < op(position).channels; ++c) {
      signs.push_back(static_cast<int8_t>(sign_of(position, c)));
    }
    std::vector<int8_t> &codes = weights(position)->codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<int8_t>(codes[i] * signs[i % outs]);
    }
    for (const int reader : readers_[at(position)]) {
      Multipliers &table = op(reader).as<Requantize>().multipliers;
      for (int32_t &m : table.m) m = std::abs(m);
      const int pool = readers_[at(reader)][0];
      program_.nodes[at(position)].pooling = op(pool).as<MaxPool>().window;
      replace(pool, reader);
      is_dropped_[at(pool)] = true;
    }
  }

  // Lets all that reads an operator read another one.
  void replace(int position, int by) {
    for (Node &each : program_.nodes) {
      std::vector<int> &inputs = each.op.inputs;
      std::replace(inputs.begin(), inputs.end(), position, by);
    }
    std::replace(program_.outputs.begin(), program_.outputs.end(), position,
                 by);
  }

  Program &program_;
  const std::vector<std::vector<int>> readers_;
  std::vector<bool> is_dropped_;
};

}  // namespace

std::vector<bool> hoist_max_pools(Program *program) {
  return MaxPoolHoister(program).run();
}

}  // namespace aqd
