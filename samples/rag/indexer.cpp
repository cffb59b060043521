#include "samples/rag/indexer.hpp"

#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "samples/rag/text_file.hpp"

namespace rag {
namespace fs = std::filesystem;
namespace {

struct Found {
  fs::path path;
  std::string skipped;  // known already from the folder
};

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

// A listing that ends early would pass for a folder whose other files are gone.
void check_listing(const fs::path& folder, const std::error_code& error) {
  if (error) throw fs::filesystem_error("a folder cannot be read to its end", folder, error);
}

void list_files(const fs::path& folder, std::vector<Found>& found) {
  std::error_code error;
  fs::directory_iterator entry(folder, error), end;
  check_listing(folder, error);
  while (entry != end) {
    const fs::path path = entry->path();
    std::error_code unknown;
    const bool is_folder = entry->is_directory(unknown);
    if (is_hidden(path)) {
      found.push_back({path, "hidden"});
    } else if (is_folder && entry->is_symlink(unknown)) {
      found.push_back({path, "link to a folder"});
    } else if (is_folder && access(path.c_str(), R_OK | X_OK) != 0) {
      found.push_back({path, "folder cannot be read"});
    } else if (is_folder) {
      list_files(path, found);
    } else {
      found.push_back({path, entry->is_regular_file(unknown) ? "" : "not a regular file"});
    }
    entry.increment(error);
    check_listing(folder, error);
  }
}

std::vector<Found> list_files(const fs::path& folder) {
  std::vector<Found> found;
  list_files(folder, found);
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.path < b.path; });
  return found;
}

class FolderIndexer {
 public:
  FolderIndexer(Library& library, const TokenCounter& count, const FileProgress& progress)
      : library_(library), count_(count), progress_(progress) {}

  FileOutcome look_at(const Found& found, const std::string& name) {
    if (!found.skipped.empty()) return {name, Outcome::kSkipped, found.skipped};
    // Names stand in prompts and in JSON.
    if (find_invalid_utf8(name) != std::string::npos)
      return {name, Outcome::kSkipped, "its name is not UTF-8"};
    const std::string path = found.path.string();
    const std::optional<FileRecord> known = library_.find_file(path);
    if (known && same_times(*known, found.path)) return {name, Outcome::kUnchanged, ""};
    const TextFile file = read_text_file(found.path);
    if (!file.skipped.empty()) return {name, Outcome::kSkipped, file.skipped};

    const FileRecord record{path, file.text.size(), file.modified_ns, file.hash};
    if (known && known->hash == record.hash && known->size == record.size) {
      library_.touch_file(record);
      return {name, Outcome::kUnchanged, ""};
    }
    const std::vector<Passage> passages = cut(name, file.text);
    library_.put_file(record, name, file.text, passages);
    changed_ = changed_ || known;
    return {name, Outcome::kIndexed, "", passages.size()};
  }

  void remove(const std::string& path) {
    library_.remove_file(path);
    changed_ = true;
  }

  // Whether old text was deleted.
  bool changed() const { return changed_; }

 private:
  std::vector<Passage> cut(const std::string& name, std::string_view text) {
    // What stands in front of a piece that is counted is cut already.
    return split_passages(text, kPassageTokens, [&](std::string_view piece) {
      if (progress_)
        progress_(name, static_cast<std::size_t>(piece.data() - text.data()), text.size());
      return count_(piece);
    });
  }

  static bool same_times(const FileRecord& known, const fs::path& path) {
    std::error_code error;
    const std::uint64_t size = fs::file_size(path, error);
    if (error || size != known.size) return false;
    return modification_ns(path, error) == known.modified_ns && !error;
  }

  Library& library_;
  const TokenCounter& count_;
  const FileProgress& progress_;
  bool changed_ = false;
};

}  // namespace

IndexResult index_folder(Library& library, const fs::path& folder, const TokenCounter& count,
                         const std::function<void(const FileOutcome&)>& report,
                         const FileProgress& progress) {
  const fs::path root = fs::canonical(folder);
  const std::vector<Found> found = list_files(root);
  const std::vector<std::string> known = library.files_below(root.string());
  std::set<std::string> gone(known.begin(), known.end());

  IndexResult result;
  FolderIndexer indexer(library, count, progress);
  std::uint64_t done = 0;
  const auto tell = [&](FileOutcome outcome) {
    outcome.done = done;
    outcome.total = found.size();
    report(outcome);
  };
  for (const Found& file : found) {
    ++done;
    FileOutcome outcome = indexer.look_at(file, file.path.lexically_relative(root).string());
    if (outcome.outcome != Outcome::kSkipped) gone.erase(file.path.string());
    result.indexed += outcome.outcome == Outcome::kIndexed;
    result.unchanged += outcome.outcome == Outcome::kUnchanged;
    result.skipped += outcome.outcome == Outcome::kSkipped;
    tell(std::move(outcome));
  }
  for (const std::string& path : gone) {
    indexer.remove(path);
    ++result.removed;
    tell({fs::path(path).lexically_relative(root).string(), Outcome::kRemoved, ""});
  }
  if (indexer.changed()) library.optimize();
  return result;
}

}  // namespace rag
