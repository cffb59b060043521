// The gate: measures a setting of the repair dial, and tells what was measured.
#include "runtime/engine/gate.hpp"

#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/session_options.hpp"
#include "runtime/abi/status.hpp"
#include "runtime/abi/structs.hpp"

using namespace tessera;
using namespace tessera::abi;

namespace {

constexpr uint64_t kMaxGateTexts = 65536;
constexpr uint32_t kMaxGatePrompts = 65536;

std::vector<std::string> texts(const tsr_text* list, uint64_t count, const std::string& name) {
  if (count > kMaxGateTexts) {
    invalid(name + "_count is " + std::to_string(count) + ", at most " +
            std::to_string(kMaxGateTexts));
  }
  if (count > 0) require(list, (name + "s").c_str());
  std::vector<std::string> all;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string element = name + "s[" + std::to_string(i) + "]";
    const std::string_view text = text_argument(list[i].data, list[i].length, element.c_str());
    if (text.empty()) invalid(element + " is empty");
    all.emplace_back(text);
  }
  return all;
}

engine::SessionOptions setting(const tsr_session_options* options, const char* name,
                               const model::Model& model) {
  return session_options(read_struct(options, version_1<tsr_session_options>, name), model);
}

engine::GateOptions gate_options(const tsr_gate_options* in, const model::Model& model) {
  require(in, "options");
  const auto o = read_struct(in, version_1<tsr_gate_options>, "options");
  engine::GateOptions options;
  try {
    options.session = setting(o.session, "options->session", model);
  } catch (const Error& error) {
    const std::string message = error.what();
    if (message.starts_with("options->session")) throw;
    fail(error.status(), "options->session: " + message);
  }
  options.texts = texts(o.texts, o.text_count, "options->text");
  if (options.texts.size() < 2) {
    invalid("options->text_count is " + std::to_string(o.text_count) +
            ", must be at least 2: neighbours in a prompt are of different texts");
  }
  options.questions = texts(o.questions, o.question_count, "options->question");
  if (o.max_prompts > kMaxGatePrompts) {
    invalid("options->max_prompts is " + std::to_string(o.max_prompts) + ", at most " +
            std::to_string(kMaxGatePrompts));
  }
  if (o.reserved != 0) invalid("options->reserved is not 0; call its _init first");
  if (o.chunk_tokens) options.chunk_tokens = o.chunk_tokens;
  options.chunks = o.chunks;
  if (o.max_prompts) options.max_prompts = o.max_prompts;
  if (o.answer_tokens) options.answer_tokens = o.answer_tokens;
  return options;
}

tsr_repair repair_number(engine::Repair repair) {
  return static_cast<tsr_repair>(repair) + TSR_REPAIR_NONE;
}
static_assert(TSR_REPAIR_FULL == static_cast<int32_t>(engine::Repair::full) + TSR_REPAIR_NONE);

void write_result(tsr_gate_result* out, const engine::SessionOptions& measured,
                  const engine::GateResult& result) {
  tsr_gate_result value{};
  value.repair = repair_number(measured.repair);
  if (measured.repairs_heads()) value.head_tokens = measured.head_tokens;
  if (measured.selects()) {
    value.select_share = measured.select_share;
    value.select_layers = measured.select_layers;
  }
  value.kl_mean = result.kl_mean;
  value.kl_first = result.kl_first;
  value.kl_p90 = result.kl_p90;
  value.top1 = result.top1;
  value.recomputed = result.recomputed;
  value.prompts = result.prompts;
  value.tokens = result.tokens;
  write_struct(out, value, version_1<tsr_gate_result>, "result");
}

}  // namespace

tsr_status tsr_context_gate(tsr_context context, const tsr_gate_options* options,
                            tsr_gate_result* result) {
  return guarded([&] {
    const auto object = find<ContextObject>(context);
    require(result, "result");
    check_struct(result, sizeof(tsr_gate_result), version_1<tsr_gate_result>, false, "result");
    const engine::GateOptions o = gate_options(options, *object->model->model);
    write_result(result, o.session, engine::measure_gate(*object->engine, o));
  });
}

tsr_status tsr_context_get_gate(tsr_context context, const tsr_session_options* options,
                                tsr_gate_result* result) {
  return guarded([&] {
    const auto object = find<ContextObject>(context);
    require(result, "result");
    check_struct(result, sizeof(tsr_gate_result), version_1<tsr_gate_result>, false, "result");
    const engine::SessionOptions o = setting(options, "options", *object->model->model);
    const std::optional<engine::GateResult> found = object->engine->find_gate(o);
    if (!found) {
      fail(Status::not_found,
           "this setting was never measured with this model, KV type, anchor and primer: "
           "tsr_context_gate measures it");
    }
    write_result(result, o, *found);
  });
}
