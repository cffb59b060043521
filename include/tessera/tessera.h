/* Tessera: an embeddable inference runtime for local assistants. The C ABI, and the only public
 * header (tessera.hpp wraps it for C++). C99 and C++11 and later.
 *
 * RULES, for every call unless it says otherwise
 *
 * Results   Every call that can fail returns a tsr_status; 0 is success. tsr_last_error() then
 *           says, for the calling thread, what was wrong, where, and what would be right. Results
 *           go through out pointers, which are written on success only, except that sizing calls
 *           always write the needed count. No call throws, aborts, exits or raises a signal.
 * Handles   tsr_runtime, tsr_model, tsr_context, tsr_chunk and tsr_session are opaque values, not
 *           addresses. A NULL, freed, wrong or foreign handle gives TSR_INVALID_ARGUMENT. Every
 *           handle that a call hands out is given back once with its _destroy, in any order: an
 *           object lives until its last user is gone (a session keeps its context, a context its
 *           model), only the handle ends at once; a call that waits on it returns TSR_CANCELLED.
 *           _destroy(NULL) is fine and does nothing.
 * Structs   begin with struct_size and are passed by pointer. Prepare one with its _init call
 *           (tsr_x_init(&x, sizeof x)), which zeroes it; zero means default for every field. Later
 *           releases add fields at the end only. A struct_size below version 1 of the struct, or
 *           above 4096 (no release will have such a struct), is TSR_INVALID_ARGUMENT; one that is
 *           larger than the library knows is accepted if the unknown tail is zero and
 *           TSR_UNSUPPORTED otherwise. Output structs are filled up to the smaller of struct_size
 *           and what the library knows.
 * Text      is UTF-8, pointer and length in bytes, not NUL-terminated on output. A length of
 *           TSR_NUL_TERMINATED means that an input ends with a NUL. Inputs are copied before the
 *           call returns. Invalid UTF-8 is TSR_INVALID_ARGUMENT and the message gives its offset.
 *           NULL with a length of 0 is the empty text.
 * Sizing    Variable output takes (buffer, capacity, &count): count receives the needed size. With
 *           capacity 0 the buffer may be NULL and the call succeeds; if 0 < capacity < needed, it
 *           writes nothing and returns TSR_BUFFER_TOO_SMALL.
 * Threads   Any handle may be used from any thread. A session serves one caller at a time: a
 *           second call on it while one is running gets TSR_BUSY at once (tsr_session_cancel and
 *           _destroy excepted). Each context computes on one engine thread of its own.
 * Callbacks There are two, log and load progress. They carry user_data, name their thread, and must
 *           not call this library.
 * Units     Times are microseconds (_us) or milliseconds (_ms), sizes bytes, unless a name says
 *           tokens. Enumerations are int32_t with TSR_ constants, never renumbered; flags are
 *           uint64_t; an unknown value or flag is TSR_INVALID_ARGUMENT.
 * Conduct   No global set-up or shutdown, no environment variable that changes results, no network,
 *           no telemetry. Several copies may live in one process. */
#ifndef TESSERA_TESSERA_H
#define TESSERA_TESSERA_H

#include <stdint.h>

#if defined(_WIN32)
#if defined(TESSERA_BUILD)
#define TSR_API __declspec(dllexport)
#else
#define TSR_API __declspec(dllimport)
#endif
#else
#define TSR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------- Versions */

/* The ABI that this header describes; the SONAME carries it. A program checks that
 * tsr_abi_version() == TSR_ABI_VERSION before anything else. */
#define TSR_ABI_VERSION 0u

TSR_API uint32_t tsr_abi_version(void);

/* Release of the library, "0.1.0". Static. Never fails. */
TSR_API const char *tsr_version(void);

/* --------------------------------------------------------------------------------------- Status */

typedef int32_t tsr_status;
#define TSR_OK 0
#define TSR_INVALID_ARGUMENT 1     /* an argument, field or handle; the message names it */
#define TSR_OUT_OF_HOST_MEMORY 2   /* nothing was changed */
#define TSR_OUT_OF_DEVICE_MEMORY 3 /* nothing was changed */
#define TSR_DEVICE_LOST 4          /* destroy the context and the model, load again */
#define TSR_UNSUPPORTED 5          /* well formed, but this release, model or device cannot */
#define TSR_CANCELLED 6            /* stopped by tsr_session_cancel or a callback */
#define TSR_CAPACITY 7             /* does not fit a budget or limit; the message gives numbers */
#define TSR_NOT_FOUND 8            /* no such file, device or stored result */
#define TSR_CORRUPT_FILE 9         /* the message names the file and what is wrong in it */
#define TSR_VERSION_MISMATCH 10    /* made by another release, for another model, ... */
#define TSR_BUSY 11                /* another call, or a generation, is under way */
#define TSR_INTERNAL 12            /* a fault of this library: please report it */
#define TSR_TIMEOUT 13             /* nothing happened within the time given */
#define TSR_IO_ERROR 14            /* the operating system failed to read or write */
#define TSR_BUFFER_TOO_SMALL 15    /* the count was written; call again with that much room */

/* Name of a status, "TSR_OK"; "TSR_UNKNOWN" for other numbers. Static. Never fails. */
TSR_API const char *tsr_status_name(tsr_status status);

/* Message of the last call on this thread, "" after success. Valid until the next call on this
 * thread. Never NULL, never fails, does not change the message. */
TSR_API const char *tsr_last_error(void);

/* --------------------------------------------------------------------------------------- Shared */

#define TSR_NUL_TERMINATED UINT64_MAX
#define TSR_WAIT_FOREVER INT64_C(-1)

typedef struct tsr_runtime_t *tsr_runtime;
typedef struct tsr_model_t *tsr_model;
typedef struct tsr_context_t *tsr_context;
typedef struct tsr_chunk_t *tsr_chunk;
typedef struct tsr_session_t *tsr_session;

/* A view of UTF-8 bytes; used in arrays only. length may be TSR_NUL_TERMINATED. */
typedef struct tsr_text {
  const char *data;
  uint64_t length;
} tsr_text;

/* -------------------------------------------------------------------------------------- Runtime */

typedef int32_t tsr_log_level;
#define TSR_LOG_ERROR 1
#define TSR_LOG_WARNING 2
#define TSR_LOG_INFO 3

/* Called on any thread that is inside a call of this library, and on contexts' own threads.
 * `message` is valid during the call. Must be quick and must not call this library. */
typedef void (*tsr_log_callback)(void *user_data, tsr_log_level level, const char *message,
                                 uint64_t length);

typedef struct tsr_runtime_options {
  uint32_t struct_size;
  tsr_log_level log_level; /* most detailed level wanted; 0: TSR_LOG_WARNING */
  tsr_log_callback log;    /* NULL: no log */
  void *log_user_data;
} tsr_runtime_options;

TSR_API tsr_status tsr_runtime_options_init(tsr_runtime_options *options, uint32_t struct_size);

/* `options` may be NULL. A program usually needs one runtime; several are independent. */
TSR_API tsr_status tsr_runtime_create(const tsr_runtime_options *options, tsr_runtime *out);
TSR_API void tsr_runtime_destroy(tsr_runtime runtime);

/* -------------------------------------------------------------------------------------- Devices */

typedef int32_t tsr_device_kind;
#define TSR_DEVICE_CPU 0
#define TSR_DEVICE_DISCRETE_GPU 1
#define TSR_DEVICE_INTEGRATED_GPU 2
#define TSR_DEVICE_OTHER 3

typedef struct tsr_device_info {
  uint32_t struct_size;
  tsr_device_kind kind;
  int32_t available; /* 1 or 0 */
  uint32_t reserved;
  uint64_t memory_total;
  uint64_t memory_free; /* now */
  char id[64];          /* stable across runs: store this to remember a choice */
  char name[128];
  char reason[256]; /* why it is not available; empty when it is */
} tsr_device_info;

TSR_API tsr_status tsr_device_info_init(tsr_device_info *info, uint32_t struct_size);

/* Devices that this build knows of, those that cannot be used included. */
TSR_API tsr_status tsr_device_count(tsr_runtime runtime, uint32_t *count);
TSR_API tsr_status tsr_device_get(tsr_runtime runtime, uint32_t index, tsr_device_info *info);

/* ---------------------------------------------------------------------------------------- Model */

typedef int32_t tsr_math;
#define TSR_MATH_FAST 0      /* the device's best kernels */
#define TSR_MATH_REFERENCE 1 /* fp32 activations, exact weights; slow, to check against */

/* Called on the loading thread with the share done, 0 to 1. Non-zero stops the load, which then
 * returns TSR_CANCELLED. */
typedef int32_t (*tsr_progress_callback)(void *user_data, float fraction);

typedef struct tsr_model_options {
  uint32_t struct_size;
  tsr_math math;
  const char *device; /* id of a device; NULL: the best available one */
  uint64_t device_length;
  tsr_progress_callback progress; /* NULL: none */
  void *progress_user_data;
} tsr_model_options;

TSR_API tsr_status tsr_model_options_init(tsr_model_options *options, uint32_t struct_size);

/* Loads a GGUF file (v2 or v3, little endian). The file is read, not mapped, and not needed after
 * the call. Blocks. `options` may be NULL.
 * NOT_FOUND, IO_ERROR, CORRUPT_FILE; UNSUPPORTED: architecture, tokenizer or tensor type;
 * OUT_OF_*_MEMORY; CANCELLED. */
TSR_API tsr_status tsr_model_load(tsr_runtime runtime, const char *path, uint64_t path_length,
                                  const tsr_model_options *options, tsr_model *out);
TSR_API void tsr_model_destroy(tsr_model model);

#define TSR_NO_TOKEN (-1)

typedef struct tsr_model_info {
  uint32_t struct_size;
  uint32_t layers;
  uint32_t width; /* of the residual stream */
  uint32_t heads;
  uint32_t kv_heads;
  uint32_t head_dim;
  uint32_t vocabulary;      /* tokens; also the length of a row of logits */
  uint32_t context_length;  /* tokens the model was made for */
  int32_t bos_token;        /* TSR_NO_TOKEN where the model has none, likewise below */
  int32_t eos_token;
  int32_t adds_bos;         /* 1: the model expects bos_token in front of a prompt */
  int32_t chat;             /* 1: roles work; 0: chat_template says why not */
  int32_t shares_chunks;    /* 1: chunks may be shared; 0: sharing says why not */
  uint32_t reserved;
  uint64_t parameters;
  uint64_t file_bytes;
  uint64_t weight_bytes;    /* on the device */
  uint64_t repair_modes;    /* bit r set: sessions may use tsr_repair r with this model */
  uint64_t fingerprint[2];  /* of the file's contents */
  char architecture[32];
  char name[128];
  char weight_type[32];     /* of most parameters, "Q4_1" */
  char device[64];
  char chat_template[192];  /* name of the recognised template, or why there is none */
  char sharing[192];        /* why chunks cannot be shared; empty when they can */
} tsr_model_info;

TSR_API tsr_status tsr_model_info_init(tsr_model_info *info, uint32_t struct_size);
TSR_API tsr_status tsr_model_get_info(tsr_model model, tsr_model_info *info);

/* --------------------------------------------------------------------------------------- Tokens */

/* Recognise special tokens such as <|im_start|> in the text. Without it, text from users or
 * documents cannot forge a role. */
#define TSR_TEXT_PARSE_SPECIAL UINT64_C(1)

/* Splits text into tokens; adds nothing in front. */
TSR_API tsr_status tsr_tokenize(tsr_model model, const char *text, uint64_t length, uint64_t flags,
                                int32_t *tokens, uint64_t capacity, uint64_t *count);

/* Write special tokens as their names instead of leaving them out. */
#define TSR_DETOKENIZE_SPECIAL UINT64_C(1)

/* The exact bytes of the tokens; a part of a text may end inside a UTF-8 character. An id outside
 * the vocabulary is INVALID_ARGUMENT. */
TSR_API tsr_status tsr_detokenize(tsr_model model, const int32_t *tokens, uint64_t token_count,
                                  uint64_t flags, char *text, uint64_t capacity, uint64_t *length);

/* ----------------------------------------------------------------------------------- Chat roles */

typedef int32_t tsr_role;
#define TSR_ROLE_NONE 0
#define TSR_ROLE_SYSTEM 1
#define TSR_ROLE_USER 2
#define TSR_ROLE_ASSISTANT 3

typedef struct tsr_message {
  uint32_t struct_size;
  tsr_role role;
  const char *text;
  uint64_t length;
} tsr_message;

TSR_API tsr_status tsr_message_init(tsr_message *message, uint32_t struct_size);

/* Writes messages as the model's template does, to be tokenised with TSR_TEXT_PARSE_SPECIAL, then
 * opens `open_role` (TSR_ROLE_NONE: nothing). The message texts are taken as they are: text from
 * outside belongs into a session by tsr_session_add_text, which cannot forge roles. The elements of
 * `messages` are messages[0].struct_size bytes apart; all have the same struct_size.
 * UNSUPPORTED: the template is not recognised, or has no such role. */
TSR_API tsr_status tsr_chat_format(tsr_model model, const tsr_message *messages, uint64_t count,
                                   tsr_role open_role, char *text, uint64_t capacity,
                                   uint64_t *length);

/* The system message that the template itself puts in front when there is none; may be empty. */
TSR_API tsr_status tsr_chat_default_system(tsr_model model, char *text, uint64_t capacity,
                                           uint64_t *length);

/* -------------------------------------------------------------------------------------- Context */

typedef int32_t tsr_kv_type;
#define TSR_KV_F16 0
#define TSR_KV_Q8_0 1 /* blocks of 32 with an F16 scale; half of F16 */
#define TSR_KV_F32 2  /* for the reference mode */

/* Chunks are encoded right behind the anchor; the first one behind it is then exact. */
#define TSR_CONTEXT_NO_PRIMER UINT64_C(1)

/* One KV budget, one engine thread, many chunks and sessions. */
typedef struct tsr_context_options {
  uint32_t struct_size;
  tsr_kv_type kv_type;
  uint64_t kv_budget;          /* bytes for KV pages, never exceeded; 0: 1 GiB */
  uint32_t page_size;          /* tokens a page: 8, 16, 32 or 64; 0: 16 */
  uint32_t threads;            /* CPU threads, the engine's included; 0: one for each
                                  processor that the calling thread may run on */
  uint32_t max_session_tokens; /* longest session; 0: the model's context length */
  uint32_t max_step_tokens;    /* most tokens computed between two looks at cancel; 0: by device */
  /* Anchor: the text that every session begins with, such as the system message and the opening of
   * the user's turn (tsr_chat_format writes it). Special tokens are recognised. Chunks are encoded
   * behind it; without a primer the first chunk behind it is exact. May be NULL. */
  const char *anchor;
  uint64_t anchor_length;
  /* Primer: ordinary text, best of the documents' own kind, that stands between anchor and chunk
   * while a chunk is encoded, and of which nothing is kept: it makes chunks behave as if they stood
   * in the middle of a prompt. Part of each chunk's identity, like the anchor. NULL: none with
   * TSR_CONTEXT_NO_PRIMER; else a neutral text of this library, of about 400 tokens, where a
   * session and the budget hold four times as many. */
  const char *primer;
  uint64_t primer_length;
  uint64_t flags;              /* TSR_CONTEXT_NO_PRIMER */
  /* Disk tier: a folder that keeps the KV of anchor, primer and chunks, so that a later context, of
   * this process or another, reads it instead of computing it. Several may use the folder at once,
   * whatever their models. It is made where it is missing; its parent must exist. It should belong
   * to this user alone: its files are guarded against damage, not against forgery. One that cannot
   * be written is only read. What is missing or damaged is computed; what waits to be written when
   * the context is destroyed is dropped (tsr_context_flush). Results of the gate are kept there
   * too. NULL: none. */
  const char *cache_folder;
  uint64_t cache_folder_length;
  uint64_t cache_budget;       /* bytes of all chunk files in the folder; 0: 4 GiB */
} tsr_context_options;

TSR_API tsr_status tsr_context_options_init(tsr_context_options *options, uint32_t struct_size);

/* `options` may be NULL. The anchor is computed at the first use.
 * CAPACITY: the budget does not hold the anchor, the primer and one page more, or these two fill a
 * session. NOT_FOUND: the parent of cache_folder does not exist; IO_ERROR: the folder cannot be
 * read. UNSUPPORTED: Q8_0 with heads that are no multiple of 32. INVALID_ARGUMENT: also a primer
 * with NO_PRIMER, and a cache_budget without a cache_folder. */
TSR_API tsr_status tsr_context_create(tsr_model model, const tsr_context_options *options,
                                      tsr_context *out);
TSR_API void tsr_context_destroy(tsr_context context);

/* Waits until any session of the context has an event to read and tells which (the handle that
 * created it; do not destroy it twice). TIMEOUT. */
TSR_API tsr_status tsr_context_wait(tsr_context context, int64_t timeout_ms, tsr_session *session);

/* Waits until nothing that was encoded waits to be written to the cache folder. Files that could
 * not be written are counted in tsr_metrics.store_failures; not those for which cache_budget has
 * no room, or whose KV was given up before. At once where there is no folder, or one that is only
 * read. TIMEOUT. DEVICE_LOST: what it held is not written. CANCELLED: the context was destroyed
 * meanwhile. */
TSR_API tsr_status tsr_context_flush(tsr_context context, int64_t timeout_ms);

typedef struct tsr_metrics {
  uint32_t struct_size;
  uint32_t page_size;          /* tokens */
  uint64_t page_bytes;         /* of a page of every layer group together */
  uint64_t pages_total;
  uint64_t pages_used;         /* held by chunks, prefix runs and sessions */
  uint64_t pages_cached;       /* of those, held only by caches: given back when needed */
  uint64_t pages_reserved;     /* promised to running requests, not yet used */
  uint64_t pages_peak;         /* most ever used */
  uint64_t sessions;
  uint64_t chunks;             /* distinct texts with KV in memory */
  uint64_t chunk_hits;         /* creations and openings that found KV, or found it on its way */
  uint64_t chunk_misses;       /* others: encoded or read from disk, then or when needed */
  uint64_t prefix_tokens;      /* tokens taken from prefix runs, ever */
  uint64_t shared_tokens;      /* tokens taken from chunks, ever */
  uint64_t computed_tokens;    /* tokens computed, ever, generated and drafted ones included */
  uint64_t generated_tokens;
  uint64_t steps;              /* submissions to the device */
  uint64_t drafted_tokens;     /* tried by lookup_tokens, ever */
  uint64_t accepted_tokens;    /* of those, the ones that became part of an answer */
  uint64_t chunks_loaded;      /* texts read from the disk tier, anchor and primer included, ever */
  uint64_t chunks_stored;      /* texts written to it, ever */
  uint64_t load_failures;      /* files that were there and of no use, ever */
  uint64_t store_failures;     /* texts that could not be written, ever */
  uint64_t disk_bytes;         /* of all chunk files in the folder, when last looked through */
  uint64_t evicted_chunks;     /* chunks whose KV was given up for other pages, ever */
  uint64_t evicted_runs;       /* pages of prefix runs, repaired heads included, likewise */
  uint64_t pages_pinned;       /* of pages_used, those of pinned chunks */
} tsr_metrics;

TSR_API tsr_status tsr_metrics_init(tsr_metrics *metrics, uint32_t struct_size);
TSR_API tsr_status tsr_context_get_metrics(tsr_context context, tsr_metrics *metrics);

/* --------------------------------------------------------------------------------------- Chunks */

/* Do not encode now, only when a session first needs it. */
#define TSR_CHUNK_LAZY UINT64_C(2)

typedef struct tsr_chunk_options {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t flags; /* TSR_TEXT_PARSE_SPECIAL, TSR_CHUNK_LAZY */
} tsr_chunk_options;

TSR_API tsr_status tsr_chunk_options_init(tsr_chunk_options *options, uint32_t struct_size);

/* A piece of a document whose KV is kept once and used wherever it stands, by any session of the
 * context. Tokenised on the calling thread, encoded on the engine thread; the call does not wait.
 * Two chunks of the same tokens share one encoding. KV that no session uses stays cached until the
 * budget needs its pages, and is encoded again when needed. `options` may be NULL.
 * INVALID_ARGUMENT: empty text. CAPACITY: behind anchor and primer longer than a session, or larger
 * than the budget. */
TSR_API tsr_status tsr_chunk_create_text(tsr_context context, const char *text, uint64_t length,
                                         const tsr_chunk_options *options, tsr_chunk *out);
TSR_API void tsr_chunk_destroy(tsr_chunk chunk);

/* Waits until the chunk has its KV (a lazy one: starts that). Where an encoding failed, one wait
 * returns what with, such as OUT_OF_DEVICE_MEMORY or DEVICE_LOST; the next wait or use tries again.
 * CAPACITY. TIMEOUT. */
TSR_API tsr_status tsr_chunk_wait(tsr_chunk chunk, int64_t timeout_ms);

typedef int32_t tsr_chunk_state;
#define TSR_CHUNK_ABSENT 0  /* no KV: lazy, or given back to the budget; encoded when needed */
#define TSR_CHUNK_PENDING 1 /* waiting, being encoded, or read from disk */
#define TSR_CHUNK_READY 2
#define TSR_CHUNK_FAILED 3  /* tsr_chunk_wait says why, once; tried again when needed */

typedef struct tsr_chunk_info {
  uint32_t struct_size;
  tsr_chunk_state state;
  uint64_t tokens;
  uint64_t bytes;         /* of KV, whole pages; 0 when absent */
  uint64_t uses;          /* prompts that took its KV */
  uint64_t identity[2];   /* hash over model, anchor, primer, KV type and tokens; tsr_chunk_id */
  uint64_t sessions;      /* that use its KV now */
  uint64_t disk_bytes;    /* of its file in the disk tier; 0: none */
  uint64_t cost;          /* of encoding it, in multiply-adds; what eviction weighs */
  int32_t pinned;         /* 1 or 0 */
  uint32_t reserved;
} tsr_chunk_info;

TSR_API tsr_status tsr_chunk_info_init(tsr_chunk_info *info, uint32_t struct_size);
TSR_API tsr_status tsr_chunk_get_info(tsr_chunk chunk, tsr_chunk_info *info);

/* Names a chunk of a context: tsr_chunk_info.identity. Has no struct_size and stays as it is. */
typedef struct tsr_chunk_id {
  uint64_t low;
  uint64_t high;
} tsr_chunk_id;

/* The chunks that have KV, that a handle or a session refers to, or that are pinned, in the order
 * in which they were created; then those that only the disk tier has. IO_ERROR. */
TSR_API tsr_status tsr_context_list_chunks(tsr_context context, tsr_chunk_id *ids,
                                           uint64_t capacity, uint64_t *count);

/* A handle of its own to a chunk that tsr_context_list_chunks would tell of. NOT_FOUND: there
 * is none any more, or two have this id. IO_ERROR. */
TSR_API tsr_status tsr_chunk_open(tsr_context context, const tsr_chunk_id *id, tsr_chunk *out);

/* A pinned chunk (1; 0: no longer) keeps its KV, whatever else needs pages, and whether or not it
 * has a handle: the pin is the chunk's. It does not encode: a chunk without KV keeps what it gets
 * when it is first waited for or used. To pin what is pinned changes nothing.
 * CAPACITY: running requests were promised the pages that would be kept. */
TSR_API tsr_status tsr_chunk_pin(tsr_chunk chunk, int32_t pinned);

#define TSR_DROP_MEMORY UINT64_C(1) /* its KV in pages, and its pin */
#define TSR_DROP_DISK UINT64_C(2)   /* its file in the disk tier, where there is one */

/* Gives up a chunk's KV now; flags 0 means both. The handle stays, and so does the chunk: where it
 * is used again, it is encoded again. Prefix runs that were computed behind it stay.
 * BUSY: it is being encoded, or its KV in memory was to go and sessions use it
 * (tsr_chunk_info.sessions); nothing was dropped. IO_ERROR: its file cannot be removed; its KV in
 * memory is gone. */
TSR_API tsr_status tsr_chunk_drop(tsr_chunk chunk, uint64_t flags);

/* ------------------------------------------------------------------------------------- Sessions */

/* How much of a chunk is recomputed where it stands, against how close the answer comes to that of
 * an ordinary prompt. */
typedef int32_t tsr_repair;
#define TSR_REPAIR_DEFAULT 0     /* what this release recommends; now TSR_REPAIR_HEAD_SELECT */
#define TSR_REPAIR_NONE 1        /* chunks are taken as encoded */
#define TSR_REPAIR_HEAD 2        /* their first tokens are recomputed */
#define TSR_REPAIR_SELECT 3      /* the tokens the question looks at are recomputed */
#define TSR_REPAIR_HEAD_SELECT 4 /* both */
#define TSR_REPAIR_FULL 5        /* all: an ordinary prompt, nothing shared but prefixes */

/* SELECT: every question chooses anew. Without it a chunk is chosen from once, at the first
 * question behind it, and later turns keep that. */
#define TSR_SESSION_RESELECT UINT64_C(1)

/* The question is the text behind the session's last chunk, when an answer or evaluation begins.
 * What SELECT chose is this session's own; heads serve every session that begins the same way. */
typedef struct tsr_session_options {
  uint32_t struct_size;
  tsr_repair repair;       /* tsr_model_info.repair_modes tells which work */
  uint32_t head_tokens;    /* HEAD: tokens a chunk; 0: 16 */
  float select_share;      /* SELECT: share of the chunks' tokens, 0 to 1; 0: 0.05. 1: all,
                            * heads among them */
  float select_layers;     /* SELECT: share of the layers, the last ones, that choose; 0: 1/3 */
  uint32_t event_capacity; /* events kept for the reader before the session pauses; 0: 64 */
  uint64_t flags;          /* TSR_SESSION_RESELECT */
  float max_kl;            /* nats, at most 1000: a setting for which the gate (tsr_context_gate)
                              measured a larger kl_mean is refused; 0: no limit */
  uint32_t reserved;
} tsr_session_options;

TSR_API tsr_status tsr_session_options_init(tsr_session_options *options, uint32_t struct_size);

/* `options` may be NULL. UNSUPPORTED: a repair mode that the model does not list, or a setting
 * whose measured kl_mean is above max_kl; the message gives both. NOT_FOUND: max_kl is set, the
 * repair is not FULL and the setting was never measured. */
TSR_API tsr_status tsr_session_create(tsr_context context, const tsr_session_options *options,
                                      tsr_session *out);

/* From any thread, at any time; a running generation ends. */
TSR_API void tsr_session_destroy(tsr_session session);

/* Adding appends to the session's context without computing anything. If an addition does not fit
 * the session, nothing is added: CAPACITY with the needed and available numbers. While a generation
 * is under way: BUSY. Each piece of text is tokenised by itself. */

/* The context's anchor; only as the first addition, and only where the context has one. */
TSR_API tsr_status tsr_session_add_anchor(tsr_session session);
/* flags: TSR_TEXT_PARSE_SPECIAL. Empty text adds nothing. */
TSR_API tsr_status tsr_session_add_text(tsr_session session, const char *text, uint64_t length,
                                        uint64_t flags);
TSR_API tsr_status tsr_session_add_tokens(tsr_session session, const int32_t *tokens,
                                          uint64_t count);
/* A chunk of the same context; the session keeps it alive. */
TSR_API tsr_status tsr_session_add_chunk(tsr_session session, tsr_chunk chunk);
/* What the model's template writes at the beginning and at the end of a turn. A generated answer
 * never includes the end: close the assistant's role before opening the next.
 * UNSUPPORTED: the template is not recognised. */
TSR_API tsr_status tsr_session_open_role(tsr_session session, tsr_role role);
TSR_API tsr_status tsr_session_close_role(tsr_session session, tsr_role role);

#define TSR_GENERATE_IGNORE_END UINT64_C(1) /* do not stop at the model's end tokens */

/* What is added to the logit of one token; used in arrays only. */
typedef struct tsr_logit_bias {
  int32_t token;
  float bias; /* -1000 to 1000, or -INFINITY: the token is never chosen */
} tsr_logit_bias;

/* How an answer is drawn. For each token the model's logits are changed and cut in this order:
 *   1. repetition_penalty r: the logit l of a token in the window becomes l / r where l > 0, else
 *      l * r;
 *   2. less frequency_penalty times how often the token is in the window, less presence_penalty if
 *      it is in it at all;
 *   3. plus its bias;
 *   4. temperature, then top_k, top_p, min_p; 0 takes the likeliest token instead.
 * The window is the last penalty_window tokens of the session, whether they were added (prompt,
 * chunks, anchor, earlier turns) or generated, the answer's tokens so far included. */
typedef struct tsr_generate_options {
  uint32_t struct_size;
  uint32_t max_tokens; /* 0: 256, or what is left of the session if that is less */
  float temperature;   /* 0: greedy, always the likeliest token; at most 1000 */
  float top_p;         /* smallest set of likeliest tokens that reaches this; 0 or 1: off */
  float min_p;         /* least probability, as a share of the likeliest one's; 0: off */
  uint32_t top_k;      /* the k likeliest tokens; 0: off */
  uint64_t seed;       /* same seed, options and context: same answer */
  uint64_t flags;      /* TSR_GENERATE_IGNORE_END */
  const tsr_text *stops; /* strings that end the answer and are not in its text; the tokens that
                          * were generated up to there, theirs included, stay in the session */
  uint64_t stop_count;   /* at most 16, each 1 to 256 bytes */
  float repetition_penalty; /* above 1: against repetition; 0 or 1: off; 0.01 to 100 */
  float frequency_penalty;  /* -100 to 100; 0: off */
  float presence_penalty;   /* -100 to 100; 0: off */
  uint32_t penalty_window;  /* tokens; 0: 64; more than the session holds: all of them */
  const tsr_logit_bias *biases;
  uint64_t bias_count;      /* at most 1024, each of another token */
  uint32_t logprobs;        /* likeliest tokens told with each token, at most 20: TSR_EVENT_TOKEN
                             * events come; 0: none come */
  uint32_t lookup_tokens;   /* longest draft: where the last tokens stood in the session before,
                             * those that followed them there are tried in one step. The answer is
                             * the same, sooner where it quotes. At most 64; 0: no drafts */
} tsr_generate_options;

TSR_API tsr_status tsr_generate_options_init(tsr_generate_options *options, uint32_t struct_size);

/* Starts an answer behind everything added so far and returns; read it with tsr_session_next. The
 * answer becomes part of the session.
 * CAPACITY: prompt plus max_tokens do not fit the session or, with what runs now, the KV budget
 * (the message says how many bytes are missing); the session is as before. INVALID_ARGUMENT: the
 * session is empty. `options` may be NULL. */
TSR_API tsr_status tsr_session_generate(tsr_session session, const tsr_generate_options *options);

/* Later releases may add kinds, for those who ask for them in tsr_generate_options. */
typedef int32_t tsr_event_kind;
#define TSR_EVENT_NONE 0     /* nothing is under way and nothing is left to read */
#define TSR_EVENT_PROGRESS 1 /* prompt tokens: processed of total */
#define TSR_EVENT_TEXT 2     /* text of the answer, whole UTF-8 characters */
#define TSR_EVENT_DONE 3     /* the last event of an answer; finish says why */
#define TSR_EVENT_FAILED 4   /* the last event; status and text say what went wrong */
#define TSR_EVENT_TOKEN 5    /* a token of the answer and its log-probability, where asked for */

typedef int32_t tsr_finish;
#define TSR_FINISH_NONE 0
#define TSR_FINISH_END 1       /* the model ended its turn */
#define TSR_FINISH_STOP 2      /* a stop string */
#define TSR_FINISH_LENGTH 3    /* max_tokens */
#define TSR_FINISH_CANCELLED 4 /* tsr_session_cancel */

/* A token and the natural logarithm of its probability under the logits after penalties and bias
 * (steps 1 to 3 of tsr_generate_options), before temperature and cuts. Used in arrays only. */
typedef struct tsr_token_logprob {
  int32_t token;
  float logprob;
} tsr_token_logprob;

/* With logprobs, each token of the answer has one TOKEN event, in order and in front of the TEXT
 * that the token completes. Its text may come with a later token (a character is whole, a stop
 * string did not come) or never (it is a special token, or part of a stop string). The end token
 * that ends an answer is not part of it and has none. */
typedef struct tsr_event {
  uint32_t struct_size;
  tsr_event_kind kind;
  const char *text; /* TEXT, FAILED; valid until the session's next _next or its end */
  uint64_t text_length;
  tsr_finish finish;    /* DONE */
  tsr_status status;    /* FAILED */
  uint64_t processed;   /* PROGRESS: tokens of the prompt that are ready */
  uint64_t total;       /* PROGRESS: tokens of the prompt */
  uint64_t tokens;      /* tokens generated so far */
  int32_t token;        /* TOKEN */
  float logprob;        /* TOKEN: of that token */
  const tsr_token_logprob *top; /* TOKEN: the likeliest tokens, likeliest first, ties to the lower
                                 * id; valid as long as text */
  uint64_t top_count;   /* as many as asked for; fewer where fewer are not banned */
} tsr_event;

TSR_API tsr_status tsr_event_init(tsr_event *event, uint32_t struct_size);

/* Takes the next event, waiting up to timeout_ms (0: do not wait; TSR_WAIT_FOREVER). TIMEOUT. When
 * no answer is under way and none is left to read: OK with TSR_EVENT_NONE, at once. */
TSR_API tsr_status tsr_session_next(tsr_session session, int64_t timeout_ms, tsr_event *event);

/* Ends the answer under way: at once where the device can end a step early (the CPU can), elsewhere
 * when the running step is done. Its last event is a DONE event whose finish is CANCELLED. What was
 * generated stays in the session. From any thread; fine when nothing is under way. */
TSR_API tsr_status tsr_session_cancel(tsr_session session);

typedef struct tsr_session_info {
  uint32_t struct_size;
  int32_t generating;     /* 1: an answer is under way or not yet read to its end */
  uint64_t tokens;        /* in the session, chunks included */
  uint64_t computed;      /* of those, with KV ready */
  uint64_t max_tokens;    /* the session's limit */
} tsr_session_info;

TSR_API tsr_status tsr_session_info_init(tsr_session_info *info, uint32_t struct_size);
TSR_API tsr_status tsr_session_get_info(tsr_session session, tsr_session_info *info);

/* All tokens of the session in order, chunks and answers included. */
TSR_API tsr_status tsr_session_get_tokens(tsr_session session, int32_t *tokens, uint64_t capacity,
                                          uint64_t *count);

/* A new session of the same context and options that stands where this one does: the same tokens,
 * all KV shared. From then on each goes its own way; a page that both see is copied before one of
 * them writes to it. The report comes along. BUSY: an answer is under way or not read. */
TSR_API tsr_status tsr_session_fork(tsr_session session, tsr_session *out);

/* Takes the session back to its first `tokens` tokens, wherever that is; 0 empties it. What they
 * have of KV stays, and the session goes on as one that was built up to there: what a question
 * behind them had selected is dropped, and chosen anew by the next. (With TSR_SESSION_RESELECT what
 * an earlier question had selected does not come back.) Of a chunk that is cut the first tokens
 * stay as encoded. Computes nothing.
 * INVALID_ARGUMENT: more than the session has. BUSY: an answer is under way or not read. */
TSR_API tsr_status tsr_session_rewind(tsr_session session, uint64_t tokens);

/* The session as bytes, to be kept in a file or a database: its options (but max_kl, which
 * restoring does not ask for), its tokens, and the pages
 * of KV that it computed itself (tsr_metrics.page_bytes each); chunks and the anchor as tokens.
 * `capacity` and `size` are bytes; capacity 0 saves nothing. Waits for the step under way, if any.
 * BUSY: an answer is under way or not read. */
TSR_API tsr_status tsr_session_save(tsr_session session, void *bytes, uint64_t capacity,
                                    uint64_t *size);

/* A session of this context from saved bytes; its next answer is what the saved one's would have
 * been. Chunks that the context no longer has are encoded again when that begins. Of the report
 * nothing is saved. Keep the bytes like the program's own files: a checksum finds damage, not
 * forgery.
 * CORRUPT_FILE: damaged. VERSION_MISMATCH: saved by another release, or in a context with another
 * model, math, KV type, page size, anchor or primer; the message says which. CAPACITY: longer than
 * sessions of this context may be, or its pages do not fit; nothing was taken. */
TSR_API tsr_status tsr_session_restore(tsr_context context, const void *bytes, uint64_t size,
                                       tsr_session *out);

/* Rows of logits wanted from tsr_session_evaluate: of the last token, or of every token added since
 * the last answer or evaluation (one that failed counts as far as it got) that was not shared by
 * the anchor, a chunk or a prefix run. */
#define TSR_LOGITS_LAST UINT64_C(0)
#define TSR_LOGITS_ALL UINT64_C(1)

/* Computes what was added, without generating, and writes rows of tsr_model_info.vocabulary floats,
 * the logits of the token that follows. `capacity` and `count` are floats. With TSR_LOGITS_ALL the
 * session reuses no prefix run, and may hold no chunk that is not yet computed unless its repair is
 * FULL. capacity 0 computes nothing. Blocks; tsr_session_cancel ends it with CANCELLED.
 * With nothing added since, the last token's row comes again. INVALID_ARGUMENT: the session is
 * empty. CAPACITY. */
TSR_API tsr_status tsr_session_evaluate(tsr_session session, uint64_t flags, float *logits,
                                        uint64_t capacity, uint64_t *count);

/* Where the last answer's (or evaluation's) context came from and how long it took. The four token
 * counts add up to the prompt: everything before the first new token, earlier turns included. */
typedef struct tsr_report {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t tokens_exact;       /* reused, the same as if computed here */
  uint64_t tokens_repaired;    /* of chunks, recomputed for this answer: heads, selected tokens */
  uint64_t tokens_approximate; /* reused: chunks as encoded, and what stands behind such */
  uint64_t tokens_computed;    /* computed for this answer */
  uint64_t tokens_generated;
  uint64_t bytes_shared;       /* KV pages of this session that others may use too */
  uint64_t bytes_private;
  uint64_t lookup_us;          /* finding chunks and prefix runs, waiting for encodings */
  uint64_t load_us;            /* until the last file that was waited for; not in lookup_us */
  uint64_t repair_us;          /* of prompt_us: heads, the pass that chooses, selected tokens */
  uint64_t prompt_us;          /* computing the prompt */
  uint64_t first_token_us;     /* from tsr_session_generate to the first token */
  uint64_t generate_us;        /* from the first token to the last */
  uint64_t tokens_drafted;     /* tried by lookup_tokens */
  uint64_t tokens_accepted;    /* of those, the ones that became part of the answer */
} tsr_report;

TSR_API tsr_status tsr_report_init(tsr_report *report, uint32_t struct_size);

/* Of the answer under way or the last one; all zero before the first. Where one ends before its
 * first token, its prompt's counts add up to what was ready by then. */
TSR_API tsr_status tsr_session_get_report(tsr_session session, tsr_report *report);

/* ----------------------------------------------------------------------------------------- Gate */

/* Texts of the kind that the application will share, cut into chunks. A prompt is the anchor, where
 * the context has one, then chunks of different texts, a line break and a question; behind an
 * anchor the user's role is closed and the assistant's opened, where the model's template is
 * recognised. */
typedef struct tsr_gate_options {
  uint32_t struct_size;
  uint32_t chunk_tokens;  /* of a chunk; a shorter text is one chunk, a shorter rest is left out;
                             0: 256 */
  const tsr_session_options *session; /* the setting to measure; NULL: the default one. Its flags,
                             event_capacity and max_kl do not count */
  const tsr_text *texts;
  uint64_t text_count;    /* 2 to 65536 */
  const tsr_text *questions; /* put in turn */
  uint64_t question_count;   /* at most 65536; 0: two of this library, after a fact and for
                              a summary */
  uint32_t chunks;        /* a prompt; 0: 4, or as many as the texts give */
  uint32_t max_prompts;   /* fewer where the texts give fewer; 0: 8 */
  uint32_t answer_tokens; /* longest answer; 0: 24 */
  uint32_t reserved;
} tsr_gate_options;

/* The setting, and how far it was from full prefill. KL is of full prefill's distribution against
 * the setting's, in nats, at each token of full prefill's greedy answer. */
typedef struct tsr_gate_result {
  uint32_t struct_size;
  tsr_repair repair;    /* never DEFAULT */
  uint32_t head_tokens; /* this and the next two: 0 where the repair does not use them */
  float select_share;
  float select_layers;
  float kl_mean;        /* over all tokens */
  float kl_first;       /* over the first token of each answer */
  float kl_p90;         /* 90 % of the tokens are not above it */
  float top1;           /* share of the tokens where both have the same likeliest one */
  float recomputed;     /* share of the chunks' tokens that the setting computes in place */
  uint64_t prompts;
  uint64_t tokens;      /* of all answers */
} tsr_gate_result;

TSR_API tsr_status tsr_gate_options_init(tsr_gate_options *options, uint32_t struct_size);
TSR_API tsr_status tsr_gate_result_init(tsr_gate_result *result, uint32_t struct_size);

/* Measures a setting and stores the result in place of what was known of it: in the context, and in
 * its cache folder where it has one (if that cannot be written, the log says so). A result belongs
 * to the model, math, KV type, page size, anchor, primer, repair, head_tokens, select_share and
 * select_layers; what was measured with others is never found. The same texts and options give the
 * same numbers.
 * Blocks, for as long as reading all prompts twice takes; other sessions of the context go on.
 * CAPACITY: a prompt, once as an ordinary one and once shared, does not fit beside what runs.
 * CANCELLED: the context was destroyed. */
TSR_API tsr_status tsr_context_gate(tsr_context context, const tsr_gate_options *options,
                                    tsr_gate_result *result);

/* What was measured for a setting (NULL: the default one). NOT_FOUND: it never was. */
TSR_API tsr_status tsr_context_get_gate(tsr_context context, const tsr_session_options *options,
                                        tsr_gate_result *result);

#ifdef __cplusplus
}
#endif

#endif /* TESSERA_TESSERA_H */
