#include <algorithm>
#include <map>

#include "graph/schedule.h"

namespace aqd {
namespace {

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
std::vector<size_t> order_of(const Program &program,
                             const std::vector<bool> &is_dropped) {
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
    if (!is_dropped[i]) roots.push_back(i);
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

}  // namespace

void reorder(Program *program, const std::vector<bool> &is_dropped) {
  const std::vector<size_t> order =
      group_by_weights(*program, order_of(*program, is_dropped));
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

}  // namespace aqd
