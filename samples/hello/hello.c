/* Asks a model one question: tessera-hello MODEL.gguf QUESTION */
#include <stdio.h>
#include <tessera/tessera.h>

#define TRY(call) \
  if ((call) != TSR_OK) return fprintf(stderr, "tessera-hello: %s\n", tsr_last_error()), 1

int main(int argc, char** argv) {
  tsr_runtime runtime;
  tsr_model model;
  tsr_context context;
  tsr_session session;
  tsr_event event;
  int failed = 0;
  if (argc != 3) return fprintf(stderr, "usage: tessera-hello MODEL.gguf QUESTION\n"), 1;

  TRY(tsr_runtime_create(NULL, &runtime));
  TRY(tsr_model_load(runtime, argv[1], TSR_NUL_TERMINATED, NULL, &model));
  TRY(tsr_context_create(model, NULL, &context));
  TRY(tsr_session_create(context, NULL, &session));

  TRY(tsr_session_open_role(session, TSR_ROLE_USER));
  TRY(tsr_session_add_text(session, argv[2], TSR_NUL_TERMINATED, 0));
  TRY(tsr_session_close_role(session, TSR_ROLE_USER));
  TRY(tsr_session_open_role(session, TSR_ROLE_ASSISTANT));
  TRY(tsr_session_generate(session, NULL));
  TRY(tsr_event_init(&event, sizeof event));
  do {
    TRY(tsr_session_next(session, TSR_WAIT_FOREVER, &event));
    if (event.kind == TSR_EVENT_TEXT) fwrite(event.text, 1, event.text_length, stdout);
    if (event.kind == TSR_EVENT_FAILED)
      failed = 1, fprintf(stderr, "%.*s\n", (int)event.text_length, event.text);
  } while (event.kind != TSR_EVENT_NONE);

  printf("\n");
  if (fflush(stdout) != 0 || ferror(stdout))
    failed = 1, fprintf(stderr, "tessera-hello: standard output could not be written\n");
  tsr_session_destroy(session);
  tsr_context_destroy(context);
  tsr_model_destroy(model);
  tsr_runtime_destroy(runtime);
  return failed;
}
