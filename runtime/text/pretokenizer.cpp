#include "runtime/text/pretokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <string>
#include <utility>

#include "backends/error.hpp"

namespace tessera::text {
namespace {

// Character classes as Hugging Face's regex engine (Oniguruma, Unicode 16) has them, written so
// that the result does not depend on the Unicode version of the PCRE2 at hand (Debian 12: 14).

// White_Space. PCRE2's own \s has U+180E in addition.
constexpr char kSpace[] =
    R"(\x09-\x0D\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Letters, and those that came with Unicode 15, 15.1 and 16.
constexpr char kLetter[] =
    R"(\p{L}\x{1C89}\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3})"
    R"(\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C}\x{18CFF})"
    R"(\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB})"
    R"(\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";

// Numbers, likewise.
constexpr char kNumber[] =
    R"(\p{N}\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59})"
    R"(\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3})"
    R"(\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

// The step "Digits" asks Rust's char::is_numeric, which follows Unicode 17.
constexpr char kDigitsOfUnicode17[] = R"(\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6})";

// In the patterns below <S>, <L> and <N> stand for the inside of these classes.
struct Known {
  const char* name;
  const char* pattern;
  bool ignores_merges;
};

// GPT-2, as in its encoder.py.
constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?[<L>]+| ?[<N>]+| ?[^<S><L><N>]+|[<S>]+(?![^<S>])|[<S>]+)";

// SmolLM: every number character alone ("Digits", individual), then GPT-2's pattern on what lies
// between. One pattern does both: a digit ends the text for GPT-2's lookahead.
constexpr char kSmollm[] =
    R"([<N>]|'s|'t|'re|'ve|'m|'ll|'d| ?[<L>]+| ?[^<S><L><N>]+|[<S>]+(?![^<S><N>])|[<S>]+)";

// Llama 3 groups three digits, Qwen2 takes one at a time; otherwise they are the same.
constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n<L><N>]?[<L>]+|[<N>]{1,3}| ?[^<S><L><N>]+[\r\n]*)"
    R"(|[<S>]*[\r\n]+|[<S>]+(?![^<S>])|[<S>]+)";
constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n<L><N>]?[<L>]+|[<N>]| ?[^<S><L><N>]+[\r\n]*)"
    R"(|[<S>]*[\r\n]+|[<S>]+(?![^<S>])|[<S>]+)";

constexpr Known kKnown[] = {
    {"smollm", kSmollm, false}, {"gpt-2", kGpt2, false},     {"llama-bpe", kLlama3, true},
    {"llama3", kLlama3, true},  {"llama-v3", kLlama3, true}, {"qwen2", kQwen2, false},
};

const Known& known_by_name(std::string_view name) {
  for (const Known& known : kKnown) {
    if (name == known.name) return known;
  }
  fail(Status::unsupported, "tokenizer.ggml.pre is \"" + std::string(name) +
                                "\"; supported are smollm, gpt-2, llama-bpe and qwen2");
}

std::string expand(const Known& known) {
  std::string number = kNumber;
  if (known.pattern == kSmollm) number += kDigitsOfUnicode17;
  std::string pattern = known.pattern;
  const std::pair<const char*, const std::string> classes[] = {
      {"<S>", kSpace}, {"<L>", kLetter}, {"<N>", number}};
  for (const auto& [mark, inside] : classes) {
    for (size_t at = pattern.find(mark); at != std::string::npos;
         at = pattern.find(mark, at + inside.size())) {
      pattern.replace(at, 3, inside);
    }
  }
  return pattern;
}

std::string message_of(int error) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;

}  // namespace

struct Pretokenizer::Pattern {
  Code code;
  MatchContext context;
};

Pretokenizer::Pretokenizer(std::string_view name) : pattern_(std::make_unique<Pattern>()) {
  const Known& known = known_by_name(name);
  ignores_merges_ = known.ignores_merges;
  const std::string source = expand(known);
  int error = 0;
  PCRE2_SIZE at = 0;
  pattern_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr));
  if (!pattern_->code) {
    fail(error == PCRE2_ERROR_HEAP_FAILED ? Status::out_of_host_memory : Status::internal,
         "the pattern of pre-tokenizer " + std::string(name) + " does not compile at offset " +
             std::to_string(at) + ": " + message_of(error) +
             "; a PCRE2 built with Unicode support is needed");
  }
  // Without the compiler (not built in, or memory that may not be executed) PCRE2 interprets.
  pcre2_jit_compile(pattern_->code.get(), PCRE2_JIT_COMPLETE);
  pattern_->context.reset(pcre2_match_context_create(nullptr));
  if (!pattern_->context) fail(Status::out_of_host_memory, "no memory for the pre-tokenizer");
  // The patterns are linear. PCRE2's default limits would refuse long runs of white space.
  pcre2_set_match_limit(pattern_->context.get(), UINT32_MAX);
  pcre2_set_depth_limit(pattern_->context.get(), UINT32_MAX);
  pcre2_set_heap_limit(pattern_->context.get(), UINT32_MAX);
}

Pretokenizer::~Pretokenizer() = default;
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;

void Pretokenizer::split(std::string_view text, std::vector<size_t>* ends) const {
  if (text.empty()) return;
  const MatchData match(pcre2_match_data_create(1, nullptr));
  if (!match) fail(Status::out_of_host_memory, "no memory to split text into words");
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
  uint32_t options = PCRE2_NO_UTF_CHECK;
  size_t done = 0;
  while (done < text.size()) {
    const int result = pcre2_match(pattern_->code.get(), subject, text.size(), done, options,
                                   match.get(), pattern_->context.get());
    if (result == PCRE2_ERROR_NOMATCH) {
      ends->push_back(text.size());
      return;
    }
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      options |= PCRE2_NO_JIT;
      continue;
    }
    if (result < 0) {
      fail(result == PCRE2_ERROR_NOMEMORY ? Status::out_of_host_memory : Status::internal,
           "splitting text into words failed at byte " + std::to_string(done) + " of " +
               std::to_string(text.size()) + ": " + message_of(result));
    }
    if (bounds[0] > done) ends->push_back(bounds[0]);  // text between matches is a piece, too
    ends->push_back(bounds[1]);
    done = bounds[1];
  }
}

}  // namespace tessera::text
