// Reads the tokenizer keys of a GGUF file.
#pragma once

#include "runtime/text/vocabulary.hpp"

namespace tessera::gguf {
class Reader;
}

namespace tessera::text {

// Copies what the file says under tokenizer.*; only value types and ranges are checked here.
// Throws corrupt_file, naming file and key, when tokens are missing or a value has a wrong type.
VocabularyData vocabulary_from_gguf(const gguf::Reader& reader);

}  // namespace tessera::text
