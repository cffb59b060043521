// The library: files and their passages in SQLite, found again by FTS5 and BM25.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "samples/rag/database.hpp"
#include "samples/rag/passages.hpp"

namespace rag {

// What is known of an indexed file; enough to see that it has not changed.
struct FileRecord {
  std::string path;  // absolute
  std::uint64_t size{};
  std::int64_t modified_ns{};
  std::uint64_t hash{};
};

struct Hit {
  std::string path;  // absolute
  std::string name;  // relative to the folder that was indexed
  std::string text;
  std::string excerpt;    // about twenty words of text around those that were searched for
  std::uint64_t begin{};  // bytes into the file
  std::uint64_t end{};
  std::uint32_t line{};  // of the first byte, from 1
  double score{};        // BM25, larger is better
};

// A passage as an answer's prompt shows it: with its file's name, and without a number, so that it
// is the same text in every prompt.
std::string prompt_text(const std::string& name, std::string_view body);

// Not for several threads at once; several processes may read while one writes. Every call throws
// DatabaseError.
class Library {
 public:
  enum class Access { kRead, kWrite };

  // kWrite makes the file where there is none, and brings one of an older release up to date; kRead
  // reads that as it is, and fails where there is none. Both fail on a file that is not a library.
  Library(const std::string& path, Access access);

  std::optional<FileRecord> find_file(const std::string& path);
  // Indexed files below `folder` (absolute, without a slash at the end).
  std::vector<std::string> files_below(const std::string& folder);

  // Replaces all that is known of a file, in one transaction: after a crash the library has the old
  // passages or the new ones.
  void put_file(const FileRecord& file, const std::string& name, std::string_view text,
                const std::vector<Passage>& passages);
  // The contents are the same, only the times have changed.
  void touch_file(const FileRecord& file);
  void remove_file(const std::string& path);

  // Removes the traces of deleted text from the index (FTS5 leaves them until then).
  void optimize();

  std::uint64_t passage_count();
  std::uint64_t token_count();  // of all passages

  // The text that passages are computed behind; empty: none is stored. It stays as it is while the
  // library changes, so that what was computed behind it stays of use.
  std::string primer();
  void set_primer(std::string_view text);
  // The first passages as prompts show them, so many that they have `tokens` tokens, if there are.
  std::string first_text(std::uint64_t tokens);

  // The `limit` passages that match `expression` (match_expression) best, best first; of equal ones
  // the one that was indexed first.
  std::vector<Hit> search(const std::string& expression, std::uint32_t limit);

 private:
  std::int64_t number(std::string_view sql);  // first column of the first row
  bool is_empty();
  void create_tables();
  void bring_up_to_date();
  void erase(const std::string& path);

  Database database_;
};

}  // namespace rag
