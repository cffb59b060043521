#include "samples/rag/library.hpp"

#include "samples/rag/query.hpp"

namespace rag {
namespace {

// PRAGMA application_id, which tells a library from other programs' files: "TsrL".
constexpr std::int64_t kApplication = 0x5473724C;
// PRAGMA user_version of the tables below. Format 1 had no primer.
constexpr std::int64_t kFormat = 2;
constexpr std::int64_t kWithoutPrimer = 1;

// passage_text.rowid = passages.id. `name` is searched too, so that a question may name a file.
constexpr const char* kTables = R"(
  CREATE TABLE files(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, name TEXT NOT NULL, size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL, hash INTEGER NOT NULL);
  CREATE TABLE passages(
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL, first INTEGER NOT NULL, past INTEGER NOT NULL,
    line INTEGER NOT NULL, tokens INTEGER NOT NULL);
  CREATE INDEX passages_of_file ON passages(file);
  CREATE VIRTUAL TABLE passage_text USING fts5(
    name, body, bigrams, tokenize = 'porter unicode61 remove_diacritics 2');
  CREATE TABLE primer(text TEXT NOT NULL);
  PRAGMA application_id = 0x5473724C;
  PRAGMA user_version = 2;
)";

constexpr const char* kFromFormat1 =
    "CREATE TABLE primer(text TEXT NOT NULL); PRAGMA user_version = 2";

Database::Mode mode_of(Library::Access access) {
  return access == Library::Access::kRead ? Database::Mode::kReadOnly : Database::Mode::kCreate;
}

}  // namespace

std::string prompt_text(const std::string& name, std::string_view body) {
  return "From \"" + name + "\":\n" + std::string(body) + "\n\n";
}

Library::Library(const std::string& path, Access access) : database_(path, mode_of(access)) {
  // Two processes may be making it: the second waits here and finds the tables of the first.
  if (access == Access::kWrite && is_empty()) create_tables();
  if (number("PRAGMA application_id") != kApplication)
    throw DatabaseError(path +
                        " is not a library of tessera-rag: index the folder into a new file");
  if (access == Access::kWrite) bring_up_to_date();
  const std::int64_t format = number("PRAGMA user_version");
  if (format != kFormat && format != kWithoutPrimer)
    throw DatabaseError("library " + path + " has format " + std::to_string(format) +
                        ", this program reads " + std::to_string(kWithoutPrimer) + " and " +
                        std::to_string(kFormat) + ": index the folder into a new file");
}

std::int64_t Library::number(std::string_view sql) {
  Statement statement = database_.prepare(sql);
  return statement.step() ? statement.integer(0) : 0;
}

bool Library::is_empty() {
  return number("PRAGMA application_id") == 0 && number("PRAGMA user_version") == 0 &&
         number("SELECT count(*) FROM sqlite_master") == 0;
}

void Library::create_tables() {
  Transaction transaction(database_);
  if (is_empty()) database_.execute(kTables);
  transaction.commit();
}

void Library::bring_up_to_date() {
  if (number("PRAGMA user_version") != kWithoutPrimer) return;
  Transaction transaction(database_);  // another process may have been quicker
  if (number("PRAGMA user_version") == kWithoutPrimer) database_.execute(kFromFormat1);
  transaction.commit();
}

std::optional<FileRecord> Library::find_file(const std::string& path) {
  Statement find = database_.prepare("SELECT size, modified_ns, hash FROM files WHERE path = ?");
  if (!find.bind(1, path).step()) return std::nullopt;
  return FileRecord{path, static_cast<std::uint64_t>(find.integer(0)), find.integer(1),
                    static_cast<std::uint64_t>(find.integer(2))};
}

std::vector<std::string> Library::files_below(const std::string& folder) {
  const std::string prefix = folder == "/" ? folder : folder + "/";
  Statement find =
      database_.prepare("SELECT path FROM files WHERE substr(path, 1, length(?1)) = ?1");
  find.bind(1, prefix);
  std::vector<std::string> paths;
  while (find.step()) paths.push_back(find.text(0));
  return paths;
}

void Library::erase(const std::string& path) {
  database_
      .prepare(
          "DELETE FROM passage_text WHERE rowid IN (SELECT id FROM passages WHERE file = "
          "(SELECT id FROM files WHERE path = ?))")
      .bind(1, path)
      .run();
  database_.prepare("DELETE FROM passages WHERE file = (SELECT id FROM files WHERE path = ?)")
      .bind(1, path)
      .run();
  database_.prepare("DELETE FROM files WHERE path = ?").bind(1, path).run();
}

void Library::put_file(const FileRecord& file, const std::string& name, std::string_view text,
                       const std::vector<Passage>& passages) {
  Transaction transaction(database_);
  erase(file.path);
  database_.prepare("INSERT INTO files(path, name, size, modified_ns, hash) VALUES(?, ?, ?, ?, ?)")
      .bind(1, file.path)
      .bind(2, name)
      .bind(3, static_cast<std::int64_t>(file.size))
      .bind(4, file.modified_ns)
      .bind(5, static_cast<std::int64_t>(file.hash))
      .run();
  const std::int64_t file_id = database_.last_insert_id();
  Statement place = database_.prepare(
      "INSERT INTO passages(file, first, past, line, tokens) VALUES(?, ?, ?, ?, ?)");
  Statement index =
      database_.prepare("INSERT INTO passage_text(rowid, name, body, bigrams) VALUES(?, ?, ?, ?)");
  for (const Passage& passage : passages) {
    place.bind(1, file_id)
        .bind(2, static_cast<std::int64_t>(passage.begin))
        .bind(3, static_cast<std::int64_t>(passage.end))
        .bind(4, static_cast<std::int64_t>(passage.line))
        .bind(5, static_cast<std::int64_t>(passage.tokens))
        .run();
    const std::int64_t passage_id = database_.last_insert_id();
    const std::string_view body = text.substr(passage.begin, passage.end - passage.begin);
    index.bind(1, passage_id).bind(2, name).bind(3, body).bind(4, cjk_bigrams(body)).run();
  }
  transaction.commit();
}

void Library::touch_file(const FileRecord& file) {
  database_.prepare("UPDATE files SET size = ?, modified_ns = ? WHERE path = ?")
      .bind(1, static_cast<std::int64_t>(file.size))
      .bind(2, file.modified_ns)
      .bind(3, file.path)
      .run();
}

void Library::remove_file(const std::string& path) {
  Transaction transaction(database_);
  erase(path);
  transaction.commit();
}

void Library::optimize() {
  database_.execute("INSERT INTO passage_text(passage_text) VALUES('optimize')");
}

std::uint64_t Library::passage_count() {
  return static_cast<std::uint64_t>(number("SELECT count(*) FROM passages"));
}

std::uint64_t Library::token_count() {
  return static_cast<std::uint64_t>(number("SELECT coalesce(sum(tokens), 0) FROM passages"));
}

std::string Library::primer() {
  if (number("PRAGMA user_version") == kWithoutPrimer) return "";
  Statement find = database_.prepare("SELECT text FROM primer");
  return find.step() ? find.text(0) : "";
}

void Library::set_primer(std::string_view text) {
  Transaction transaction(database_);
  database_.execute("DELETE FROM primer");
  database_.prepare("INSERT INTO primer(text) VALUES(?)").bind(1, text).run();
  transaction.commit();
}

std::string Library::first_text(std::uint64_t tokens) {
  Statement find = database_.prepare(
      "SELECT t.name, t.body, p.tokens FROM passages p JOIN passage_text t ON t.rowid = p.id "
      "ORDER BY p.id");
  std::string text;
  std::uint64_t counted = 0;
  while (counted < tokens && find.step()) {
    text += prompt_text(find.text(0), find.text(1));
    counted += static_cast<std::uint64_t>(find.integer(2));
  }
  return text;
}

std::vector<Hit> Library::search(const std::string& expression, std::uint32_t limit) {
  std::vector<Hit> hits;
  if (expression.empty()) return hits;
  // bm25() is smaller for better matches; a word in the file's name counts half.
  Statement find = database_.prepare(
      "SELECT f.path, f.name, t.body, snippet(passage_text, 1, '', '', '...', 20), "
      "p.first, p.past, p.line, -bm25(passage_text, 0.5, 1, 1) AS s "
      "FROM passage_text t JOIN passages p ON p.id = t.rowid JOIN files f ON f.id = p.file "
      "WHERE passage_text MATCH ? ORDER BY s DESC, p.id LIMIT ?");
  find.bind(1, expression).bind(2, static_cast<std::int64_t>(limit));
  while (find.step())
    hits.push_back({find.text(0), find.text(1), find.text(2), find.text(3),
                    static_cast<std::uint64_t>(find.integer(4)),
                    static_cast<std::uint64_t>(find.integer(5)),
                    static_cast<std::uint32_t>(find.integer(6)), find.real(7)});
  return hits;
}

}  // namespace rag
