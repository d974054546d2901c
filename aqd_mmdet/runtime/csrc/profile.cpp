#include "profile.h"

#include <set>

#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#define AQD_HAS_CLOCK
#include <time.h>
#endif

#include "graph/memory_plan.h"

namespace aqd {
namespace {

template <typename T>
int64_t bytes_of(const std::vector<T> &numbers) {
  return static_cast<int64_t>(numbers.size() * sizeof(T));
}

int64_t bytes_of(const Tensor &x) {
  return static_cast<int64_t>(x.count() * bytes_of(x.type));
}

// The size of a convolution's accumulators, before a max-pool of these.
int64_t pixels_of(const FusedOp &fused) {
  const Size size = windowed(fused.conv().window, fused.x->size);
  return int64_t{size.height} * size.width;
}

// What is told of a convolution, by how its weights are packed.
class ConvProfiler {
 public:
  ConvProfiler(const FusedOp &fused, OpProfile *made)
      : fused_(fused), made_(*made) {
    const std::vector<int64_t> &shape = fused.conv().weights->shape;
    made_.macs = pixels_of(fused) * shape[0] * shape[1] * shape[2] * shape[3];
    made_.products = made_.macs;
  }

  void operator()(const PackedDirect &packed) const {
    tell("direct", packed.input, bytes_of(packed.weights));
    made_.bytes += bytes_of(packed.acc_init);
  }
  void operator()(const PackedAmx &packed) const {
    (*this)(static_cast<const PackedDirect &>(packed));
    made_.kind = "amx";
  }
  void operator()(const PackedDepthwise &packed) const {
    tell("depthwise", packed.input, fused_.conv().weights->count());
    made_.bytes += bytes_of(packed.acc_init);
  }
  void operator()(const PackedWinograd &packed) const {
    const WinogradTile &tile = packed.tile;
    const auto tiles = [](int64_t side, int length) {
      return (side + length - 1) / length;
    };
    const std::vector<int64_t> &shape = fused_.conv().weights->shape;
    made_.kind = "winograd";
    made_.operand_bits = tile.is_bytes ? 8 : 16;
    made_.products = tiles(fused_.size.height, tile.rows) *
                     tiles(fused_.size.width, kTileColumns) * tile.points() *
                     shape[0] * shape[1];
    made_.bytes += bytes_of(packed.weights);
  }
  void operator()(const PackedLut &packed) const {
    made_.kind = "lut";
    made_.operand_bits = 8;  // a lookup is one product of bytes
    made_.products = made_.macs / packed.scheme->per_index;
    made_.bytes += bytes_of(packed.offsets) + bytes_of(packed.runs) +
                   bytes_of(packed.acc_init) +
                   int64_t{kLutTables} * kLutEntries;
  }
  // By the portable kernel.
  void operator()() const {
    InputFormat format;
    format.widen = bytes_of(fused_.x->type) > 1;
    tell("portable", format, fused_.conv().weights->count());
  }

 private:
  void tell(const char *kind, const InputFormat &format, int64_t bytes) const {
    made_.kind = kind;
    made_.operand_bits = 8 * format.code_bytes();
    made_.bytes += bytes;
  }

  const FusedOp &fused_;
  OpProfile &made_;
};

// The numbers of a requantisation or a lookup, as its kernel reads them. (Values
// that are looked up one by one are shared by all lookups, and not counted.)
int64_t table_bytes(const Node &node) {
  if (node.op.is<Lookup>()) {
    return bytes_of(node.packed.lookup.rows) +
           bytes_of(node.op.as<Lookup>().starts);
  }
  const PackedRequantize &packed = node.packed.requantize;
  // Of thresholds and multiply-adds a kernel reads one, about as many bytes.
  if (!packed.thresholds.empty()) return bytes_of(packed.thresholds);
  const int64_t bytes =
      bytes_of(packed.multipliers) + bytes_of(packed.multiply_adds);
  if (bytes > 0) return bytes;
  const Multipliers &table = node.op.as<Requantize>().multipliers;
  return bytes_of(table.m) + bytes_of(table.b) + bytes_of(table.s);
}

void profile_fused(const FusedOp &fused, OpProfile *made) {
  std::set<const Tensor *> read;
  made->kind = "elementwise";
  if (fused.root().op.is<Convolution>()) {
    const ConvProfiler profiler(fused, made);
    const PackedConv *packed = fused.root().packed.conv;
    if (packed != nullptr) {
      std::visit(profiler, packed->weights);
    } else {
      profiler();
    }
    read.insert(fused.x);
  }
  for (const PostOp &each : fused.ops) {
    for (int i = 0; i < each.arity(); ++i) read.insert(each.inputs[i].tensor);
    if (each.op().is<Requantize>() || each.op().is<Lookup>()) {
      made->bytes += table_bytes(*each.node);
    }
    if (each.out != nullptr) made->bytes += bytes_of(*each.out);
  }
  read.erase(nullptr);  // codes of the fused operator itself
  for (const Tensor *each : read) made->bytes += bytes_of(*each);
}

void profile_alone(const Step &step, OpProfile *made) {
  const Op &op = step.node->op;
  made->kind = op.info->kind;
  made->bytes = bytes_of(*step.output);
  // A slice reads what it copies, and the second input of an upsampling only
  // gives a size.
  if (op.is<Slice>()) {
    made->bytes += static_cast<int64_t>(step.output->count() *
                                        bytes_of(step.inputs[0]->type));
    return;
  }
  const size_t count = op.is<Upsample>() ? 1 : step.inputs.size();
  for (size_t i = 0; i < count; ++i) made->bytes += bytes_of(*step.inputs[i]);
}

}  // namespace

OpProfile profile_of(const Step &step) {
  OpProfile made;
  made.step = &step;
  if (step.fused.ops.empty()) {
    profile_alone(step, &made);
  } else {
    profile_fused(step.fused, &made);
  }
  return made;
}

int64_t now() {
#ifdef AQD_HAS_CLOCK
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
#else
  return 0;
#endif
}

}  // namespace aqd
