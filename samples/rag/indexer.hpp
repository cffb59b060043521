// Brings a library up to date with a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "samples/rag/library.hpp"

namespace rag {

inline constexpr std::size_t kPassageTokens = 250;

enum class Outcome { kIndexed, kUnchanged, kSkipped, kRemoved };

// What became of one file (or hidden folder).
struct FileOutcome {
  std::string name;  // relative to the folder
  Outcome outcome;
  std::string reason;        // kSkipped: why
  std::uint64_t passages{};  // kIndexed
  std::uint64_t done{};      // files looked at so far, this one included
  std::uint64_t total{};     // files to look at
};

struct IndexResult {
  std::uint64_t indexed{}, unchanged{}, skipped{}, removed{};
};

// How far the cutting of a file has come: its name, bytes done, bytes in all.
using FileProgress = std::function<void(const std::string&, std::size_t, std::size_t)>;

// Looks at each regular file below `folder` in the order of names; hidden ones are skipped, links
// to folders are not followed. A file whose size and time are those of last time is unchanged, and
// so is one whose contents are; other files are cut into passages and replace what the library had
// of them. A file that is gone, or can no longer be indexed, is removed. `count` is called only if
// a file has to be cut, `progress` (may be empty) for every piece of it. Throws DatabaseError,
// std::filesystem::filesystem_error (a folder that is missing or cannot be listed; then nothing was
// changed) and what the callbacks throw; files reported by then stay indexed.
IndexResult index_folder(Library& library, const std::filesystem::path& folder,
                         const TokenCounter& count,
                         const std::function<void(const FileOutcome&)>& report,
                         const FileProgress& progress = {});

}  // namespace rag
