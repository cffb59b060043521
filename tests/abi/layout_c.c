/* layout.inc in C99, where a false check is an array of negative length. */
#include <stddef.h>

#include "tessera/tessera.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define CHECK(condition) typedef char JOIN(check_, __COUNTER__)[(condition) ? 1 : -1]

#define SIZE(type, first, now) CHECK(sizeof(type) == (now) && (now) >= (first));
#define FIELD(type, field, offset, bytes) \
  CHECK(offsetof(type, field) == (offset) && sizeof(((type*)0)->field) == (bytes));
#define VALUE(constant, value) CHECK((constant) == (value));
#define TYPE(name, type) CHECK(sizeof(name) == sizeof(type) && (name)(-1) < 0);

#include "layout.inc"

/* A call through C linkage, so that the header is also linked against from C. */
uint32_t layout_c_abi_version(void);
uint32_t layout_c_abi_version(void) {
  return tsr_abi_version();
}
