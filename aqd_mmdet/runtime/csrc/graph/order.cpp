#include <algorithm>

#include "graph/schedule.h"

namespace aqd {
namespace {

size_t at(int position) { return static_cast<size_t>(position); }

// Length of the longest path from the image to each operator.
std::vector<int> depths_of(const Program &program) {
  std::vector<int> depths;
  for (const Node &node : program.nodes) {
    int depth = 0;
    for (const int input : node.op.inputs) {
      depth = std::max(depth, depths[at(input)]);
    }
    depths.push_back(depth + 1);
  }
  return depths;
}

// Which inputs of an operator run first, by rising number. A requantisation of
// a convolution is fused with it, so the other inputs run before that. A
// requantisation of another tensor comes last, as it can be fused with them.
int rank_of(const Program &program, int position) {
  const Op &op = program.nodes[at(position)].op;
  if (!op.is<Requantize>()) return 0;
  return program.nodes[at(op.inputs[0])].op.is<Convolution>() ? 1 : 2;
}

// What runs before an operator, in this order. Of one rank the deeper input
// comes first.
std::vector<int> ranked_inputs(const Program &program,
                               const std::vector<int> &depths, int position) {
  std::vector<int> inputs = program.nodes[at(position)].op.inputs;
  const size_t count = inputs.size();
  for (size_t i = 0; i < count; ++i) {
    if (rank_of(program, inputs[i]) < 2) continue;
    inputs.push_back(program.nodes[at(inputs[i])].op.inputs[0]);
  }
  std::stable_sort(inputs.begin(), inputs.end(), [&](int x, int y) {
    const int rank = rank_of(program, x), other = rank_of(program, y);
    return rank != other ? rank < other : depths[at(x)] > depths[at(y)];
  });
  return inputs;
}

// The positions of operators in the order in which they run: each behind what
// it reads, and shortly before it is read (depth first).
std::vector<int> order_of(const Program &program,
                          const std::vector<bool> &is_dropped) {
  struct Visit {
    int position;
    std::vector<int> inputs;
    size_t next;
  };
  const std::vector<int> depths = depths_of(program);
  // Outputs of the first kind are most often the largest. They come last, so
  // that their memory serves other tensors for longest (memory_plan.h).
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
    if (!is_dropped[i]) roots.push_back(static_cast<int>(i));
  }
  std::vector<Visit> path;
  const auto enter = [&](int position) {
    if (is_done[at(position)]) return;
    path.push_back({position, ranked_inputs(program, depths, position), 0});
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

// Delays convolutions that share weights until the last of them can run, as in
// a head for all pyramid levels: the weights are then still in the cache. What
// reads them is delayed as well.
std::vector<int> group_by_weights(const Program &program,
                                  std::vector<int> order) {
  std::vector<int> times(program.nodes.size()), last(program.weights.size(), 0);
  const auto index_of = [&](const Op &op) {
    const Weights *weights = op.as<Convolution>().weights;
    return static_cast<size_t>(weights - program.weights.data());
  };
  for (size_t time = 0; time < order.size(); ++time) {
    const Op &op = program.nodes[at(order[time])].op;
    if (op.is<Convolution>()) last[index_of(op)] = static_cast<int>(time);
  }
  for (size_t time = 0; time < order.size(); ++time) {
    const Op &op = program.nodes[at(order[time])].op;
    int &own = times[at(order[time])];
    own = static_cast<int>(time);
    if (op.is<Convolution>()) own = last[index_of(op)];
    for (const int input : op.inputs) own = std::max(own, times[at(input)]);
  }
  std::stable_sort(order.begin(), order.end(), [&](int x, int y) {
    return times[at(x)] < times[at(y)];
  });
  return order;
}

}  // namespace

void reorder(Program *program, const std::vector<bool> &is_dropped) {
  const std::vector<int> order =
      group_by_weights(*program, order_of(*program, is_dropped));
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

}  // namespace aqd
