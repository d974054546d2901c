#include "graph/schedule.h"

#include <algorithm>
#include <cstdlib>

namespace aqd {
namespace {

size_t at(int position) { return static_cast<size_t>(position); }

// What reads each operator.
std::vector<std::vector<int>> readers_of(const Program &program) {
  std::vector<std::vector<int>> readers(program.ops.size());
  for (size_t i = 0; i < program.ops.size(); ++i) {
    for (const int input : program.ops[i].inputs) {
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
        is_moved_(program->ops.size(), false) {}

  // Returns which operators nothing reads any more.
  std::vector<bool> run() {
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      Op &each = program_.ops[i];
      const bool is_first = each.kind == Kind::kConvolution &&
                            each.groups == 1 && each.inputs[0] == 0 &&
                            program_.ops[0].kind == Kind::kImage;
      if (is_first && can_move(static_cast<int>(i))) move(static_cast<int>(i));
    }
    return is_moved_;
  }

 private:
  Op &op(int position) { return program_.ops[at(position)]; }

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
    const Op *first = nullptr;
    for (const int reader : readers) {
      const int next = only_reader(reader);
      if (op(reader).kind != Kind::kRequantize || next < 0) return false;
      const Op &pool = op(next);
      if (pool.kind != Kind::kMaxPool || !same(pool.dilation, {1, 1})) {
        return false;
      }
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
    const Op &head = op(position);
    for (const Op &other : program_.ops) {
      if (&other != &head && other.weights == head.weights) return false;
    }
    const std::vector<int8_t> &codes = head.weights->codes;
    if (std::find(codes.begin(), codes.end(), INT8_MIN) != codes.end()) {
      return false;
    }
    for (int c = 0; c < head.channels; ++c) {
      const bool is_negative = sign_of(position, c) < 0;
      for (const int reader : readers_[at(position)]) {
        const int32_t m = multiplier(op(reader), c);
        if (m == INT32_MIN || (is_negative && m > 0)) return false;
      }
    }
    return true;
  }

  static int32_t &multiplier(Op &op, int channel) {
    std::vector<int32_t> &m = op.multipliers.m;
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
    Op &head = op(position);
    const size_t outs = at(head.channels);
    std::vector<int8_t> signs;
    for (int c = 0; c < head.channels; ++c) {
      signs.push_back(static_cast<int8_t>(sign_of(position, c)));
    }
    std::vector<int8_t> &codes = head.weights->codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<int8_t>(codes[i] * signs[i % outs]);
    }
    for (const int reader : readers_[at(position)]) {
      for (int32_t &m : op(reader).multipliers.m) m = std::abs(m);
      const int pool = readers_[at(reader)][0];
      head.pooling = {op(pool).kernel, op(pool).stride, op(pool).padding};
      replace(pool, reader);
      is_moved_[at(pool)] = true;
    }
  }

  // Lets all that reads an operator read another one.
  void replace(int position, int by) {
    for (Op &each : program_.ops) {
      std::replace(each.inputs.begin(), each.inputs.end(), position, by);
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
bool can_follow(const Op &op) {
  return op.kind == Kind::kRequantize || op.kind == Kind::kAdd ||
         op.kind == Kind::kUpsample;
}

// Inputs whose codes are read: of an upsampling the other has a size only.
size_t read_by(const Op &op) {
  return op.kind == Kind::kUpsample ? 1 : op.inputs.size();
}

// Lengths of the longest ways from the image.
std::vector<int> depths_of(const Program &program) {
  std::vector<int> depths;
  for (const Op &op : program.ops) {
    int depth = 0;
    for (const int input : op.inputs) depth = std::max(depth, depths[at(input)]);
    depths.push_back(depth + 1);
  }
  return depths;
}

// When an operator had better run among the inputs of another one: what is a
// requantisation of a convolution's sums runs with it, after all others; those
// of other tensors can then join them.
int turn_of(const Program &program, int position) {
  const Op &op = program.ops[at(position)];
  if (op.kind != Kind::kRequantize) return 0;
  return program.ops[at(op.inputs[0])].kind == Kind::kConvolution ? 1 : 2;
}

// What shall run before an operator, in this order; of one turn the deeper
// comes first.
std::vector<int> wanted(const Program &program, const std::vector<int> &depths,
                        int position) {
  std::vector<int> inputs = program.ops[at(position)].inputs;
  const size_t count = inputs.size();
  for (size_t i = 0; i < count; ++i) {
    if (turn_of(program, inputs[i]) < 2) continue;
    inputs.push_back(program.ops[at(inputs[i])].inputs[0]);
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
  const size_t count = program.ops.size();
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
  std::vector<int> turns(program.ops.size()), last(program.weights.size(), 0);
  const auto index_of = [&](const Op &op) {
    return static_cast<size_t>(op.weights - program.weights.data());
  };
  for (size_t turn = 0; turn < order.size(); ++turn) {
    const Op &op = program.ops[at(order[turn])];
    if (op.weights != nullptr) last[index_of(op)] = static_cast<int>(turn);
  }
  for (size_t turn = 0; turn < order.size(); ++turn) {
    const Op &op = program.ops[at(order[turn])];
    int &mine = turns[at(order[turn])];
    mine = static_cast<int>(turn);
    if (op.weights != nullptr) mine = last[index_of(op)];
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
  std::vector<int> places(program->ops.size());
  std::vector<Op> ops;
  for (const int position : order) {
    places[at(position)] = static_cast<int>(ops.size());
    ops.push_back(std::move(program->ops[at(position)]));
    for (int &input : ops.back().inputs) input = places[at(input)];
  }
  program->ops = std::move(ops);
  for (int &output : program->outputs) output = places[at(output)];
}

// Lets operators run with others before them.
class Joiner {
 public:
  explicit Joiner(Program *program)
      : program_(*program), readers_(readers_of(*program)) {
    for (size_t i = 0; i < program->ops.size(); ++i) {
      program->ops[i].head = static_cast<int>(i);
    }
  }

  void run() {
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      const int head = static_cast<int>(i);
      if (program_.ops[i].head == head && can_lead(program_.ops[i])) grow(head);
    }
    finish();
  }

 private:
  Op &op(int position) { return program_.ops[at(position)]; }

  // Adds all that can follow a head, in their order.
  void grow(int head) {
    std::vector<int> members = {head};
    for (size_t i = 0; i < members.size(); ++i) {
      for (const int reader : readers_[at(members[i])]) {
        if (takes(head, reader)) members.push_back(reader);
      }
    }
    std::sort(op(head).followers.begin(), op(head).followers.end());
  }

  bool is_there(int head, int input) {
    return op(input).head == head || op(input).head < head;
  }

  // Lets an operator run with a head if all that it reads is there then.
  bool takes(int head, int position) {
    Op &each = op(position);
    // Three are those that are added, and their sum.
    const bool is_full = op(head).followers.size() + 3 >= kMaxGroup;
    if (is_full || !can_follow(each) || each.head != position ||
        each.channels != op(head).channels || waits(head, position)) {
      return false;
    }
    if (each.kind == Kind::kUpsample && op(each.inputs[0]).head >= head) {
      return false;
    }
    for (const int input : each.inputs) {
      if (is_there(head, input)) continue;
      if (!is_private(head, input)) return false;
    }
    for (const int input : each.inputs) {
      if (!is_there(head, input)) follow(head, input);
    }
    follow(head, position);
    return true;
  }

  void follow(int head, int position) {
    op(position).head = head;
    op(head).followers.push_back(position);
  }

  // A requantisation for one operator alone, of what is there.
  bool is_private(int head, int position) {
    const Op &each = op(position);
    return each.kind == Kind::kRequantize && each.head == position &&
           readers_[at(position)].size() == 1 &&
           op(each.inputs[0]).kind != Kind::kConvolution &&
           is_there(head, each.inputs[0]);
  }

  // Whether a requantisation had better run with the addition that alone
  // reads it, which is not yet possible.
  bool waits(int head, int position) {
    const Op &each = op(position);
    const std::vector<int> &readers = readers_[at(position)];
    if (each.kind != Kind::kRequantize || readers.size() != 1) return false;
    if (op(each.inputs[0]).kind == Kind::kConvolution) return false;
    const Op &sum = op(readers[0]);
    if (sum.kind != Kind::kAdd) return false;
    for (const int input : sum.inputs) {
      if (input != position && !is_there(head, input)) return true;
    }
    return false;
  }

  // Says which tensors need memory, and until when.
  void finish() {
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      Op &each = program_.ops[i];
      const bool is_single = each.head == static_cast<int>(i) && !can_lead(each);
      each.is_stored = is_single;
      each.last_use = each.head;
    }
    for (const Op &each : program_.ops) {
      for (size_t i = 0; i < read_by(each); ++i) {
        Op &read = op(each.inputs[i]);
        read.last_use = std::max(read.last_use, each.head);
        if (read.head != each.head) read.is_stored = true;
      }
    }
    for (const int output : program_.outputs) {
      op(output).is_stored = true;
      op(output).last_use = static_cast<int>(program_.ops.size());
      op(output).is_placed = op(output).grid.type() != Type::kI32;
    }
  }

  Program &program_;
  const std::vector<std::vector<int>> readers_;
};

}  // namespace

bool can_lead(const Op &op) {
  return op.kind == Kind::kConvolution || op.kind == Kind::kRequantize ||
         op.kind == Kind::kAdd;
}

void schedule(Program *program) {
  reorder(program, PoolMover(program).run());
  Joiner(program).run();
}

}  // namespace aqd
