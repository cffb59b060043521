#include "tests/quality/subjects.hpp"

#include <filesystem>
#include <map>

#include "backends/error.hpp"
#include "tests/fuzz/temp_folder.hpp"
#include "tests/fuzz/tiny_model.hpp"

namespace tessera::test {
namespace {

constexpr char kDefaultModel[] = TESSERA_MODELS "/SmolLM2-135M-Instruct-Q4_1.gguf";

constexpr char kText[] =
    "The harbour of the old town lies on the northern shore of the bay, where two rivers meet the "
    "sea. In spring the ships that wintered there are painted, rigged and loaded with timber, salt "
    "and dried fish for the markets of the south. A stone quay, built by the guild of merchants "
    "three hundred years ago, still carries the weight of carts and cranes. Behind it stand narrow "
    "houses with steep roofs, whose cellars flood when a storm drives the tide against the wall. "
    "The lighthouse keeper writes every arrival into a heavy book: the name of the vessel, her "
    "master, her cargo and the hour. On market days farmers bring butter, cheese and wool, and the "
    "square in front of the church fills with voices, wagons and dogs. Nobody remembers when the "
    "first bridge was built, but the toll that it earned paid for the town wall, the school and "
    "the "
    "water pipes. Which goods did the ships carry to the markets of the south, and who built the "
    "stone quay on which the cranes stand?";

ModelRef load_tiny(MathMode math) {
  TinyModel tiny;
  tiny.layers = 4;
  tiny.width = 96;
  tiny.heads = 6;
  tiny.kv_heads = 2;
  tiny.head_dim = 32;  // Q8_0 KV comes in blocks of 32
  tiny.seed = 7;
  const TempFolder folder;
  write_tiny_model(folder.file("tiny.gguf"), tiny);
  return load_model(folder.file("tiny.gguf"), math);
}

}  // namespace

ModelRef subject(const std::string& name, MathMode math) {
  static std::map<std::pair<std::string, MathMode>, ModelRef> loaded;
  ModelRef& model = loaded[{name, math}];
  if (!model && name == "tiny") model = load_tiny(math);
  if (!model && name != "tiny" && std::filesystem::exists(kDefaultModel)) {
    model = load_model(kDefaultModel, math);
  }
  return model;
}

Tokens Material::all() const {
  Tokens tokens = text;
  for (const Tokens* part : {&chunk_a, &chunk_b, &question}) {
    tokens.insert(tokens.end(), part->begin(), part->end());
  }
  return tokens;
}

std::vector<Piece> Material::pieces() const {
  return {{text}, {chunk_a, true}, {chunk_b, true}};
}

Material material(const model::Model& model, const std::string& name) {
  const Tokens tokens = model.tokenizer().encode(kText, false);
  auto next = tokens.begin();
  const auto take = [&](uint32_t count) {
    if (tokens.end() - next < count) fail(Status::internal, "the text is too short");
    Tokens part(next, next + count);
    next += count;
    return part;
  };
  Material m;
  const bool tiny = name == "tiny";  // several tiles of 64 keys, and odd lengths
  m.text = take(tiny ? 45 : 11);
  m.chunk_a = take(tiny ? 150 : 71);
  m.chunk_b = take(tiny ? 83 : 38);
  m.question = take(tiny ? 30 : 13);
  return m;
}

}  // namespace tessera::test
