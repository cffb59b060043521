// Golden files of tests/quality/oracle: named arrays of int32 or float32.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tessera::test {

struct GoldenArray {
  std::vector<uint32_t> shape;
  std::vector<int32_t> ints;  // one of the two is empty
  std::vector<float> floats;
};

class Golden {
 public:
  // Throws Error not_found, corrupt_file.
  explicit Golden(const std::string& path);

  bool has(const std::string& name) const { return arrays_.contains(name); }
  // Throws Error not_found where there is no such array, or one of the other type.
  const std::vector<int32_t>& ints(const std::string& name) const;
  const std::vector<float>& floats(const std::string& name) const;
  // Whether the model at `path` is the one that the arrays belong to, by size and CRC-32. Throws
  // Error not_found.
  bool is_of(const std::string& path) const;

 private:
  const GoldenArray& array(const std::string& name) const;

  std::string path_;
  std::map<std::string, GoldenArray, std::less<>> arrays_;
};

}  // namespace tessera::test
