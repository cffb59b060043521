// Splits text into the pieces ("words") inside which byte-pair merges may happen.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace tessera::text {

// Immutable and safe from any thread after construction.
class Pretokenizer {
 public:
  // `name` as tokenizer.ggml.pre has it. Throws unsupported, naming what is known.
  explicit Pretokenizer(std::string_view name);
  ~Pretokenizer();
  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;

  // A piece that is in the vocabulary is taken as it is, without merging (Llama 3).
  bool ignores_merges() const { return ignores_merges_; }

  // Appends the end offset of every piece of `text` to `ends`; pieces are consecutive and cover
  // the text. `text` must be valid UTF-8. Linear in the length of the text; throws
  // out_of_host_memory.
  void split(std::string_view text, std::vector<size_t>* ends) const;

 private:
  struct Pattern;
  std::unique_ptr<Pattern> pattern_;
  bool ignores_merges_ = false;
};

}  // namespace tessera::text
