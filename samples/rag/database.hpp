// SQLite with RAII and exceptions: only what the library needs.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace rag {

struct DatabaseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One prepared statement: bind from 1, step to each row, read columns from 0.
class Statement {
 public:
  Statement(sqlite3* database, std::string_view sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, std::string_view text);  // copied

  // True while there is a row.
  bool step();
  // Runs a statement without rows; it may be bound and run again.
  void run();

  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;

 private:
  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
};

class Database {
 public:
  enum class Mode { kReadOnly, kCreate };  // kCreate: also writes, and makes a missing file

  Database(const std::string& path, Mode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  Statement prepare(std::string_view sql) { return Statement(database_, sql); }
  void execute(const char* sql);
  std::int64_t last_insert_id() const;

 private:
  sqlite3* database_ = nullptr;
};

// Takes effect as a whole with commit(), or not at all.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace rag
