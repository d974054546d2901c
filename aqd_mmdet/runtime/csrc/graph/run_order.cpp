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
  std::vector<size_t> choosing;
  std::vector<bool> is_read(program.nodes.size(), false);  // behind the choice
  auto output = program.outputs.begin();
  for (size_t kind = 0; kind < program.levels.size(); ++kind) {
    for (size_t i = 0; i < program.levels[kind]; ++i, ++output) {
      if (kind == choice.kind) {
        is_needed[program.nodes[*output].root] = true;
        choosing.push_back(*output);
      } else {
        is_read[*output] = true;
      }
    }
  }
  // Calls with all that the operators of a root read.
  const auto each_input = [&](size_t root, const auto &take) {
    for (const size_t member : program.nodes[root].members) {
      for (const size_t input : program.nodes[member].op.inputs) take(input);
    }
  };
  // What an operator reads runs before it.
  for (auto root = order.roots.rbegin(); root != order.roots.rend(); ++root) {
    if (!is_needed[*root]) continue;
    each_input(*root, [&](size_t x) {
      is_needed[program.nodes[x].root] = true;
    });
  }
  const auto behind = std::stable_partition(
      order.roots.begin(), order.roots.end(),
      [&](size_t root) { return is_needed[root]; });
  order.choice = static_cast<size_t>(behind - order.roots.begin());
  for (auto root = behind; root != order.roots.end(); ++root) {
    each_input(*root, [&](size_t x) { is_read[x] = true; });
  }
  for (const size_t each : choosing) {
    if (!choice.is_read_later && !is_read[each]) order.free.push_back(each);
  }
  return order;
}

}  // namespace aqd
