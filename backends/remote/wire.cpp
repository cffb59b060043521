#include "backends/remote/wire.hpp"

#include "backends/error.hpp"

namespace tessera::remote {

void Encoder::append(const void* data, size_t size) {
  const auto* begin = static_cast<const uint8_t*>(data);
  bytes_.insert(bytes_.end(), begin, begin + size);
}

void Encoder::put_enum(uint32_t value, uint32_t count) {
  if (value >= count) {
    fail(Status::invalid_argument, "remote: enum value " + std::to_string(value) +
                                       " is unknown; it is below " + std::to_string(count));
  }
  put(value);
}

void Encoder::put(bool value) {
  put(static_cast<uint8_t>(value ? 1 : 0));
}

void Encoder::put(const std::string& text) {
  put(static_cast<uint64_t>(text.size()));
  append(text.data(), text.size());
}

void Encoder::put(const Weight* weight) {
  if (!weights_) fail(Status::internal, "remote: this message carries no weights");
  put(weights_(weight));
}

void Decoder::finish() const {
  if (offset_ != bytes_.size()) {
    refuse("ends here, but " + std::to_string(bytes_.size() - offset_) + " bytes follow");
  }
}

void Decoder::refuse(const std::string& why) const {
  fail(Status::internal,
       std::string("remote: ") + name_ + " message, byte " + std::to_string(offset_) + ": " + why);
}

const uint8_t* Decoder::next(uint64_t size) {
  if (size > bytes_.size() - offset_) {
    refuse(std::to_string(size) + " bytes are needed, " + std::to_string(bytes_.size() - offset_) +
           " are left");
  }
  const uint8_t* at = bytes_.data() + offset_;
  offset_ += size;
  return at;
}

// `least_bytes` is what one element takes at the least.
uint64_t Decoder::next_count(uint64_t least_bytes) {
  uint64_t count = 0;
  get(count);
  const uint64_t left = bytes_.size() - offset_;
  if (count > left / least_bytes) {
    refuse(std::to_string(count) + " elements do not fit in the " + std::to_string(left) +
           " bytes that are left");
  }
  return count;
}

uint32_t Decoder::next_enum(uint32_t count) {
  uint32_t value = 0;
  get(value);
  if (value >= count) {
    refuse("enum value " + std::to_string(value) + " is unknown; it is below " +
           std::to_string(count));
  }
  return value;
}

void Decoder::get(bool& value) {
  const uint8_t byte = *next(1);
  if (byte > 1) refuse("a bool is 0 or 1, not " + std::to_string(byte));
  value = byte == 1;
}

void Decoder::get(std::string& text) {
  const uint64_t count = next_count(1);
  text.assign(reinterpret_cast<const char*>(next(count)), count);
}

void Decoder::get(const Weight*& weight) {
  if (!weights_) refuse("this message carries no weights");
  uint64_t id = 0;
  get(id);
  weight = weights_(id);
}

}  // namespace tessera::remote
