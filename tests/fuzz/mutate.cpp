#include "tests/fuzz/mutate.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tessera::test {
namespace {

// A range inside the file; short ones are likelier.
struct Range {
  uint64_t offset;
  uint64_t bytes;
};

Range any_range(const std::string& file, Random& random) {
  const uint64_t offset = random.below(file.size());
  const uint64_t most = random.one_in(4) ? 4096 : 32;
  return {offset, random.below(std::min(most, file.size() - offset)) + 1};
}

// A position, in the header three times out of four: most bytes are data, where nothing can fail.
uint64_t any_position(const std::string& file, const Layout& layout, Random& random) {
  const uint64_t end = random.one_in(4) ? file.size() : layout.header_bytes;
  return random.below(std::min<uint64_t>(end, file.size()));
}

void flip_bits(std::string& file, const Layout& layout, Random& random) {
  if (file.empty()) return;
  for (uint64_t i = random.below(8) + 1; i > 0; --i) {
    char& byte = file[any_position(file, layout, random)];
    byte = static_cast<char>(byte ^ (1 << random.below(8)));
  }
}

// Values at which sizes overflow, signs turn, and limits lie. As bits they include the infinities
// and NaN of f32.
uint64_t extreme(uint64_t old, const std::string& file, const Field& field, Random& random) {
  const uint64_t values[] = {
      0,
      1,
      old + 1,
      old - 1,
      old * 2,
      old * 1000,
      old ^ 1,
      2,
      3,
      31,
      256,
      uint64_t{1} << 15,
      0xffff,
      0x10000,
      0x7fffffff,
      0x80000000,
      0xffffffff,
      uint64_t{1} << 32,
      uint64_t{1} << 58,
      uint64_t{1} << 61,
      uint64_t{1} << 62,
      ~uint64_t{0} >> 1,
      uint64_t{1} << 63,
      ~uint64_t{0} - 31,
      ~uint64_t{0},
      file.size(),
      file.size() - field.offset,
      file.size() - field.offset - field.bytes,
      0x7f800000,  // f32 infinity
      0xff800000,
      0x7fc00000,  // f32 NaN
      0xbf800000,  // f32 -1
      random.next(),
  };
  return values[random.below(std::size(values))];
}

void change_field(std::string& file, const Layout& layout, Random& random) {
  // First the kind, so that the many strings do not crowd out the few counts.
  const auto kind = static_cast<FieldKind>(random.below(kFieldKinds));
  std::vector<Field> fields;
  for (const Field& field : layout.fields) {
    if (field.kind == kind && field.offset + field.bytes <= file.size()) fields.push_back(field);
  }
  if (fields.empty()) return;
  const Field& field = fields[random.below(fields.size())];
  char* at = file.data() + field.offset;
  if (kind == FieldKind::text) {
    at[random.below(field.bytes)] = static_cast<char>(random.next());
    return;
  }
  uint64_t number = 0;
  std::memcpy(&number, at, field.bytes);
  number = kind == FieldKind::type ? random.below(45) : extreme(number, file, field, random);
  std::memcpy(at, &number, field.bytes);
}

void cut(std::string& file, const Layout& layout, Random& random) {
  const bool at_field = random.one_in(2);
  const uint64_t end = at_field ? layout.fields[random.below(layout.fields.size())].offset
                                : any_position(file, layout, random);
  file.resize(std::min<uint64_t>(end, file.size()));
}

void copy_over(std::string& file, const Layout& layout, Random& random) {
  if (file.empty()) return;
  const Range from = any_range(file, random);
  const std::string piece = file.substr(from.offset, from.bytes);
  const uint64_t to = any_position(file, layout, random);
  file.replace(to, std::min<uint64_t>(piece.size(), file.size() - to), piece, 0,
               std::min<uint64_t>(piece.size(), file.size() - to));
}

void insert(std::string& file, const Layout& layout, Random& random) {
  if (file.empty()) return;
  const Range from = any_range(file, random);
  const std::string piece = file.substr(from.offset, from.bytes);
  file.insert(any_position(file, layout, random), piece);
}

void remove(std::string& file, const Layout& layout, Random& random) {
  if (file.empty()) return;
  const uint64_t bytes = any_range(file, random).bytes;
  file.erase(any_position(file, layout, random), bytes);
}

// Runs of ones make NaN scales, runs of zeros empty blocks.
void overwrite_data(std::string& file, const Layout& layout, Random& random) {
  if (file.size() <= layout.header_bytes) return;
  const uint64_t offset = layout.header_bytes + random.below(file.size() - layout.header_bytes);
  const uint64_t bytes = std::min<uint64_t>(random.below(2048) + 1, file.size() - offset);
  constexpr unsigned char kFills[] = {0x00, 0xff, 0x7f, 0x80, 0x7c};
  std::memset(file.data() + offset, kFills[random.below(std::size(kFills))], bytes);
}

}  // namespace

std::string mutate(std::string file, const Layout& layout, Random& random) {
  using Mutation = void (*)(std::string&, const Layout&, Random&);
  // Fields twice: they reach deepest.
  constexpr Mutation kMutations[] = {flip_bits, change_field, change_field, cut,
                                     copy_over, insert,       remove,       overwrite_data};
  // Mostly one change: the second often hides behind the first error.
  const uint64_t changes = random.one_in(3) ? random.below(2) + 2 : 1;
  for (uint64_t i = 0; i < changes; ++i) {
    kMutations[random.below(std::size(kMutations))](file, layout, random);
  }
  return file;
}

}  // namespace tessera::test
