#include "samples/rag/library.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "samples/rag/query.hpp"

namespace rag {
namespace {
namespace fs = std::filesystem;

class LibraryFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("tessera_library_" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name = "library.db") { return (folder_ / name).string(); }
  void make() {
    Library library(path(), Library::Access::kWrite);
    library.put_file({"/a.txt", 5, 0, 0}, "a.txt", "alpha", {Passage{0, 5, 1, 1}});
  }
  // What opening the file fails with, "" where it does not.
  std::string refusal(const std::string& file, Library::Access access) {
    try {
      Library library(file, access);
      return "";
    } catch (const DatabaseError& error) {
      return error.what();
    }
  }
  void expect_refused(const std::string& file, const std::string& message) {
    for (const Library::Access access : {Library::Access::kRead, Library::Access::kWrite}) {
      const std::string said = refusal(file, access);
      EXPECT_NE(said.find(message), std::string::npos) << said;
      EXPECT_NE(said.find(file), std::string::npos) << said;
    }
  }

  fs::path folder_;
};

TEST_F(LibraryFile, IsReadAfterAWriterWasEnded) {
  make();
  const pid_t child = fork();
  if (child == 0) {
    // A small cache, so that SQLite writes to the file before the transaction is complete.
    Database database(path(), Database::Mode::kCreate);
    database.execute(
        "PRAGMA cache_size = 1; BEGIN IMMEDIATE; "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
        "INSERT INTO files(path, name, size, modified_ns, hash) "
        "SELECT '/' || i, hex(zeroblob(100)), 0, 0, 0 FROM n");
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(fs::exists(path() + "-journal")) << "nothing was left half written";
  Library library(path(), Library::Access::kRead);
  EXPECT_EQ(library.search(match_expression("alpha"), 10).size(), 1u);
  EXPECT_EQ(library.files_below("/"), std::vector<std::string>{"/a.txt"});
}

TEST_F(LibraryFile, ReadersDoNotWrite) {
  make();
  Library library(path(), Library::Access::kRead);
  EXPECT_THROW(library.remove_file("/a.txt"), DatabaseError);
  fs::permissions(path(), fs::perms::owner_read);
  EXPECT_EQ(refusal(path(), Library::Access::kRead), "");
}

TEST_F(LibraryFile, OtherProgramsFilesAreLeftAlone) {
  for (const char* sql : {"CREATE TABLE theirs(x)", "CREATE TABLE theirs(x); PRAGMA user_version=1",
                          "PRAGMA application_id = 7"}) {
    fs::remove(path("theirs.db"));
    Database(path("theirs.db"), Database::Mode::kCreate).execute(sql);
    expect_refused(path("theirs.db"), "is not a library of tessera-rag");
    Database after(path("theirs.db"), Database::Mode::kReadOnly);
    Statement tables = after.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'files'");
    ASSERT_TRUE(tables.step());
    EXPECT_EQ(tables.integer(0), 0);
  }
}

TEST_F(LibraryFile, WhatIsNoDatabaseIsRefused) {
  std::ofstream(path("text.db")) << std::string(2000, 'x');
  expect_refused(path("text.db"), "not a database");
  expect_refused(folder_.string(), "is a folder");
  EXPECT_NE(refusal(path("none.db"), Library::Access::kRead), "");
  EXPECT_FALSE(fs::exists(path("none.db")));
}

TEST_F(LibraryFile, AnEmptyFileBecomesOne) {
  std::ofstream(path("empty.db")).flush();
  EXPECT_EQ(refusal(path("empty.db"), Library::Access::kWrite), "");
  EXPECT_EQ(refusal(path("empty.db"), Library::Access::kRead), "");
}

// Format 1 had no primer: readers take it as it is, the first writer brings it up to date.
TEST_F(LibraryFile, OneOfAnOlderReleaseGoesOn) {
  make();
  Database(path(), Database::Mode::kCreate).execute("DROP TABLE primer; PRAGMA user_version = 1");
  const auto format = [&] {
    Database file(path(), Database::Mode::kReadOnly);
    Statement version = file.prepare("PRAGMA user_version");
    return version.step() ? version.integer(0) : -1;
  };
  {
    Library library(path(), Library::Access::kRead);
    EXPECT_EQ(library.primer(), "");
    EXPECT_EQ(library.search(match_expression("alpha"), 10).size(), 1u);
  }
  EXPECT_EQ(format(), 1);
  {
    Library library(path(), Library::Access::kWrite);
    EXPECT_EQ(library.primer(), "");
    library.set_primer("ordinary text");
    EXPECT_EQ(library.search(match_expression("alpha"), 10).size(), 1u);
  }
  EXPECT_EQ(format(), 2);
  EXPECT_EQ(Library(path(), Library::Access::kRead).primer(), "ordinary text");
}

TEST_F(LibraryFile, AnotherFormatIsToldByItsNumber) {
  make();
  Database(path(), Database::Mode::kCreate).execute("PRAGMA user_version = 7");
  expect_refused(path(), "format 7");
}

}  // namespace
}  // namespace rag
