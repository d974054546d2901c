#include <algorithm>

#include "graph/schedule.h"

namespace aqd {
namespace {

size_t at(int position) { return static_cast<size_t>(position); }

// Whether an operator works code by code. An upsampling reads at other places,
// but its input is a tensor that was made before.
bool can_be_post_op(const Op &op) {
  return op.is<Requantize>() || op.is<Add>() || op.is<Upsample>();
}

// How many inputs are read. The second one of an upsampling only gives a size.
size_t read_count(const Op &op) {
  return op.is<Upsample>() ? 1 : op.inputs.size();
}

class Fuser {
 public:
  explicit Fuser(Program *program)
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

  // Adds all post-ops that a root can have, in their order.
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

  // Whether an input is made by a root or before it.
  bool is_there(int root, int input) { return node(input).root <= root; }

  // Makes an operator a post-op of a root if all its inputs are there then.
  bool takes(int root, int position) {
    const Op &each = op(position);
    // One operator can bring two private requantisations with it.
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

  // Whether an input is a requantisation of what is there, for one reader.
  bool is_private(int root, int position) {
    const Op &each = op(position);
    return each.is<Requantize>() && node(position).root == position &&
           readers_[at(position)].size() == 1 &&
           !op(each.inputs[0]).is<Convolution>() &&
           is_there(root, each.inputs[0]);
  }

  // Whether a requantisation should wait for the addition that alone reads it,
  // as another input of that is not there yet.
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

  // Decides which tensors need memory, and until when.
  void finish() {
    for (size_t i = 0; i < program_.nodes.size(); ++i) {
      Node &each = program_.nodes[i];
      each.is_stored =
          each.root == static_cast<int>(i) && !can_be_root(each.op);
      each.last_use = each.root;
    }
    for (const Node &each : program_.nodes) {
      for (size_t i = 0; i < read_count(each.op); ++i) {
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

std::vector<std::vector<int>> readers_of(const Program &program) {
  std::vector<std::vector<int>> readers(program.nodes.size());
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    for (const int input : program.nodes[i].op.inputs) {
      readers[at(input)].push_back(static_cast<int>(i));
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
