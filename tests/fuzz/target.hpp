// What the fuzz test does with a file.
#pragma once

#include <string>

namespace tessera::test {

// Loads `path` as far as the library can. True when it loads, false when it is refused cleanly,
// with an Error that names the file; anything else (another exception, a crash, a leak) is a bug.
bool try_load(const std::string& path);

}  // namespace tessera::test
