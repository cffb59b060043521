// A device that is the CPU, and whose KV pages a test can read.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace tessera::test {

// Adds the device "watched". Any thread; more than once is fine.
void register_watched_device();

// Contents of pages by (layer group, page), those that are all zero left out.
using PageContents = std::map<std::pair<uint32_t, uint32_t>, std::vector<uint8_t>>;

// Of the pages that the device created last. They must still exist, and nothing may be computing.
PageContents read_watched_pages();

}  // namespace tessera::test
