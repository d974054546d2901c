#include <algorithm>

#include "graph/schedule.h"

namespace aqd {
namespace {

class Fuser {
 public:
  explicit Fuser(Program *program)
      : program_(*program), nodes_(program->nodes),
        readers_(readers_of(*program)) {}

  void run() {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i].root = i;
      nodes_[i].members = {i};
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].root == i && can_be_root(nodes_[i].op)) grow(i);
    }
    finish();
  }

 private:
  const Op &op(size_t position) const { return nodes_[position].op; }

  // Adds all post-ops that a root can have, in their order.
  void grow(size_t root) {
    std::vector<size_t> &members = nodes_[root].members;
    for (size_t i = 0; i < members.size(); ++i) {
      for (const size_t reader : readers_[members[i]]) {
        if (can_take(root, reader)) take(root, reader);
      }
    }
    std::sort(members.begin(), members.end());
  }

  // Whether an input is made by a root or before it.
  bool is_there(size_t root, size_t input) const {
    return nodes_[input].root <= root;
  }

  // Whether an operator can be a post-op of a root: it works code by code, and
  // all its inputs are there then.
  bool can_take(size_t root, size_t position) const {
    const Op &each = op(position);
    // One operator can bring two private requantisations with it.
    const bool is_full = nodes_[root].members.size() + 2 >= kMaxFused;
    // An upsampling reads at other places, of a tensor that was made before.
    const bool is_elementwise = each.is<Upsample>()
                                    ? nodes_[each.inputs[0]].root < root
                                    : each.is<Requantize>() || each.is<Add>();
    const auto can_be_read = [&](size_t input) {
      return is_there(root, input) || is_private(root, input);
    };
    return is_elementwise && !is_full && nodes_[position].root == position &&
           each.channels == op(root).channels && !waits(root, position) &&
           std::all_of(each.inputs.begin(), each.inputs.end(), can_be_read);
  }

  // Makes it a post-op, and private requantisations that it reads before it.
  void take(size_t root, size_t position) {
    for (const size_t input : op(position).inputs) {
      if (!is_there(root, input)) take(root, input);
    }
    nodes_[position].root = root;
    nodes_[position].members.clear();
    nodes_[root].members.push_back(position);
  }

  // Whether an operator is a requantisation of a tensor, for one reader.
  bool has_one_reader(size_t position) const {
    const Op &each = op(position);
    return each.is<Requantize>() && readers_[position].size() == 1 &&
           !op(each.inputs[0]).is<Convolution>();
  }

  // Whether such a requantisation can be made for its reader in a root.
  bool is_private(size_t root, size_t position) const {
    return has_one_reader(position) && nodes_[position].root == position &&
           is_there(root, op(position).inputs[0]);
  }

  // Whether it should wait for the addition that reads it, as another input of
  // that is not there yet.
  bool waits(size_t root, size_t position) const {
    if (!has_one_reader(position)) return false;
    const Op &sum = op(readers_[position][0]);
    const auto is_missing = [&](size_t input) {
      return input != position && !is_there(root, input);
    };
    return sum.is<Add>() &&
           std::any_of(sum.inputs.begin(), sum.inputs.end(), is_missing);
  }

  // Decides which tensors need memory, and until when.
  void finish() {
    for (Node &each : nodes_) {
      each.is_stored = &each == &nodes_[each.root] && !can_be_root(each.op);
      each.last_use = each.root;
    }
    for (const Node &each : nodes_) {
      // The second input of an upsampling only gives a size.
      const size_t count = each.op.is<Upsample>() ? 1 : each.op.inputs.size();
      for (size_t i = 0; i < count; ++i) {
        Node &read = nodes_[each.op.inputs[i]];
        read.last_use = std::max(read.last_use, each.root);
        if (read.root != each.root) read.is_stored = true;
      }
    }
    for (const size_t output : program_.outputs) {
      Node &made = nodes_[output];
      made.is_stored = true;
      made.last_use = nodes_.size();
      made.is_placed = made.op.grid.type() != Type::kI32;
    }
  }

  Program &program_;
  std::vector<Node> &nodes_;
  const std::vector<std::vector<size_t>> readers_;
};

}  // namespace

bool can_be_root(const Op &op) {
  return op.is<Convolution>() || op.is<Requantize>() || op.is<Add>();
}

std::vector<std::vector<size_t>> readers_of(const Program &program) {
  std::vector<std::vector<size_t>> readers(program.nodes.size());
  for (size_t i = 0; i < readers.size(); ++i) {
    for (const size_t input : program.nodes[i].op.inputs) {
      readers[input].push_back(i);
    }
  }
  return readers;
}

void fuse(Program *program) { Fuser(program).run(); }

void schedule(Program *program) {
  reorder(program, hoist_max_pools(program));
  fuse(program);
}

}  // namespace aqd
