// Byte-level byte-pair encoding: text to token ids and back.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/bpe.hpp"
#include "runtime/text/piece_table.hpp"
#include "runtime/text/pretokenizer.hpp"
#include "runtime/text/special_tokens.hpp"
#include "runtime/text/vocabulary.hpp"

namespace tessera::text {

// Immutable after construction: any thread may call any function at any time. docs/text.md says
// where results may differ from Hugging Face `tokenizers`, to which they are otherwise equal.
class Tokenizer {
 public:
  // Throws unsupported (a model other than "gpt2", an unknown pre-tokenizer) and corrupt_file (a
  // merge that names no token, an id or a list length out of range, ...), naming the GGUF key.
  explicit Tokenizer(VocabularyData data);

  // The tokens of `utf8`. Any bytes are taken: invalid ones are encoded byte by byte and the valid
  // text on either side as if it stood alone. Bytes for which the vocabulary has no token (see
  // encodes_byte) are left out. No token is added; in particular no bos.
  //
  // With `parse_special`, texts of control and user-defined tokens become these tokens, leftmost
  // first, the longest of those that begin at one place. Without, no control token ever results:
  // what users and documents say cannot open or close a turn.
  //
  // Linear but for very long words, where it is n log n. Throws invalid_argument above 2^31 - 1
  // bytes.
  std::vector<int32_t> encode(std::string_view utf8, bool parse_special) const;

  // The bytes of the tokens, exactly; they need not be UTF-8 at either end (StreamDecoder cuts).
  // Control tokens are left out unless `render_special`. Throws invalid_argument for an id outside
  // [0, size()).
  std::string decode(std::span<const int32_t> ids, bool render_special) const;

  // The bytes of one token, control tokens included. The view lives as long as the tokenizer.
  // Throws invalid_argument like decode; so do kind and is_control.
  std::string_view piece(int32_t id) const;
  TokenKind kind(int32_t id) const;
  bool is_control(int32_t id) const { return kind(id) == TokenKind::control; }

  int32_t size() const { return pieces_.size(); }

  // Ids with a role, -1 if the file names none.
  int32_t bos() const { return bos_; }
  int32_t eos() const { return eos_; }
  // Whether a context should begin with bos().
  bool add_bos() const { return add_bos_; }

  // eos, eot, and control tokens that end a text or a turn by their name, such as <|im_end|>.
  bool is_end_of_generation(int32_t id) const;

  // The token with exactly these bytes; a control or user-defined one first.
  std::optional<int32_t> find(std::string_view piece) const;

  // Whether a byte that stands alone has a token. Some vocabularies lack control characters and
  // bytes that UTF-8 never uses.
  bool encodes_byte(uint8_t byte) const { return bpe_.byte_id(byte) >= 0; }

 private:
  void encode_text(std::string_view bytes, Bpe::Scratch* scratch, std::vector<size_t>* ends,
                   std::vector<int32_t>* out) const;
  void encode_word(std::string_view word, Bpe::Scratch* scratch, std::vector<int32_t>* out) const;
  void check_id(int32_t id) const;

  std::vector<TokenKind> kinds_;
  Pretokenizer pretokenizer_;
  PieceTable pieces_;
  Bpe bpe_;
  std::vector<bool> whole_;  // tokens that encoding their own bytes gives: no need to merge
  SpecialTokens special_;
  std::vector<int32_t> end_of_generation_;
  int32_t bos_;
  int32_t eos_;
  bool add_bos_;
};

}  // namespace tessera::text
