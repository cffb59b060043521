// Copies of a tiny model with some keys or tensors changed.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backends/dtype.hpp"
#include "runtime/gguf/value.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {

struct NewTensor {
  std::vector<uint64_t> shape;  // row length first
  std::vector<float> values;    // written as F32
};

struct Edit {
  std::map<std::string, gguf::Value> set = {};
  std::set<std::string> drop_keys = {};
  std::map<std::string, NewTensor> put = {};  // replaces a tensor of that name, or adds one
  std::set<std::string> drop_tensors = {};
};

// Keeps its files in a folder of its own until it goes.
class EditedModel {
 public:
  explicit EditedModel(const TinyModel& model = {});

  // Path of a new copy with the edit applied; the folder's earlier copies stay.
  std::string with(const Edit& edit);
  // Path of the unchanged model.
  std::string path() const { return folder_.file("tiny.gguf"); }

 private:
  TempFolder folder_;
  int copies_ = 0;
};

}  // namespace tessera::test
