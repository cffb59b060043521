// tokenizer_cli MODEL [--pre NAME] [--complete-bytes] [--special | --split]
// Encodes and decodes texts for tests/quality/tokenizer_parity.py.
//
// stdin: frames of uint32 length, bytes. stdout, for each frame: uint32 count, that many int32
// ids, uint32 length, the ids decoded with special tokens. All little endian. On stderr at the
// end: bytes and seconds of encoding. --complete-bytes appends a token for every byte that has
// none, in the order of the bytes. --split gives the lengths of the pre-tokenizer's words, in
// bytes, in place of ids, and the text itself in place of the decoded one.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "runtime/gguf/reader.hpp"
#include "runtime/text/byte_alphabet.hpp"
#include "runtime/text/from_gguf.hpp"
#include "runtime/text/tokenizer.hpp"

namespace {

using tessera::text::Pretokenizer;
using tessera::text::Tokenizer;
using tessera::text::TokenKind;
using tessera::text::VocabularyData;

constexpr uint32_t kMaxFrame = 1u << 30;

void complete_bytes(VocabularyData* data) {
  const Tokenizer tokenizer(*data);
  for (int byte = 0; byte < 256; ++byte) {
    if (tokenizer.encodes_byte(static_cast<uint8_t>(byte))) continue;
    data->tokens.push_back(tessera::text::spell_byte(static_cast<uint8_t>(byte)));
    if (!data->kinds.empty()) data->kinds.push_back(TokenKind::normal);
  }
}

std::vector<int32_t> word_lengths(const Pretokenizer& pretokenizer, const std::string& text) {
  std::vector<size_t> ends;
  pretokenizer.split(text, &ends);
  std::vector<int32_t> lengths;
  size_t begin = 0;
  for (const size_t end : ends) {
    lengths.push_back(static_cast<int32_t>(end - begin));
    begin = end;
  }
  return lengths;
}

void write_u32(size_t value) {
  const auto number = static_cast<uint32_t>(value);
  std::fwrite(&number, sizeof number, 1, stdout);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: tokenizer_cli MODEL [--pre NAME] [--complete-bytes] "
                 "[--special | --split]\n");
    return 2;
  }
  VocabularyData data = tessera::text::vocabulary_from_gguf(tessera::gguf::Reader(argv[1]));
  bool special = false;
  bool complete = false;
  bool split = false;
  for (int i = 2; i < argc; ++i) {
    if (std::strcmp(argv[i], "--pre") == 0 && i + 1 < argc) data.pre = argv[++i];
    if (std::strcmp(argv[i], "--special") == 0) special = true;
    if (std::strcmp(argv[i], "--split") == 0) split = true;
    if (std::strcmp(argv[i], "--complete-bytes") == 0) complete = true;
  }
  if (complete) complete_bytes(&data);

  using Clock = std::chrono::steady_clock;
  const Pretokenizer pretokenizer(data.pre);
  const auto load = Clock::now();
  const Tokenizer tokenizer(std::move(data));
  const auto loaded = Clock::now();
  Clock::duration encoding{};
  size_t bytes = 0;
  std::string text;
  uint32_t size = 0;
  while (std::fread(&size, sizeof size, 1, stdin) == 1) {
    if (size > kMaxFrame) return 1;
    text.resize(size);
    if (std::fread(text.data(), 1, size, stdin) != size) return 1;
    const auto start = Clock::now();
    const std::vector<int32_t> ids =
        split ? word_lengths(pretokenizer, text) : tokenizer.encode(text, special);
    encoding += Clock::now() - start;
    bytes += size;
    const std::string decoded = split ? text : tokenizer.decode(ids, true);
    write_u32(ids.size());
    std::fwrite(ids.data(), sizeof(int32_t), ids.size(), stdout);
    write_u32(decoded.size());
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);
  }
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  std::fprintf(stderr, "%zu bytes %.3f seconds, built in %.3f seconds\n", bytes, seconds(encoding),
               seconds(loaded - load));
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_cli: %s\n", error.what());
    return 1;
  }
}
