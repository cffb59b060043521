#include "samples/rag/asker.hpp"

namespace rag {
namespace {

// Every session begins with this; the library computes it once and encodes passages behind it.
std::string anchor_of(const tsr::Model& model) {
  const tsr::ModelInfo info = model.info();
  if (!info.chat)
    throw tsr::Exception(TSR_UNSUPPORTED,
                         std::string("this model cannot chat: ") + info.chat_template);
  // The system message that the model was trained with serves small models best.
  std::string system = model.chat_default_system();
  if (system.empty()) system = "You are a helpful assistant.";
  return model.chat_format({tsr::Message(TSR_ROLE_SYSTEM, system)}, TSR_ROLE_USER);
}

tsr::Context make_context(const tsr::Model& model, const common::ModelOptions& model_options,
                          const AskerOptions& options) {
  const std::string anchor = anchor_of(model);
  tsr::ContextOptions context = common::context_options(model_options);
  context.set_anchor(anchor);
  if (!options.primer.empty()) context.set_primer(options.primer);
  if (!options.cache.empty()) context.set_cache_folder(options.cache);
  return tsr::Context(model, context);
}

}  // namespace

Asker::Asker(const tsr::Model& model, const common::ModelOptions& model_options,
             const AskerOptions& options)
    : options_(options), context_(make_context(model, model_options, options)) {}

// The text of a chunk says which file it is from, but not which number the passage has in this
// prompt: only so is it the same chunk in the next one. Its KV is computed when a session needs it,
// so that one behind `repair full`, which recomputes all, costs nothing here.
const tsr::Chunk& Asker::chunk_of(const Hit& passage) {
  const std::string text = prompt_text(passage.name, passage.text);
  const auto found = chunks_.find(text);
  if (found != chunks_.end()) return found->second;
  tsr::ChunkOptions options;
  options.flags = TSR_CHUNK_LAZY;
  return chunks_.emplace(text, tsr::Chunk(context_, text, options)).first->second;
}

common::Answer Asker::ask(const std::string& question, const std::vector<Hit>& passages,
                          common::Interrupt& interrupt,
                          const std::function<void(std::string_view)>& on_text) {
  tsr::SessionOptions options;
  options.repair = options_.repair;
  tsr::Session session(context_, options);
  session.add_anchor();
  // The best passage stands last, next to the question.
  for (auto passage = passages.rbegin(); passage != passages.rend(); ++passage)
    session.add_chunk(chunk_of(*passage));
  session.add_text("Answer in one sentence, from the texts above: " + question);
  session.close_role(TSR_ROLE_USER);
  session.open_role(TSR_ROLE_ASSISTANT);
  common::Answer answer = common::stream_answer(session, options_.generate, interrupt, on_text);
  report_ = session.report();
  return answer;
}

void Asker::flush() const {
  constexpr std::int64_t kPatienceMs = 10'000;  // for a slow disk
  context_.flush(kPatienceMs);
}

}  // namespace rag
