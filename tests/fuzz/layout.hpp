// Where the fields of a valid GGUF file lie, so that mutations can aim at them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::test {

enum class FieldKind {
  version,
  length,     // counts and string lengths
  type,       // value, element and tensor types
  value,      // numbers and bools, the first elements of arrays
  text,       // the bytes of a name or string
  dimension,  // rank and lengths of a tensor
  offset,     // of a tensor
};
inline constexpr size_t kFieldKinds = 7;

struct Field {
  FieldKind kind;
  uint64_t offset;  // in the file
  uint64_t bytes;   // 1, 2, 4 or 8; any for text
};

struct Layout {
  std::vector<Field> fields;
  uint64_t header_bytes = 0;  // up to the end of the tensor table
};

// `file` is a whole valid file; of arrays and string arrays only the first elements are listed.
Layout find_fields(const std::string& file);

}  // namespace tessera::test
