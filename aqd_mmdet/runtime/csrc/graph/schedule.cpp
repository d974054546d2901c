// In which order operators run, and which of them run together.

#include <algorithm>
#include <cstdlib>
#include <map>

#include "graph/program.h"

namespace aqd {
namespace {

bool works_code_by_code(const Op &op) {
  return op.is<Requantize>() || op.is<Add>() || op.is<Lookup>();
}

// Positions of what reads each operator.
std::vector<std::vector<size_t>> readers_of(const Program &program) {
  std::vector<std::vector<size_t>> readers(program.nodes.size());
  for (size_t i = 0; i < readers.size(); ++i) {
    for (const size_t input : program.nodes[i].op.inputs) {
      readers[input].push_back(i);
    }
  }
  return readers;
}

// Moves max-pools of an image's convolution in front of the requantisations of
// its accumulators, which keep the order of numbers. (A negative multiplier
// reverses it; the weights of that channel then change their signs.) The
// largest tensors of many networks are then never made.
class MaxPoolHoister {
 public:
  explicit MaxPoolHoister(Program *program)
      : program_(*program), readers_(readers_of(*program)) {}

  void run() {
    if (!op(0).is<ImageOp>()) return;
    for (const size_t conv : readers_[0]) {
      if (!can_hoist(conv)) continue;
      const std::vector<int8_t> signs = signs_of(conv);
      if (!signs.empty()) hoist(conv, signs);
    }
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
           program_.are_private(*each.as<Convolution>().weights);
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
    // Signs can change, as codes are at least -127.
    std::vector<int8_t> &codes = op(conv).as<Convolution>().weights->codes;
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<int8_t>(codes[i] * signs[i % signs.size()]);
    }
    for (const size_t reader : readers_[conv]) {
      for (int32_t &m : multipliers(reader)) m = std::abs(m);
      const size_t pool = readers_[reader][0];
      program_.nodes[conv].pooling = op(pool).as<MaxPool>().window;
      op(pool).info = nullptr;
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
};

// Which inputs of an operator run first, by rising number. A requantisation of
// a convolution is fused with it, so the other inputs run before that. A
// requantisation of another tensor comes last, as it can be fused with them.
int rank_of(const Program &program, size_t position) {
  const Op &op = program.nodes[position].op;
  if (!op.is<Requantize>()) return 0;
  return program.nodes[op.inputs[0]].op.is<Convolution>() ? 1 : 2;
}

// What runs before each operator, in this order. Of one rank the deeper input
// comes first.
std::vector<std::vector<size_t>> ranked_inputs(const Program &program) {
  std::vector<int> depths;  // lengths of the longest paths from the image
  const auto is_before = [&](size_t x, size_t y) {
    const int rank = rank_of(program, x), other = rank_of(program, y);
    return rank != other ? rank < other : depths[x] > depths[y];
  };
  std::vector<std::vector<size_t>> ranked;
  for (const Node &node : program.nodes) {
    std::vector<size_t> inputs = node.op.inputs;
    int depth = 0;
    for (const size_t input : node.op.inputs) {
      depth = std::max(depth, depths[input] + 1);
      if (rank_of(program, input) < 2) continue;
      inputs.push_back(program.nodes[input].op.inputs[0]);
    }
    std::stable_sort(inputs.begin(), inputs.end(), is_before);
    ranked.push_back(std::move(inputs));
    depths.push_back(depth);
  }
  return ranked;
}

// The positions of operators in the order in which they run: each behind what
// it reads, and shortly before it is read (depth first).
std::vector<size_t> order_of(const Program &program) {
  const std::vector<std::vector<size_t>> inputs = ranked_inputs(program);
  // Outputs of the first kind are most often the largest. They come last, so
  // that their memory serves other tensors for longest (memory_plan.h).
  std::vector<size_t> roots, order, path;
  auto end = program.outputs.end();
  for (size_t kind = program.levels.size(); kind-- > 0;) {
    const auto start = end - static_cast<ptrdiff_t>(program.levels[kind]);
    roots.insert(roots.end(), start, end);
    end = start;
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (program.nodes[i].op.info != nullptr) roots.push_back(i);
  }
  std::vector<bool> is_done(inputs.size(), false);
  std::vector<size_t> visited(inputs.size(), 0);  // how many inputs of each
  for (const size_t root : roots) {
    path.push_back(root);
    while (!path.empty()) {
      const size_t last = path.back();
      if (!is_done[last] && visited[last] < inputs[last].size()) {
        path.push_back(inputs[last][visited[last]++]);
        continue;
      }
      if (!is_done[last]) order.push_back(last);
      is_done[last] = true;
      path.pop_back();
    }
  }
  return order;
}

// Delays convolutions that share weights until the last of them can run, as in
// a head for all pyramid levels: the weights are then still in the cache. What
// reads them is delayed as well.
std::vector<size_t> group_by_weights(const Program &program,
                                     std::vector<size_t> order) {
  std::vector<size_t> times(program.nodes.size());
  std::map<const Weights *, size_t> last;
  for (size_t time = 0; time < order.size(); ++time) {
    const Node &node = program.nodes[order[time]];
    if (node.op.is<Convolution>()) last[node.conv().weights] = time;
  }
  for (size_t time = 0; time < order.size(); ++time) {
    const Node &node = program.nodes[order[time]];
    size_t &own = times[order[time]];
    own = node.op.is<Convolution>() ? last[node.conv().weights] : time;
    for (const size_t input : node.op.inputs) own = std::max(own, times[input]);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) {
    return times[x] < times[y];
  });
  return order;
}

// Brings operators into an order in which what is added to the accumulators of
// a convolution is there before it runs.
void reorder(Program *program) {
  const std::vector<size_t> order =
      group_by_weights(*program, order_of(*program));
  std::vector<size_t> places(program->nodes.size());
  std::vector<Node> nodes;
  for (const size_t position : order) {
    places[position] = nodes.size();
    nodes.push_back(std::move(program->nodes[position]));
    for (size_t &input : nodes.back().op.inputs) input = places[input];
  }
  program->nodes = std::move(nodes);
  for (size_t &output : program->outputs) output = places[output];
}

// Lets convolutions and elementwise operators take along the elementwise ones
// that follow them, so that accumulators need no memory.
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
                                    : works_code_by_code(each);
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

  // Decides which tensors need memory.
  void finish() {
    for (Node &each : nodes_) {
      each.is_stored = &each == &nodes_[each.root] && !can_be_root(each.op);
    }
    for (const Node &each : nodes_) {
      // The second input of an upsampling only gives a size.
      const size_t count = each.op.is<Upsample>() ? 1 : each.op.inputs.size();
      for (size_t i = 0; i < count; ++i) {
        Node &read = nodes_[each.op.inputs[i]];
        if (read.root != each.root) read.is_stored = true;
      }
    }
    for (const size_t output : program_.outputs) {
      Node &made = nodes_[output];
      made.is_stored = true;
      made.is_placed = made.op.grid.type() != Type::kI32;
    }
  }

  Program &program_;
  std::vector<Node> &nodes_;
  const std::vector<std::vector<size_t>> readers_;
};

}  // namespace

bool can_be_root(const Op &op) {
  return op.is<Convolution>() || works_code_by_code(op);
}

bool Program::are_private(const Weights &shared) const {
  const auto reads = [&](const Node &each) {
    return each.op.is<Convolution>() && each.conv().weights == &shared;
  };
  return std::count_if(nodes.begin(), nodes.end(), reads) == 1;
}

void schedule(Program *program) {
  fold_space_to_depth(program);
  MaxPoolHoister(program).run();
  reorder(program);
  Fuser(program).run();
}

}  // namespace aqd
