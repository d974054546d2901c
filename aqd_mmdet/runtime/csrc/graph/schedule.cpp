#include "graph/schedule.h"

#include <algorithm>
#include <cstdlib>

namespace aqd {
namespace {

size_t at(int position) { return static_cast<size_t>(position); }

// What reads each operator.
std::vector<std::vector<int>> readers_of(const Program &program) {
  std::vector<std::vector<int>> readers(program.nodes.size());
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    for (const int input : program.nodes[i].op.inputs) {
      readers[at(input)].push_back(static_cast<int>(i));
    }
  }
  return readers;
}

// Puts max-pools before the requantisations of the convolution that reads the
// image.
class PoolMover {
 public:
  explicit PoolMover(Program *program)
      : program_(*program), readers_(readers_of(*program)),
        is_moved_(program->nodes.size(), false) {}

  // Returns which operators nothing reads any more.
  std::vector<bool> run() {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      const Op &each = program_.nodes[i].op;
      const bool is_first = each.is<Convolution>() &&
                            each.as<Convolution>().groups == 1 &&
                            each.inputs[0] == 0 &&
                            program_.nodes[0].op.is<ImageOp>();
      if (is_first && can_move(static_cast<int>(i))) move(static_cast<int>(i));
    }
    return is_moved_;
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

  // The only reader of an operator that is nothing else; -1 if there is none.
  int only_reader(int position) const {
    const std::vector<int> &readers = readers_[at(position)];
    return is_output(position) || readers.size() != 1 ? -1 : readers[0];
  }

  bool can_move(int position) {
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
    return can_turn(position);
  }

  // Whether multipliers of a channel have one sign, and weights where it is
  // negative can change theirs.
  bool can_turn(int position) {
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

  void move(int position) {
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
      const Window &by = op(pool).as<MaxPool>().window;
      program_.nodes[at(position)].pooling = {by.kernel, by.stride, by.padding};
      replace(pool, reader);
      is_moved_[at(pool)] = true;
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
  std::vector<bool> is_moved_;
};

// Whether an operator can follow another code by code; what is upsampled is
// read at other places, but it is there before.
bool can_be_post_op(const Op &op) {
  return op.is<Requantize>() || op.is<Add>() || op.is<Upsample>();
}

// Inputs whose codes are read: of an upsampling the other has a size only.
size_t read_by(const Op &op) {
  return op.is<Upsample>() ? 1 : op.inputs.size();
}

// Lengths of the longest ways from the image.
std::vector<int> depths_of(const Program &program) {
  std::vector<int> depths;
  for (const Node &node : program.nodes) {
    int depth = 0;
    for (const int input : node.op.inputs) depth = std::max(depth, depths[at(input)]);
    depths.push_back(depth + 1);
  }
  return depths;
}

// When an operator had better run among the inputs of another one: what is a
// requantisation of a convolution's sums runs with it, after all others; those
// of other tensors can then join them.
int turn_of(const Program &program, int position) {
  const Op &op = program.nodes[at(position)].op;
  if (!op.is<Requantize>()) return 0;
  return program.nodes[at(op.inputs[0])].op.is<Convolution>() ? 1 : 2;
}

// What shall run before an operator, in this order; of one turn the deeper
// comes first.
std::vector<int> wanted(const Program &program, const std::vector<int> &depths,
                        int position) {
  std::vector<int> inputs = program.nodes[at(position)].op.inputs;
  const size_t count = inputs.size();
  for (size_t i = 0; i < count; ++i) {
    if (turn_of(program, inputs[i]) < 2) continue;
    inputs.push_back(program.nodes[at(inputs[i])].op.inputs[0]);
  }
  std::stable_sort(inputs.begin(), inputs.end(), [&](int x, int y) {
    const int turn = turn_of(program, x), other = turn_of(program, y);
    return turn != other ? turn < other : depths[at(x)] > depths[at(y)];
  });
  return inputs;
}

// The positions of operators in the order in which they shall run: each one
// is behind all that it reads, and not long before it is read.
std::vector<int> order_of(const Program &program,
                          const std::vector<bool> &is_moved) {
  struct Visit {
    int position;
    std::vector<int> inputs;
    size_t next;
  };
  const std::vector<int> depths = depths_of(program);
  // Outputs of the first kind are most often the largest: made last, they lend
  // their memory for longest (memory_plan.h).
  std::vector<int> order, roots;
  auto end = program.outputs.end();
  for (auto kind = program.levels.rbegin(); kind != program.levels.rend();
       ++kind) {
    roots.insert(roots.end(), end - *kind, end);
    end -= *kind;
  }
  const size_t count = program.nodes.size();
  std::vector<bool> is_done(count, false);
  for (size_t i = 0; i < count; ++i) {
    if (!is_moved[i]) roots.push_back(static_cast<int>(i));
  }
  std::vector<Visit> path;
  const auto enter = [&](int position) {
    if (is_done[at(position)]) return;
    path.push_back({position, wanted(program, depths, position), 0});
  };
  for (const int root : roots) {
    enter(root);
    while (!path.empty()) {
      Visit &last = path.back();
      if (last.next < last.inputs.size()) {
        enter(last.inputs[last.next++]);
        continue;
      }
      if (!is_done[at(last.position)]) order.push_back(last.position);
      is_done[at(last.position)] = true;
      path.pop_back();
    }
  }
  return order;
}

// Delays convolutions of the same weights until the last of them can run, as
// those of a head that pyramid levels share: the weights are then still in the
// cache. What reads them is delayed as well.
std::vector<int> side_by_side(const Program &program, std::vector<int> order) {
  std::vector<int> turns(program.nodes.size()), last(program.weights.size(), 0);
  const auto index_of = [&](const Op &op) {
    const Weights *weights = op.as<Convolution>().weights;
    return static_cast<size_t>(weights - program.weights.data());
  };
  for (size_t turn = 0; turn < order.size(); ++turn) {
    const Op &op = program.nodes[at(order[turn])].op;
    if (op.is<Convolution>()) last[index_of(op)] = static_cast<int>(turn);
  }
  for (size_t turn = 0; turn < order.size(); ++turn) {
    const Op &op = program.nodes[at(order[turn])].op;
    int &mine = turns[at(order[turn])];
    mine = static_cast<int>(turn);
    if (op.is<Convolution>()) mine = last[index_of(op)];
    for (const int input : op.inputs) mine = std::max(mine, turns[at(input)]);
  }
  std::stable_sort(order.begin(), order.end(), [&](int x, int y) {
    return turns[at(x)] < turns[at(y)];
  });
  return order;
}

void reorder(Program *program, const std::vector<bool> &is_moved) {
  const std::vector<int> order =
      side_by_side(*program, order_of(*program, is_moved));
  std::vector<int> places(program->nodes.size());
  std::vector<Node> nodes;
  for (const int position : order) {
    places[at(position)] = static_cast<int>(nodes.size());
    nodes.push_back(std::move(program->nodes[at(position)]));
    for (int &input : nodes.back().op.inputs) input = places[at(input)];
  }
  program->nodes = std::move(nodes);
  for (int &output : program->outputs) output = places[at(output)];
}

// Lets operators run with others before them.
class Joiner {
 public:
  explicit Joiner(Program *program)
      : program_(*program), readers_(readers_of(*program)) {
    for (size_t i = 0; i < program->nodes.size(); ++i) {
      program->nodes[i].root = static_cast<int>(i);
    }
  }

  void run() {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      const int root = static_cast<int>(i);
      const Node &each = program_.nodes[i];
      if (each.root == root && can_be_root(each.op)) grow(root);
    }
    finish();
  }

 private:
  Node &node(int position) { return program_.nodes[at(position)]; }
  Op &op(int position) { return node(position).op; }

  // Adds all that can be post-ops of a root, in their order.
  void grow(int root) {
    std::vector<int> members = {root};
    for (size_t i = 0; i < members.size(); ++i) {
      for (const int reader : readers_[at(members[i])]) {
        if (takes(root, reader)) members.push_back(reader);
      }
    }
    std::vector<int> &post_ops = node(root).post_ops;
    std::sort(post_ops.begin(), post_ops.end());
  }

  bool is_there(int root, int input) {
    return node(input).root <= root;
  }

  // Makes an operator a post-op of a root if all that it reads is there then.
  bool takes(int root, int position) {
    const Op &each = op(position);
    // Three are those that are added, and their sum.
    const bool is_full = node(root).post_ops.size() + 3 >= kMaxFused;
    if (is_full || !can_be_post_op(each) || node(position).root != position ||
        each.channels != op(root).channels || waits(root, position)) {
      return false;
    }
    if (each.is<Upsample>() && node(each.inputs[0]).root >= root) {
      return false;
    }
    for (const int input : each.inputs) {
      if (is_there(root, input)) continue;
      if (!is_private(root, input)) return false;
    }
    for (const int input : each.inputs) {
      if (!is_there(root, input)) fuse(root, input);
    }
    fuse(root, position);
    return true;
  }

  void fuse(int root, int position) {
    node(position).root = root;
    node(root).post_ops.push_back(position);
  }

  // A requantisation for one operator alone, of what is there.
  bool is_private(int root, int position) {
    const Op &each = op(position);
    return each.is<Requantize>() && node(position).root == position &&
           readers_[at(position)].size() == 1 &&
           !op(each.inputs[0]).is<Convolution>() &&
           is_there(root, each.inputs[0]);
  }

  // Whether a requantisation had better run with the addition that alone
  // reads it, which is not yet possible.
  bool waits(int root, int position) {
    const Op &each = op(position);
    const std::vector<int> &readers = readers_[at(position)];
    if (!each.is<Requantize>() || readers.size() != 1) return false;
    if (op(each.inputs[0]).is<Convolution>()) return false;
    const Op &sum = op(readers[0]);
    if (!sum.is<Add>()) return false;
    for (const int input : sum.inputs) {
      if (input != position && !is_there(root, input)) return true;
    }
    return false;
  }

  // Says which tensors need memory, and until when.
  void finish() {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      Node &each = program_.nodes[i];
      each.is_stored =
          each.root == static_cast<int>(i) && !can_be_root(each.op);
      each.last_use = each.root;
    }
    for (const Node &each : program_.nodes) {
      for (size_t i = 0; i < read_by(each.op); ++i) {
        Node &read = node(each.op.inputs[i]);
        read.last_use = std::max(read.last_use, each.root);
        if (read.root != each.root) read.is_stored = true;
      }
    }
    for (const int output : program_.outputs) {
      node(output).is_stored = true;
      node(output).last_use = static_cast<int>(program_.nodes.size());
      node(output).is_placed = op(output).grid.type() != Type::kI32;
    }
  }

  Program &program_;
  const std::vector<std::vector<int>> readers_;
};

}  // namespace

bool can_be_root(const Op &op) {
  return op.is<Convolution>() || op.is<Requantize>() || op.is<Add>();
}

void schedule(Program *program) {
  reorder(program, PoolMover(program).run());
  Joiner(program).run();
}

}  // namespace aqd
