#include "runtime/text/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "backends/error.hpp"
#include "runtime/text/byte_alphabet.hpp"
#include "runtime/text/utf8.hpp"

namespace tessera::text {
namespace {

constexpr size_t kMaxText = INT32_MAX;     // bytes of one encode call: symbols have int32 indices
constexpr size_t kMaxPieces = UINT32_MAX;  // bytes of all tokens together: offsets are uint32

// Names of control tokens after which a model says no more.
constexpr std::string_view kEndNames[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>",
                                          "<|end_of_text|>"};

[[noreturn]] void corrupt(const std::string& message) {
  fail(Status::corrupt_file, message);
}

using Ids = std::unordered_map<std::string_view, int32_t>;  // by the text in the file

// Refuses what contradicts itself, and fills in the kinds if they were left out.
std::vector<TokenKind> checked_kinds(VocabularyData* vocabulary) {
  VocabularyData& data = *vocabulary;
  if (data.model != "gpt2") {
    fail(Status::unsupported,
         "tokenizer.ggml.model is \"" + data.model + "\"; supported is gpt2 (byte-level BPE)");
  }
  const size_t size = data.tokens.size();
  if (size == 0) corrupt("tokenizer.ggml.tokens is empty");
  if (size > INT32_MAX) corrupt("tokenizer.ggml.tokens has over 2^31 - 1 tokens");
  if (data.kinds.empty()) data.kinds.assign(size, TokenKind::normal);
  if (data.kinds.size() != size) {
    corrupt("tokenizer.ggml.token_type has " + std::to_string(data.kinds.size()) + " entries for " +
            std::to_string(size) + " tokens; one a token is right");
  }
  const std::pair<const char*, int32_t> named[] = {{"bos", data.bos},
                                                   {"eos", data.eos},
                                                   {"eot", data.eot},
                                                   {"unknown", data.unknown},
                                                   {"padding", data.padding}};
  for (const auto& [name, id] : named) {
    if (id < -1 || (id >= 0 && static_cast<size_t>(id) >= size)) {
      corrupt("tokenizer.ggml." + std::string(name) + "_token_id is " + std::to_string(id) +
              ", but there are " + std::to_string(size) + " tokens");
    }
  }
  return data.kinds;
}

// "<0x0A>" is how byte tokens are spelled.
std::optional<std::string> byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const size_t digit = std::string_view("0123456789ABCDEF").find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<int>(digit);
  }
  return std::string(1, static_cast<char>(value));
}

// The bytes that a token stands for. A normal token with a character that is not of the byte
// alphabet stands for its own text, as Hugging Face decodes it.
std::string piece_of(const std::string& text, TokenKind kind) {
  std::optional<std::string> bytes;
  if (kind == TokenKind::normal || kind == TokenKind::unused) bytes = unspell(text);
  if (kind == TokenKind::byte) bytes = byte_token(text);
  return bytes ? *std::move(bytes) : text;
}

PieceTable make_pieces(const VocabularyData& data) {
  size_t bytes = 0;  // an upper bound: spelling never shortens
  for (const std::string& token : data.tokens) bytes += token.size();
  if (bytes > kMaxPieces) corrupt("tokenizer.ggml.tokens has over 2^32 bytes of text");
  PieceTable pieces(data.tokens.size(), bytes);
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    pieces.add(piece_of(data.tokens[i], data.kinds[i]), data.kinds[i] == TokenKind::normal);
  }
  return pieces;
}

Ids ids_by_text(const VocabularyData& data) {
  Ids ids;
  ids.reserve(data.tokens.size());
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    ids[data.tokens[i]] = static_cast<int32_t>(i);
  }
  return ids;
}

std::array<int32_t, 256> byte_ids(const VocabularyData& data, const Ids& ids) {
  std::array<int32_t, 256> result;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(spell_byte(static_cast<uint8_t>(byte)));
    const bool usable = found != ids.end() && data.kinds[found->second] == TokenKind::normal;
    result[byte] = usable ? found->second : -1;
  }
  return result;
}

// The merges of the file, in its order. Merges whose parts or result are control tokens are left
// out, so that ordinary text never becomes one.
Bpe make_bpe(const VocabularyData& data) {
  const Ids ids = ids_by_text(data);
  if (data.merges.size() >= MergeTable::kNone) corrupt("tokenizer.ggml.merges is too long");
  MergeTable table(data.merges.size());
  std::vector<int32_t> results;
  results.reserve(data.merges.size());
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string& merge = data.merges[rank];
    const auto bad = [&](const std::string& why) {
      corrupt("tokenizer.ggml.merges[" + std::to_string(rank) + "] is \"" + merge + "\": " + why);
    };
    const size_t space = merge.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos) {
      bad("it should be two tokens with one space between them");
    }
    const auto id_of = [&](const std::string& text) {
      const auto found = ids.find(text);
      if (found == ids.end()) bad("\"" + text + "\" is not in tokenizer.ggml.tokens");
      return found->second;
    };
    const int32_t left = id_of(merge.substr(0, space));
    const int32_t right = id_of(merge.substr(space + 1));
    const int32_t result = id_of(merge.substr(0, space) + merge.substr(space + 1));
    const auto control = [&](int32_t id) { return data.kinds[id] == TokenKind::control; };
    results.push_back(result);
    if (control(left) || control(right) || control(result)) continue;
    table.set(left, right, static_cast<uint32_t>(rank));
  }
  return Bpe(byte_ids(data, ids), std::move(table), std::move(results));
}

// Which tokens result from encoding their own bytes. In vocabularies made by BPE training these
// are nearly all; a word that is such a token needs one lookup instead of merging.
std::vector<bool> whole_tokens(const PieceTable& pieces, const Bpe& bpe) {
  std::vector<bool> whole(pieces.size());
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].empty()) continue;
    ids.clear();
    bpe.encode(pieces[id], &scratch, &ids);
    whole[id] = ids.size() == 1 && ids[0] == id;
  }
  return whole;
}

SpecialTokens make_special(const VocabularyData& data) {
  std::vector<SpecialTokens::Token> tokens;
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (data.kinds[i] == TokenKind::control || data.kinds[i] == TokenKind::user_defined) {
      tokens.push_back({data.tokens[i], static_cast<int32_t>(i)});
    }
  }
  return SpecialTokens(std::move(tokens));
}

std::vector<int32_t> make_ends(const VocabularyData& data, const SpecialTokens& special) {
  std::vector<int32_t> ends;
  if (data.eos >= 0) ends.push_back(data.eos);
  if (data.eot >= 0) ends.push_back(data.eot);
  for (const std::string_view name : kEndNames) {
    const auto id = special.find(name);
    if (id && data.kinds[*id] == TokenKind::control) ends.push_back(*id);
  }
  return ends;
}

}  // namespace

Tokenizer::Tokenizer(VocabularyData data)
    : kinds_(checked_kinds(&data)),
      pretokenizer_(data.pre),
      pieces_(make_pieces(data)),
      bpe_(make_bpe(data)),
      whole_(whole_tokens(pieces_, bpe_)),
      special_(make_special(data)),
      end_of_generation_(make_ends(data, special_)),
      bos_(data.bos),
      eos_(data.eos),
      add_bos_(data.add_bos) {}

std::vector<int32_t> Tokenizer::encode(std::string_view utf8, bool parse_special) const {
  if (utf8.size() > kMaxText) {
    fail(Status::invalid_argument, "text has " + std::to_string(utf8.size()) +
                                       " bytes; at most 2^31 - 1 can be tokenised at once");
  }
  std::vector<int32_t> ids;
  std::vector<size_t> ends;
  Bpe::Scratch scratch;
  size_t done = 0;
  while (parse_special) {
    const auto match = special_.next(utf8, done);
    if (!match) break;
    encode_text(utf8.substr(done, match->begin - done), &scratch, &ends, &ids);
    ids.push_back(match->id);
    done = match->end;
  }
  encode_text(utf8.substr(done), &scratch, &ends, &ids);
  return ids;
}

// Valid runs go through the pre-tokenizer; each run of invalid bytes is a word of its own.
void Tokenizer::encode_text(std::string_view bytes, Bpe::Scratch* scratch,
                            std::vector<size_t>* ends, std::vector<int32_t>* out) const {
  while (!bytes.empty()) {
    const std::string_view valid = bytes.substr(0, utf8_first_invalid(bytes));
    ends->clear();
    pretokenizer_.split(valid, ends);
    size_t begin = 0;
    for (const size_t end : *ends) {
      encode_word(valid.substr(begin, end - begin), scratch, out);
      begin = end;
    }
    bytes.remove_prefix(valid.size());
    size_t invalid = 0;
    while (invalid < bytes.size()) {
      const Utf8Unit unit = utf8_unit(bytes.substr(invalid));
      if (unit.kind == Utf8::valid) break;
      invalid += unit.length;
    }
    if (invalid > 0) encode_word(bytes.substr(0, invalid), scratch, out);
    bytes.remove_prefix(invalid);
  }
}

void Tokenizer::encode_word(std::string_view word, Bpe::Scratch* scratch,
                            std::vector<int32_t>* out) const {
  const int32_t id = pieces_.find(word);
  if (id >= 0 && (whole_[id] || pretokenizer_.ignores_merges())) {
    out->push_back(id);
  } else {
    bpe_.encode(word, scratch, out);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool render_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (render_special || !is_control(id)) bytes += piece(id);
  }
  return bytes;
}

std::string_view Tokenizer::piece(int32_t id) const {
  check_id(id);
  return pieces_[id];
}

TokenKind Tokenizer::kind(int32_t id) const {
  check_id(id);
  return kinds_[id];
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
  return std::find(end_of_generation_.begin(), end_of_generation_.end(), id) !=
         end_of_generation_.end();
}

std::optional<int32_t> Tokenizer::find(std::string_view piece) const {
  if (const auto id = special_.find(piece)) return id;
  const int32_t id = pieces_.find(piece);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

void Tokenizer::check_id(int32_t id) const {
  if (id >= 0 && id < size()) return;
  fail(Status::invalid_argument,
       "token id " + std::to_string(id) + " is outside 0 to " + std::to_string(size() - 1));
}

}  // namespace tessera::text
