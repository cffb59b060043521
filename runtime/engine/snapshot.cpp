#include "runtime/engine/snapshot.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "backends/error.hpp"

namespace tessera::engine {
namespace {

// Header: magic, version u32, 0 u32, size of all u64, checksum u64.
constexpr char kMagic[8] = {'T', 'S', 'R', 'S', 'E', 'S', 'S', '\n'};
constexpr uint32_t kVersion = 1;
constexpr size_t kSizeAt = 16, kChecksumAt = 24, kHeaderBytes = 32;

enum SegmentFlag : uint32_t { kExact = 1, kRepairs = 2, kReopened = 4, kSelectedFrom = 8 };
constexpr uint32_t kSegmentFlags = 15;

[[noreturn]] void corrupt(const std::string& what) {
  fail(Status::corrupt_file, "the bytes of the saved session are damaged: " + what);
}

// Of everything but itself.
uint64_t checksum(std::span<const uint8_t> bytes) {
  const std::span body = bytes.subspan(kHeaderBytes);
  return XXH3_64bits_withSeed(body.data(), body.size(), XXH3_64bits(bytes.data(), kChecksumAt));
}

class Writer {
 public:
  template <typename T>
  void number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  void real(float value) { number(std::bit_cast<uint32_t>(value)); }
  void identity(const kv::Identity& id) {
    number(id.low);
    number(id.high);
  }
  template <typename T>
  void list(const std::vector<T>& values) {
    number(static_cast<uint32_t>(values.size()));
    for (const T value : values) number(static_cast<std::make_unsigned_t<T>>(value));
  }
  void text(const std::string& text) {
    number(static_cast<uint32_t>(text.size()));
    bytes.insert(bytes.end(), text.begin(), text.end());
  }

  std::vector<uint8_t> bytes;
};

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : left_(bytes) {}

  std::span<const uint8_t> take(uint64_t count) {
    if (count > left_.size()) corrupt("they end too early");
    const std::span taken = left_.first(count);
    left_ = left_.subspan(count);
    return taken;
  }
  template <typename T>
  T number() {
    T value = 0;
    int shift = 0;
    for (const uint8_t byte : take(sizeof(T))) {
      value |= static_cast<T>(static_cast<T>(byte) << shift);
      shift += 8;
    }
    return value;
  }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  float real() { return std::bit_cast<float>(u32()); }
  kv::Identity identity() {
    kv::Identity id;
    id.low = u64();
    id.high = u64();
    return id;
  }
  // Things of at least `bytes` bytes each, so that no count asks for more memory than was given.
  uint32_t count(uint64_t bytes) {
    const uint32_t count = u32();
    if (count * bytes > left_.size()) corrupt("a list is longer than they are");
    return count;
  }
  template <typename T>
  std::vector<T> list() {
    std::vector<T> values(count(sizeof(T)));
    for (T& value : values) value = static_cast<T>(number<std::make_unsigned_t<T>>());
    return values;
  }
  std::string text() {
    const std::span bytes = take(count(1));
    return {bytes.begin(), bytes.end()};
  }
  std::span<const uint8_t> left() const { return left_; }

 private:
  std::span<const uint8_t> left_;
};

void write_base(Writer& writer, const SavedBase& base) {
  for (const uint64_t half : base.model) writer.number(half);
  writer.number(base.math);
  writer.number(base.kv_type);
  writer.number(base.page_slots);
  writer.text(base.layout);
  writer.list(base.page_bytes);
  writer.identity(base.anchor);
  writer.identity(base.chunks);
}

SavedBase read_base(Reader& reader) {
  SavedBase base;
  for (uint64_t& half : base.model) half = reader.u64();
  base.math = reader.u32();
  base.kv_type = reader.u32();
  base.page_slots = reader.u32();
  base.layout = reader.text();
  base.page_bytes = reader.list<uint64_t>();
  base.anchor = reader.identity();
  base.chunks = reader.identity();
  return base;
}

void write_options(Writer& writer, const SessionOptions& options) {
  writer.number(static_cast<uint32_t>(options.repair));
  writer.number(options.head_tokens);
  writer.real(options.select_share);
  writer.real(options.select_layers);
  writer.number(uint32_t{options.reselect});
  writer.number(options.event_capacity);
  writer.list(options.chosen);
}

SessionOptions read_options(Reader& reader) {
  SessionOptions options;
  const uint32_t repair = reader.u32();
  if (repair > static_cast<uint32_t>(Repair::full)) corrupt("no repair has this number");
  options.repair = static_cast<Repair>(repair);
  options.head_tokens = reader.u32();
  options.select_share = reader.real();
  options.select_layers = reader.real();
  options.reselect = reader.u32() != 0;
  options.event_capacity = reader.u32();
  options.chosen = reader.list<uint32_t>();
  return options;
}

void write_segment(Writer& writer, const SavedSegment& s) {
  writer.number(static_cast<uint32_t>(s.kind));
  writer.number((s.exact ? kExact : 0u) | (s.repairs ? kRepairs : 0u) |
                (s.reopened ? kReopened : 0u) | (s.selected_from ? kSelectedFrom : 0u));
  for (const uint32_t value : {s.text, s.skip, s.length, s.slots, s.selected_at}) {
    writer.number(value);
  }
  writer.list(s.values);
}

constexpr uint64_t kSegmentBytes = 8 * sizeof(uint32_t);  // without values

SavedSegment read_segment(Reader& reader) {
  SavedSegment s;
  const uint32_t kind = reader.u32();
  if (kind > static_cast<uint32_t>(SegmentKind::selected)) corrupt("no segment is of this kind");
  s.kind = static_cast<SegmentKind>(kind);
  const uint32_t flags = reader.u32();
  if (flags > kSegmentFlags) corrupt("a segment has an unknown flag");
  s.exact = flags & kExact;
  s.repairs = flags & kRepairs;
  s.reopened = flags & kReopened;
  s.selected_from = flags & kSelectedFrom;
  for (uint32_t* value : {&s.text, &s.skip, &s.length, &s.slots, &s.selected_at}) {
    *value = reader.u32();
  }
  s.values = reader.list<int32_t>();
  return s;
}

}  // namespace

std::vector<uint8_t> encode(const SavedSession& session, uint64_t page_bytes) {
  Writer writer;
  writer.bytes.assign(std::begin(kMagic), std::end(kMagic));
  writer.number(kVersion);
  writer.number(uint32_t{0});
  writer.number(uint64_t{0});  // size and checksum, below
  writer.number(uint64_t{0});
  write_base(writer, session.base);
  write_options(writer, session.options);
  writer.number(session.settled);
  writer.number(session.private_from);
  writer.number(uint32_t{session.asks});
  writer.number(static_cast<uint32_t>(session.chunks.size()));
  for (const std::vector<int32_t>& tokens : session.chunks) writer.list(tokens);
  writer.number(static_cast<uint32_t>(session.segments.size()));
  for (const SavedSegment& segment : session.segments) write_segment(writer, segment);
  Writer size;
  size.number(uint64_t{writer.bytes.size() + page_bytes});
  std::ranges::copy(size.bytes, writer.bytes.begin() + kSizeAt);
  return std::move(writer.bytes);
}

void seal(std::span<uint8_t> bytes) {
  Writer sum;
  sum.number(checksum(bytes));
  std::ranges::copy(sum.bytes, bytes.begin() + kChecksumAt);
}

SavedSession decode(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  if (std::memcmp(reader.take(sizeof kMagic).data(), kMagic, sizeof kMagic) != 0) {
    corrupt("they do not begin as a saved session does");
  }
  const uint32_t version = reader.u32();
  if (version != kVersion) {
    fail(Status::version_mismatch, "the session was saved in version " + std::to_string(version) +
                                       " of the format; this release reads version " +
                                       std::to_string(kVersion));
  }
  reader.u32();
  const uint64_t size = reader.u64();
  if (size != bytes.size()) {
    corrupt("there are " + std::to_string(bytes.size()) + ", and there should be " +
            std::to_string(size));
  }
  if (const uint64_t sum = reader.u64(); sum != checksum(bytes)) corrupt("the checksum is wrong");

  SavedSession session;
  session.base = read_base(reader);
  session.options = read_options(reader);
  session.settled = reader.u64();
  session.private_from = reader.u64();
  const uint32_t asks = reader.u32();
  if (asks > 1) corrupt("a field is neither 0 nor 1");
  session.asks = asks == 1;
  session.chunks.resize(reader.count(sizeof(uint32_t)));
  for (std::vector<int32_t>& tokens : session.chunks) tokens = reader.list<int32_t>();
  session.segments.resize(reader.count(kSegmentBytes));
  for (SavedSegment& segment : session.segments) segment = read_segment(reader);
  session.pages = reader.left();
  return session;
}

}  // namespace tessera::engine
