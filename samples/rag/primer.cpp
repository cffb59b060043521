#include "samples/rag/primer.hpp"

#include "samples/rag/text_file.hpp"

namespace rag {

bool take_primer(Library& library, bool again, const TokenCutter& cut) {
  if (library.token_count() < kPrimerTokens || (!again && !library.primer().empty())) return false;
  std::string text = cut(library.first_text(kPrimerTokens), kPrimerTokens);
  // A character that was cut is left out.
  if (const std::size_t bad = find_invalid_utf8(text); bad != std::string::npos) text.resize(bad);
  library.set_primer(text);
  return true;
}

}  // namespace rag
