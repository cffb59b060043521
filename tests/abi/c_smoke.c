/* The whole API once, from C99, as a program of this release uses it: c_smoke MODEL.
 * Releases keep its binary; later libraries of the same ABI must run it unchanged. So it asks for
 * nothing that a better model, tokenizer or kernel may change: no exact texts, no counts of steps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/tessera.h"

static int checks = 0;

static void check(int right, const char* what, int line) {
  ++checks;
  if (right) return;
  fprintf(stderr, "c_smoke:%d: %s: %s\n", line, what, tsr_last_error());
  exit(1);
}
#define CHECK(condition) check((condition), #condition, __LINE__)
#define OK(call) check((call) == TSR_OK, #call, __LINE__)

static int log_lines = 0;
static void on_log(void* user_data, tsr_log_level level, const char* message, uint64_t length) {
  (void)level;
  if (message != NULL && length > 0) ++*(int*)user_data;
}

static int32_t on_progress(void* user_data, float fraction) {
  *(float*)user_data = fraction;
  return 0;
}

static void devices(tsr_runtime runtime) {
  uint32_t count = 0, usable = 0, i;
  tsr_device_info info;
  OK(tsr_device_count(runtime, &count));
  for (i = 0; i < count; ++i) {
    OK(tsr_device_info_init(&info, sizeof info));
    OK(tsr_device_get(runtime, i, &info));
    CHECK(info.id[0] != 0 && (info.available == 1) == (info.reason[0] == 0));
    usable += info.available == 1 && info.memory_total > 0;
  }
  CHECK(usable > 0);
  CHECK(tsr_device_get(runtime, count, &info) == TSR_INVALID_ARGUMENT);
}

static uint32_t text_and_tokens(tsr_model model) {
  const char* text = "hello, the world";
  tsr_model_info info;
  tsr_message messages[2];
  int32_t tokens[64];
  char back[512];
  uint64_t count = 0, length = 0;
  OK(tsr_model_info_init(&info, sizeof info));
  OK(tsr_model_get_info(model, &info));
  CHECK(info.layers > 0 && info.vocabulary > 0 && info.architecture[0] != 0);
  CHECK(info.chat == 1 && (info.repair_modes & 1u << TSR_REPAIR_NONE) != 0);

  OK(tsr_tokenize(model, text, TSR_NUL_TERMINATED, 0, NULL, 0, &count));
  CHECK(count > 0 && count <= 64);
  CHECK(tsr_tokenize(model, text, strlen(text), 0, tokens, 1, &count) == TSR_BUFFER_TOO_SMALL);
  OK(tsr_tokenize(model, text, strlen(text), 0, tokens, 64, &count));
  OK(tsr_detokenize(model, tokens, count, 0, back, sizeof back, &length));
  CHECK(length == strlen(text) && memcmp(back, text, length) == 0);

  OK(tsr_message_init(&messages[0], sizeof messages[0]));
  OK(tsr_message_init(&messages[1], sizeof messages[1]));
  messages[0].role = TSR_ROLE_SYSTEM;
  messages[0].text = "be brief";
  messages[0].length = TSR_NUL_TERMINATED;
  messages[1].role = TSR_ROLE_USER;
  messages[1].text = text;
  messages[1].length = strlen(text);
  OK(tsr_chat_format(model, messages, 2, TSR_ROLE_ASSISTANT, back, sizeof back, &length));
  CHECK(length > strlen(text));
  OK(tsr_chat_default_system(model, back, sizeof back, &length));
  return info.vocabulary;
}

/* Reads the answer under way to its end; its finish. */
static tsr_finish read_all(tsr_session session, uint64_t* tokens) {
  tsr_event event;
  OK(tsr_event_init(&event, sizeof event));
  for (;;) {
    OK(tsr_session_next(session, 60000, &event));
    CHECK(event.kind != TSR_EVENT_NONE && event.kind != TSR_EVENT_FAILED);
    if (event.kind == TSR_EVENT_TEXT) CHECK(event.text != NULL && event.text_length > 0);
    if (event.kind == TSR_EVENT_DONE) {
      *tokens = event.tokens;
      return event.finish;
    }
  }
}

static void answer(tsr_context context, tsr_chunk chunk, uint32_t vocabulary) {
  tsr_session session = NULL, ready = NULL;
  tsr_session_options options;
  tsr_session_info info;
  tsr_generate_options generate;
  tsr_report report;
  tsr_event event;
  tsr_text stop;
  tsr_logit_bias bias;
  uint64_t tokens = 0, count = 0;
  int32_t token = 5;
  int32_t* all = NULL;
  float* logits = NULL;

  OK(tsr_session_options_init(&options, sizeof options));
  options.repair = TSR_REPAIR_NONE;
  OK(tsr_session_create(context, &options, &session));
  OK(tsr_session_add_anchor(session));
  OK(tsr_session_add_chunk(session, chunk));
  OK(tsr_session_add_text(session, "what is it?", TSR_NUL_TERMINATED, 0));
  OK(tsr_session_add_tokens(session, &token, 1));
  OK(tsr_session_close_role(session, TSR_ROLE_USER));
  OK(tsr_session_open_role(session, TSR_ROLE_ASSISTANT));

  OK(tsr_session_evaluate(session, TSR_LOGITS_LAST, NULL, 0, &count));
  CHECK(count == vocabulary);
  logits = malloc(count * sizeof *logits);
  CHECK(logits != NULL);
  OK(tsr_session_evaluate(session, TSR_LOGITS_LAST, logits, count, &count));
  CHECK(logits[0] == logits[0]);
  free(logits);

  OK(tsr_generate_options_init(&generate, sizeof generate));
  generate.max_tokens = 8;
  generate.temperature = 0.8f;
  generate.top_k = 40;
  generate.top_p = 0.95f;
  generate.min_p = 0.01f;
  generate.seed = 42;
  generate.flags = TSR_GENERATE_IGNORE_END;
  stop.data = "\x01never\x02";
  stop.length = TSR_NUL_TERMINATED;
  generate.stops = &stop;
  generate.stop_count = 1;
  generate.repetition_penalty = 1.1f;
  generate.frequency_penalty = 0.1f;
  generate.presence_penalty = 0.1f;
  generate.penalty_window = 32;
  bias.token = 5;
  bias.bias = -1.0f;
  generate.biases = &bias;
  generate.bias_count = 1;
  generate.logprobs = 3;
  generate.lookup_tokens = 4;
  OK(tsr_session_generate(session, &generate));
  CHECK(tsr_session_add_text(session, "x", 1, 0) == TSR_BUSY);
  OK(tsr_context_wait(context, 60000, &ready));
  CHECK(ready == session);
  CHECK(read_all(session, &tokens) == TSR_FINISH_LENGTH && tokens == 8);
  OK(tsr_event_init(&event, sizeof event));
  OK(tsr_session_next(session, 0, &event));
  CHECK(event.kind == TSR_EVENT_NONE);

  OK(tsr_report_init(&report, sizeof report));
  OK(tsr_session_get_report(session, &report));
  CHECK(report.tokens_generated == 8);
  CHECK(report.tokens_accepted <= report.tokens_drafted);
  OK(tsr_session_info_init(&info, sizeof info));
  OK(tsr_session_get_info(session, &info));
  CHECK(info.generating == 0 && info.tokens > 8);
  OK(tsr_session_get_tokens(session, NULL, 0, &count));
  CHECK(count == info.tokens);
  all = malloc(count * sizeof *all);
  CHECK(all != NULL);
  OK(tsr_session_get_tokens(session, all, count, &count));
  free(all);

  OK(tsr_session_close_role(session, TSR_ROLE_ASSISTANT));
  generate.max_tokens = 100;
  OK(tsr_session_generate(session, &generate));
  OK(tsr_session_cancel(session));
  read_all(session, &tokens);
  CHECK(tokens <= 100);
  tsr_session_destroy(session);
}

static void gate(tsr_context context) {
  const tsr_text texts[2] = {{"The sea is wide and salt.", TSR_NUL_TERMINATED},
                             {"Bread is made of flour, water and salt.", TSR_NUL_TERMINATED}};
  const tsr_text question = {"What is salt?", TSR_NUL_TERMINATED};
  tsr_session_options setting;
  tsr_gate_options options;
  tsr_gate_result measured, known;
  tsr_session session = NULL;

  OK(tsr_session_options_init(&setting, sizeof setting));
  setting.repair = TSR_REPAIR_HEAD;
  setting.head_tokens = 4;
  OK(tsr_gate_options_init(&options, sizeof options));
  options.session = &setting;
  options.texts = texts;
  options.text_count = 2;
  options.questions = &question;
  options.question_count = 1;
  options.chunk_tokens = 16;
  options.chunks = 2;
  options.max_prompts = 1;
  options.answer_tokens = 4;
  OK(tsr_gate_result_init(&measured, sizeof measured));
  OK(tsr_gate_result_init(&known, sizeof known));
  CHECK(tsr_context_get_gate(context, &setting, &known) == TSR_NOT_FOUND);
  OK(tsr_context_gate(context, &options, &measured));
  CHECK(measured.repair == TSR_REPAIR_HEAD && measured.prompts == 1 && measured.tokens > 0);
  CHECK(measured.kl_mean > 0 && measured.top1 <= 1 && measured.recomputed > 0);
  OK(tsr_context_get_gate(context, &setting, &known));
  CHECK(memcmp(&measured, &known, sizeof known) == 0);
  setting.max_kl = measured.kl_mean / 2;
  CHECK(tsr_session_create(context, &setting, &session) == TSR_UNSUPPORTED);
  setting.max_kl = measured.kl_mean;
  OK(tsr_session_create(context, &setting, &session));
  tsr_session_destroy(session);
}

static void session_as_a_value(tsr_context context, tsr_chunk chunk) {
  tsr_session session = NULL, fork = NULL, restored = NULL;
  tsr_session_info info;
  uint64_t size = 0;
  void* bytes;

  OK(tsr_session_create(context, NULL, &session));
  OK(tsr_session_add_chunk(session, chunk));
  OK(tsr_session_add_text(session, "what is it?", TSR_NUL_TERMINATED, 0));
  OK(tsr_session_fork(session, &fork));
  OK(tsr_session_rewind(fork, 2));
  OK(tsr_session_save(session, NULL, 0, &size));
  bytes = malloc(size);
  CHECK(bytes != NULL && size > 0);
  OK(tsr_session_save(session, bytes, size, &size));
  OK(tsr_session_restore(context, bytes, size, &restored));
  free(bytes);
  OK(tsr_session_info_init(&info, sizeof info));
  OK(tsr_session_get_info(fork, &info));
  CHECK(info.tokens == 2);
  OK(tsr_session_get_info(restored, &info));
  CHECK(info.tokens > 2);
  tsr_session_destroy(session);
  tsr_session_destroy(restored);
  tsr_session_destroy(fork);
}

int main(int argc, char** argv) {
  tsr_runtime runtime = NULL;
  tsr_model model = NULL;
  tsr_context context = NULL;
  tsr_chunk chunk = NULL;
  tsr_chunk again = NULL;
  tsr_chunk_id id;
  tsr_runtime_options runtime_options;
  tsr_model_options model_options;
  tsr_context_options context_options;
  tsr_chunk_options chunk_options;
  tsr_chunk_info chunk_info;
  tsr_metrics metrics;
  float done = 0;
  uint32_t vocabulary;
  uint64_t count = 0;

  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  CHECK(tsr_abi_version() == TSR_ABI_VERSION);
  CHECK(tsr_version()[0] != 0 && strcmp(tsr_status_name(TSR_CAPACITY), "TSR_CAPACITY") == 0);

  OK(tsr_runtime_options_init(&runtime_options, sizeof runtime_options));
  runtime_options.log_level = TSR_LOG_INFO;
  runtime_options.log = on_log;
  runtime_options.log_user_data = &log_lines;
  OK(tsr_runtime_create(&runtime_options, &runtime));
  devices(runtime);

  OK(tsr_model_options_init(&model_options, sizeof model_options));
  model_options.math = TSR_MATH_REFERENCE;
  model_options.progress = on_progress;
  model_options.progress_user_data = &done;
  OK(tsr_model_load(runtime, argv[1], strlen(argv[1]), &model_options, &model));
  CHECK(done == 1.0f);
  vocabulary = text_and_tokens(model);

  OK(tsr_context_options_init(&context_options, sizeof context_options));
  context_options.kv_type = TSR_KV_F32;
  context_options.kv_budget = 8u << 20;
  context_options.page_size = 8;
  context_options.threads = 1;
  context_options.max_session_tokens = 512;
  context_options.max_step_tokens = 32;
  context_options.anchor = "<|im_start|>user\n";
  context_options.anchor_length = TSR_NUL_TERMINATED;
  context_options.primer = "ordinary text";
  context_options.primer_length = 13;
  OK(tsr_context_create(model, &context_options, &context));

  OK(tsr_chunk_options_init(&chunk_options, sizeof chunk_options));
  chunk_options.flags = TSR_CHUNK_LAZY;
  OK(tsr_chunk_create_text(context, "a document about the sea", TSR_NUL_TERMINATED, &chunk_options,
                           &chunk));
  OK(tsr_chunk_wait(chunk, 60000));
  OK(tsr_chunk_info_init(&chunk_info, sizeof chunk_info));
  OK(tsr_chunk_get_info(chunk, &chunk_info));
  CHECK(chunk_info.state == TSR_CHUNK_READY && chunk_info.tokens > 0 && chunk_info.bytes > 0);

  answer(context, chunk, vocabulary);
  session_as_a_value(context, chunk);

  OK(tsr_context_list_chunks(context, NULL, 0, &count));
  CHECK(count == 1);
  OK(tsr_context_list_chunks(context, &id, 1, &count));
  CHECK(id.low == chunk_info.identity[0] && id.high == chunk_info.identity[1]);
  OK(tsr_chunk_open(context, &id, &again));
  OK(tsr_chunk_pin(again, 1));
  OK(tsr_chunk_get_info(chunk, &chunk_info));
  CHECK(chunk_info.pinned == 1 && chunk_info.sessions == 0 && chunk_info.cost > 0);
  OK(tsr_chunk_drop(again, TSR_DROP_MEMORY | TSR_DROP_DISK));
  OK(tsr_chunk_get_info(chunk, &chunk_info));
  CHECK(chunk_info.state == TSR_CHUNK_ABSENT && chunk_info.bytes == 0 && chunk_info.pinned == 0);
  tsr_chunk_destroy(again);
  gate(context);

  OK(tsr_metrics_init(&metrics, sizeof metrics));
  OK(tsr_context_get_metrics(context, &metrics));
  CHECK(metrics.page_size == 8 && metrics.pages_peak > 0 &&
        metrics.pages_peak <= metrics.pages_total);
  CHECK(metrics.pages_pinned == 0 && metrics.evicted_chunks == 0 && metrics.evicted_runs == 0);

  tsr_runtime_destroy(runtime);
  tsr_model_destroy(model);
  tsr_context_destroy(context);
  tsr_chunk_destroy(chunk);
  CHECK(tsr_chunk_wait(chunk, 0) == TSR_INVALID_ARGUMENT && tsr_last_error()[0] != 0);
  printf("c_smoke: %d checks, library %s\n", checks, tsr_version());
  return 0;
}
