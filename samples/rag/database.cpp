#include "samples/rag/database.hpp"

#include <sqlite3.h>

#include <filesystem>

namespace rag {
namespace {

constexpr int kBusyTimeoutMs = 5000;  // another process may be writing

void check(sqlite3* database, int code, int expected = SQLITE_OK) {
  if (code == expected) return;
  const char* path = sqlite3_db_filename(database, "main");
  throw DatabaseError("library " + std::string(path ? path : "") + ": " + sqlite3_errmsg(database));
}

}  // namespace

Statement::Statement(sqlite3* database, std::string_view sql) : database_(database) {
  check(database, sqlite3_prepare_v2(database, sql.data(), static_cast<int>(sql.size()),
                                     &statement_, nullptr));
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

Statement& Statement::bind(int index, std::int64_t value) {
  check(database_, sqlite3_bind_int64(statement_, index, value));
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  check(database_, sqlite3_bind_text64(statement_, index, text.data() ? text.data() : "",
                                       text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  check(database_, code, SQLITE_DONE);
  return false;
}

void Statement::run() {
  step();
  check(database_, sqlite3_reset(statement_));
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double Statement::real(int column) const {
  return sqlite3_column_double(statement_, column);
}

std::string Statement::text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_, column);
  const auto length = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  return text ? std::string(reinterpret_cast<const char*>(text), length) : std::string();
}

Database::Database(const std::string& path, Mode mode) {
  if (std::filesystem::is_directory(path)) throw DatabaseError("library " + path + " is a folder");
  // A reader opens for writing where it may (SQLite sees to that): what a process left half written
  // when it was ended has to be taken back first.
  const int flags = SQLITE_OPEN_READWRITE | (mode == Mode::kCreate ? SQLITE_OPEN_CREATE : 0);
  if (sqlite3_open_v2(path.c_str(), &database_, flags, nullptr) != SQLITE_OK) {
    const std::string reason = database_ ? sqlite3_errmsg(database_) : "out of memory";
    sqlite3_close(database_);
    throw DatabaseError("library " + path + ": " + reason);
  }
  sqlite3_busy_timeout(database_, kBusyTimeoutMs);
  if (mode == Mode::kReadOnly) execute("PRAGMA query_only = 1");
}

Database::~Database() {
  sqlite3_close(database_);
}

void Database::execute(const char* sql) {
  check(database_, sqlite3_exec(database_, sql, nullptr, nullptr, nullptr));
}

std::int64_t Database::last_insert_id() const {
  return sqlite3_last_insert_rowid(database_);
}

Transaction::Transaction(Database& database) : database_(database) {
  database_.execute("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
  if (!open_) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const DatabaseError&) {
    // SQLite has rolled back by itself
  }
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace rag
