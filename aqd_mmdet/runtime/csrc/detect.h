// From bytes to boxes: what the C API does for an image.

#pragma once

#include <memory>

#include "aqd.h"
#include "model.h"
#include "pool.h"

namespace aqd {

// Memory that is used again for the next image.
template <typename T>
class Buffer {
 public:
  // Returns null if there is no memory.
  T *get(size_t count) {
    if (count > count_) {
      data_.reset();
      data_.reset(new (std::nothrow) T[count]);
      count_ = data_ == nullptr ? 0 : count;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<T[]> data_;
  size_t count_ = 0;
};

struct Workspace {
  Buffer<uint8_t> image;
  Buffer<int32_t> maps;
};

// What detection uses of a model.
struct Parts {
  const Model &model;
  Pool &pool;
  Workspace &workspace;
};

Parts parts_of(aqd_model *model);
const Model &content_of(const aqd_model *model);

}  // namespace aqd
