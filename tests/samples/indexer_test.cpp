#include "samples/rag/indexer.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <stdexcept>

#include "samples/rag/query.hpp"

namespace rag {
namespace {
namespace fs = std::filesystem;

class Indexer : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("tessera_indexer_" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, std::string_view text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    // A file system's clock may be coarser than this test: every write gets a time of its own.
    fs::last_write_time(folder_ / name,
                        fs::file_time_type::clock::now() + std::chrono::seconds(++clock_));
  }
  IndexResult index() {
    outcomes_.clear();
    return index_folder(library_, folder_, count_,
                        [&](const FileOutcome& file) { outcomes_[file.name] = file; });
  }
  std::size_t hits(const std::string& question) {
    return library_.search(match_expression(question), 10).size();
  }

  fs::path folder_;
  int clock_ = 0;
  std::size_t counted_ = 0;  // calls of the token counter
  TokenCounter count_ = [this](std::string_view text) { return ++counted_, text.size() / 4; };
  Library library_{":memory:", Library::Access::kWrite};
  std::map<std::string, FileOutcome> outcomes_;
};

TEST_F(Indexer, SaysOfEachFileWhatBecameOfIt) {
  write("a.txt", "alpha");
  write("sub/b.md", "beta");
  write("empty.txt", "");
  write("binary.bin", std::string_view("\x7F\x45\0", 3));
  write(".hidden/secret.txt", "gamma");
  const IndexResult result = index();
  EXPECT_EQ(result.indexed, 2u);
  EXPECT_EQ(result.skipped, 3u);
  EXPECT_EQ(outcomes_.at("sub/b.md").passages, 1u);
  EXPECT_EQ(outcomes_.at("empty.txt").reason, "empty");
  EXPECT_EQ(outcomes_.at("binary.bin").reason, "not text: zero byte at offset 2");
  EXPECT_EQ(outcomes_.at(".hidden").reason, "hidden");
  EXPECT_EQ(hits("alpha"), 1u);
  EXPECT_EQ(hits("gamma"), 0u);
}

TEST_F(Indexer, SecondRunReadsOnlyWhatChanged) {
  write("a.txt", "alpha");
  write("b.txt", "beta");
  index();
  const std::size_t counted = counted_;
  EXPECT_EQ(index().unchanged, 2u);
  write("a.txt", "alpha");  // a new time, the same contents
  EXPECT_EQ(index().unchanged, 2u);
  EXPECT_EQ(counted_, counted);
  write("a.txt", "omega");
  const IndexResult result = index();
  EXPECT_EQ(result.indexed, 1u);
  EXPECT_EQ(result.unchanged, 1u);
  EXPECT_EQ(hits("alpha"), 0u);
  EXPECT_EQ(hits("omega"), 1u);
}

TEST_F(Indexer, FilesThatAreGoneOrUnreadableLeaveTheLibrary) {
  write("a.txt", "alpha");
  write("b.txt", "beta");
  write("c.txt", "kappa");
  index();
  fs::remove(folder_ / "a.txt");
  write("b.txt", std::string_view("be\0ta", 5));
  const IndexResult result = index();
  EXPECT_EQ(result.removed, 2u);
  EXPECT_EQ(result.skipped, 1u);
  EXPECT_EQ(outcomes_.at("a.txt").outcome, Outcome::kRemoved);
  EXPECT_EQ(hits("alpha"), 0u);
  EXPECT_EQ(hits("beta"), 0u);
  EXPECT_EQ(hits("kappa"), 1u);
}

TEST_F(Indexer, AnotherFolderIsLeftAlone) {
  write("one/a.txt", "alpha");
  write("one-more/b.txt", "beta");
  index();
  fs::remove_all(folder_ / "one");
  fs::create_directories(folder_ / "one");
  const IndexResult result =
      index_folder(library_, folder_ / "one", count_, [](const FileOutcome&) {});
  EXPECT_EQ(result.removed, 1u);
  EXPECT_EQ(hits("beta"), 1u);
}

TEST_F(Indexer, AFailureLeavesTheOldPassages) {
  write("a.txt", "alpha");
  index();
  write("a.txt", "omega");
  const TokenCounter failing = [](std::string_view) -> std::size_t {
    throw std::runtime_error("no model");
  };
  EXPECT_THROW(index_folder(library_, folder_, failing, [](const FileOutcome&) {}),
               std::runtime_error);
  EXPECT_EQ(hits("alpha"), 1u);
}

// A folder that cannot be opened, here for want of file descriptors, is not an empty one.
TEST_F(Indexer, AFolderThatCannotBeListedRemovesNothing) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the check of virtual calls needs file descriptors itself";
#endif
  write("a/b/c/d/e/f/deep.txt", "alpha");
  index();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(STDERR_FILENO);  // the first number that is free
  close(next);
  const rlimit few{static_cast<rlim_t>(next) + 3, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::string message;
  try {
    index();
  } catch (const fs::filesystem_error& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_NE(message.find((folder_ / "a/b").string()), std::string::npos) << message;
  EXPECT_EQ(hits("alpha"), 1u);
}

TEST_F(Indexer, NamesThatAreNotUtf8AreSkipped) {
  write("caf\xE9.txt", "alpha");
  write("caf\xC3\xA9.txt", "beta");
  const IndexResult result = index();
  EXPECT_EQ(result.indexed, 1u);
  EXPECT_EQ(outcomes_.at("caf\xE9.txt").reason, "its name is not UTF-8");
  EXPECT_EQ(hits("alpha"), 0u);
}

TEST_F(Indexer, LinksToFoldersAreNotFollowed) {
  write("a/a.txt", "alpha");
  fs::create_directory_symlink(folder_, folder_ / "loop");
  index();
  EXPECT_EQ(outcomes_.at("loop").reason, "link to a folder");
  EXPECT_EQ(hits("alpha"), 1u);
}

TEST_F(Indexer, ProgressGrowsWithinAFile) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "line " + std::to_string(i) + "\n";
  write("a.txt", text);
  std::vector<std::size_t> steps;
  index_folder(
      library_, folder_, count_, [](const FileOutcome&) {},
      [&](const std::string& name, std::size_t done, std::size_t total) {
        EXPECT_EQ(name, "a.txt");
        EXPECT_EQ(total, text.size());
        steps.push_back(done);
      });
  ASSERT_GE(steps.size(), 100u);
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  EXPECT_LT(steps.back(), text.size());
}

TEST_F(Indexer, NoSuchFolder) {
  EXPECT_THROW(index_folder(library_, folder_ / "nowhere", count_, [](const FileOutcome&) {}),
               fs::filesystem_error);
}

}  // namespace
}  // namespace rag
