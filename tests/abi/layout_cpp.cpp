// layout.inc in C++: the same static checks, and that what the compiled library reports fits.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <type_traits>

#include "tessera/tessera.h"

#define SIZE(type, first, now)                                                  \
  static_assert(sizeof(type) == (now) && (now) >= (first), #type " has grown"); \
  static_assert(std::is_standard_layout_v<type> && std::is_trivial_v<type>);    \
  static_assert(alignof(type) <= 8);
#define FIELD(type, field, offset, bytes)                                          \
  static_assert(offsetof(type, field) == (offset), #type "." #field " has moved"); \
  static_assert(sizeof(type::field) == (bytes), #type "." #field " has another size");
#define VALUE(constant, value) static_assert((constant) == (value), #constant " was renumbered");
#define TYPE(name, type) static_assert(std::is_same_v<name, type>);
#include "layout.inc"
#undef SIZE
#undef FIELD
#undef VALUE
#undef TYPE

extern "C" uint32_t layout_c_abi_version(void);

namespace {

// No implicit padding: a byte that no field owns could never be given to one later.
TEST(Layout, FieldsTileEveryStruct) {
  size_t end = 0;
  size_t size = 0;
  std::string last;
#define SIZE(type, first, now)  \
  EXPECT_EQ(end, size) << last; \
  last = #type;                 \
  size = sizeof(type);          \
  end = 0;
#define FIELD(type, field, offset, bytes)                          \
  EXPECT_EQ(static_cast<size_t>(offset), end) << #type "." #field; \
  end = (offset) + (bytes);
#define VALUE(constant, value)
#define TYPE(name, type)
#include "layout.inc"
#undef SIZE
#undef FIELD
#undef VALUE
#undef TYPE
  EXPECT_EQ(end, size) << last;
  EXPECT_EQ(last, "tsr_report");
}

TEST(Layout, LibraryHasTheHeadersVersion) {
  EXPECT_EQ(tsr_abi_version(), TSR_ABI_VERSION);
  EXPECT_EQ(layout_c_abi_version(), TSR_ABI_VERSION);
  EXPECT_STREQ(tsr_version(), TESSERA_VERSION);
}

TEST(Layout, EveryStatusHasItsName) {
  const char* const names[] = {"TSR_OK",
                               "TSR_INVALID_ARGUMENT",
                               "TSR_OUT_OF_HOST_MEMORY",
                               "TSR_OUT_OF_DEVICE_MEMORY",
                               "TSR_DEVICE_LOST",
                               "TSR_UNSUPPORTED",
                               "TSR_CANCELLED",
                               "TSR_CAPACITY",
                               "TSR_NOT_FOUND",
                               "TSR_CORRUPT_FILE",
                               "TSR_VERSION_MISMATCH",
                               "TSR_BUSY",
                               "TSR_INTERNAL",
                               "TSR_TIMEOUT",
                               "TSR_IO_ERROR",
                               "TSR_BUFFER_TOO_SMALL"};
  for (tsr_status s = 0; s < 16; ++s) EXPECT_STREQ(tsr_status_name(s), names[s]);
  for (tsr_status s : {-1, 16, 17, 1000, INT32_MAX, INT32_MIN}) {
    EXPECT_STREQ(tsr_status_name(s), "TSR_UNKNOWN") << s;
  }
}

}  // namespace
