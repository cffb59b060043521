// Models, tokens and chat roles.
#include <chrono>

#include "runtime/abi/arguments.hpp"
#include "runtime/abi/objects.hpp"
#include "runtime/abi/roles.hpp"
#include "runtime/abi/status.hpp"
#include "runtime/abi/structs.hpp"

using namespace tessera;
using namespace tessera::abi;

static_assert(TSR_DEVICE_CPU == static_cast<int32_t>(DeviceKind::cpu));
static_assert(TSR_DEVICE_DISCRETE_GPU == static_cast<int32_t>(DeviceKind::discrete_gpu));
static_assert(TSR_DEVICE_INTEGRATED_GPU == static_cast<int32_t>(DeviceKind::integrated_gpu));
static_assert(TSR_DEVICE_OTHER == static_cast<int32_t>(DeviceKind::other));

namespace tessera::abi {

text::Role role_argument(tsr_role role, const char* name) {
  switch (role) {
    case TSR_ROLE_SYSTEM:
      return text::Role::system;
    case TSR_ROLE_USER:
      return text::Role::user;
    case TSR_ROLE_ASSISTANT:
      return text::Role::assistant;
    default:
      break;
  }
  invalid(std::string(name) + " is " + std::to_string(role) +
          ", must be TSR_ROLE_SYSTEM, _USER or _ASSISTANT");
}

}  // namespace tessera::abi

tsr_status tsr_model_load(tsr_runtime runtime, const char* path, uint64_t path_length,
                          const tsr_model_options* options, tsr_model* out) {
  return guarded([&] {
    const auto owner = find<Runtime>(runtime);
    require(out, "out");
    const std::string file(text_argument(path, path_length, "path"));
    if (file.empty()) invalid("path is empty, must name a GGUF file");
    const auto o = read_struct(options, version_1<tsr_model_options>, "options");
    model::LoadOptions load;
    if (o.math != TSR_MATH_FAST && o.math != TSR_MATH_REFERENCE) {
      invalid("options->math is " + std::to_string(o.math) + ", must be a TSR_MATH value");
    }
    load.math = o.math == TSR_MATH_REFERENCE ? MathMode::reference : MathMode::fast;
    load.device = text_argument(o.device, o.device_length, "options->device", true);
    if (o.progress) {
      load.progress = [&](float share) { return o.progress(o.progress_user_data, share) == 0; };
    }
    const auto begun = std::chrono::steady_clock::now();
    auto object = std::make_shared<ModelObject>();
    object->runtime = owner;
    object->model = std::make_shared<model::Model>(file, load);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begun);
    owner->log(TSR_LOG_INFO, file + ": loaded in " + std::to_string(took.count()) + " ms on " +
                                 object->model->backend().device().id);
    *out = publish<tsr_model>(std::move(object));
  });
}

void tsr_model_destroy(tsr_model model) {
  clear_message();
  remove<ModelObject>(model);
}

tsr_status tsr_model_get_info(tsr_model model, tsr_model_info* info) {
  return guarded([&] {
    const auto object = find<ModelObject>(model);
    const model::Model& m = *object->model;
    const model::Hyperparameters& h = m.hyperparameters();
    const std::string sharing = m.architecture().sharing_refusal();
    tsr_model_info value{};
    value.layers = h.layers;
    value.width = h.width;
    value.heads = h.heads;
    value.kv_heads = h.kv_heads;
    value.head_dim = h.head_dim;
    value.vocabulary = h.vocabulary;
    value.context_length = h.context_length;
    value.bos_token = m.tokenizer().bos();
    value.eos_token = m.tokenizer().eos();
    value.adds_bos = m.adds_bos() ? 1 : 0;
    value.chat = m.chat_template().known() ? 1 : 0;
    value.shares_chunks = sharing.empty() ? 1 : 0;
    value.parameters = m.architecture().parameters();
    value.file_bytes = m.file_bytes();
    value.weight_bytes = m.architecture().device_bytes();
    value.repair_modes = supported_repairs(m);
    value.fingerprint[0] = m.fingerprint().low;
    value.fingerprint[1] = m.fingerprint().high;
    copy_text(h.architecture, value.architecture);
    copy_text(h.name, value.name);
    copy_text(m.weight_type(), value.weight_type);
    copy_text(m.backend().device().id, value.device);
    copy_text(m.chat_template().known() ? m.chat_template().name() : m.chat_template().reason(),
              value.chat_template);
    copy_text(sharing, value.sharing);
    write_struct(info, value, version_1<tsr_model_info>, "info");
  });
}

tsr_status tsr_tokenize(tsr_model model, const char* text, uint64_t length, uint64_t flags,
                        int32_t* tokens, uint64_t capacity, uint64_t* count) {
  return guarded([&] {
    const auto object = find<ModelObject>(model);
    check_flags(flags, TSR_TEXT_PARSE_SPECIAL, "flags");
    const std::string_view input = text_argument(text, length, "text");
    const std::vector<int32_t> ids =
        object->model->tokenizer().encode(input, flags & TSR_TEXT_PARSE_SPECIAL);
    write_array<int32_t>(ids, tokens, capacity, count, "tokens", "count");
  });
}

tsr_status tsr_detokenize(tsr_model model, const int32_t* tokens, uint64_t token_count,
                          uint64_t flags, char* text, uint64_t capacity, uint64_t* length) {
  return guarded([&] {
    const auto object = find<ModelObject>(model);
    check_flags(flags, TSR_DETOKENIZE_SPECIAL, "flags");
    if (token_count > 0) require(tokens, "tokens");
    if (token_count > kMaxTokens) {
      invalid("token_count is " + std::to_string(token_count) + ", at most " +
              std::to_string(kMaxTokens));
    }
    const std::span ids(tokens, token_count);
    const text::Tokenizer& tokenizer = object->model->tokenizer();
    check_tokens(ids, tokenizer.size());
    const std::string bytes = tokenizer.decode(ids, flags & TSR_DETOKENIZE_SPECIAL);
    write_array<char>(bytes, text, capacity, length, "text", "length");
  });
}

tsr_status tsr_chat_format(tsr_model model, const tsr_message* messages, uint64_t count,
                           tsr_role open_role, char* text, uint64_t capacity, uint64_t* length) {
  return guarded([&] {
    const auto object = find<ModelObject>(model);
    const text::ChatTemplate& chat = object->model->chat_template();
    if (count > 0) require(messages, "messages");
    if (count > kMaxTokens) invalid("count is " + std::to_string(count) + ", too many messages");
    std::string out;
    uint32_t stride = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const auto* at = reinterpret_cast<const tsr_message*>(
          reinterpret_cast<const char*>(messages) + i * stride);
      const std::string name = "messages[" + std::to_string(i) + "]";
      const uint32_t size =
          check_struct(at, sizeof(tsr_message), version_1<tsr_message>, true, name.c_str());
      if (i == 0) stride = size;
      if (size != stride) {
        invalid(name + ".struct_size is " + std::to_string(size) + ", that of messages[0] is " +
                std::to_string(stride) + "; they must be equal");
      }
      const auto message = read_struct(at, version_1<tsr_message>, name.c_str());
      const text::Role role = role_argument(message.role, (name + ".role").c_str());
      out += chat.open_text(role);
      out += text_argument(message.text, message.length, (name + ".text").c_str());
      out += chat.close_text(role);
    }
    if (open_role != TSR_ROLE_NONE) out += chat.open_text(role_argument(open_role, "open_role"));
    write_array<char>(out, text, capacity, length, "text", "length");
  });
}

tsr_status tsr_chat_default_system(tsr_model model, char* text, uint64_t capacity,
                                   uint64_t* length) {
  return guarded([&] {
    const auto object = find<ModelObject>(model);
    const std::string_view value = object->model->chat_template().default_system();
    write_array<char>(std::span(value.data(), value.size()), text, capacity, length, "text",
                      "length");
  });
}
