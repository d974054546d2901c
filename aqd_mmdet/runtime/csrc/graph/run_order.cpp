#include "graph/run_order.h"

#include <algorithm>

namespace aqd {

RunOrder scheduled_order(const Program &program) {
  RunOrder order;
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    if (program.nodes[i].root == i) order.roots.push_back(i);
  }
  order.choice = order.roots.size();
  return order;
}

RunOrder choice_order(const Program &program, const Choice &choice) {
  RunOrder order = scheduled_order(program);
  std::vector<bool> is_needed(program.nodes.size(), false);  // of roots
  auto output = program.outputs.begin();
  for (size_t kind = 0; kind < choice.kind; ++kind) {
    output += static_cast<ptrdiff_t>(program.levels[kind]);
  }
  for (size_t i = 0; i < program.levels[choice.kind]; ++i, ++output) {
    is_needed[program.nodes[*output].root] = true;
    if (!choice.is_read_later) order.free.push_back(*output);
  }
  // What an operator reads runs before it.
  for (auto root = order.roots.rbegin(); root != order.roots.rend(); ++root) {
    if (!is_needed[*root]) continue;
    for (const size_t member : program.nodes[*root].members) {
      for (const size_t input : program.nodes[member].op.inputs) {
        is_needed[program.nodes[input].root] = true;
      }
    }
  }
  const auto behind = std::stable_partition(
      order.roots.begin(), order.roots.end(),
      [&](size_t root) { return is_needed[root]; });
  order.choice = static_cast<size_t>(behind - order.roots.begin());
  return order;
}

}  // namespace aqd
