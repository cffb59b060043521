// A folder of chunk files, and all that happens to folders: real file systems that are full or only
// read, names that are not ours, other processes, kill -9.
#include "runtime/kv/chunk_folder.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/kv/chunk_sample.hpp"

namespace tessera::kv::test {
namespace {

namespace fs = std::filesystem;
using tessera::test::TempFolder;

constexpr uint64_t kPlenty = uint64_t{1} << 30;

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

std::set<std::string> names(const fs::path& folder) {
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.insert(entry.path().filename());
  return found;
}

std::string name_of(const ChunkHead& head) {
  return file_name(head.kind, head.identity, head.tokens.size());
}

std::vector<uint8_t> bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& path, std::span<const uint8_t> bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  ASSERT_TRUE(out) << path;
}

bool publish(ChunkFolder& folder, const ChunkHead& head, std::span<const Identity> keep = {}) {
  std::vector<uint8_t> file = sample_pages(head);
  return folder.publish(head, file, keep);
}

// Into pages of 700 bytes, the last one shorter. True: they hold what they should.
Loaded load_pages(ChunkFolder& folder, const ChunkHead& head, std::string& why, bool& right) {
  std::vector<uint8_t> bytes(head.page_bytes);
  std::vector<std::span<uint8_t>> pages;
  for (uint64_t at = 0; at < bytes.size(); at += 700) {
    pages.push_back(std::span(bytes).subspan(at, std::min<uint64_t>(700, bytes.size() - at)));
  }
  const Loaded how = folder.load(head, pages, why);
  const std::vector<uint8_t> file = sample_pages(head);
  right = same(bytes, std::span(file).subspan(head.pages_offset(), head.page_bytes));
  return how;
}

Loaded load(ChunkFolder& folder, const ChunkHead& head, std::string* told = nullptr) {
  std::string why;
  bool right = false;
  const Loaded how = load_pages(folder, head, why, right);
  EXPECT_EQ(why.empty(), how == Loaded::good || how == Loaded::missing) << why;
  EXPECT_TRUE(how != Loaded::good || right);
  if (told) *told = why;
  return how;
}

// What the folder's constructor says.
Status status_of(const std::string& path, std::string& message) {
  try {
    ChunkFolder folder(path, kPlenty);
    return Status::ok;
  } catch (const Error& error) {
    message = error.what();
    return error.status();
  }
}

class ChunkFolderTest : public testing::Test {
 protected:
  void SetUp() override { descriptors_ = open_descriptors(); }
  void TearDown() override { EXPECT_EQ(open_descriptors(), descriptors_); }

  TempFolder temp_;
  std::string path_ = temp_.file("cache");
  size_t descriptors_ = 0;
};

// A small file system of its own, where the system allows mounts.
class Mount {
 public:
  explicit Mount(const std::string& path) : path_(path) {
    fs::create_directory(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, "size=256k") == 0;
  }
  ~Mount() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  explicit operator bool() const { return mounted_; }
  bool read_only(bool on) {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | (on ? MS_RDONLY : 0),
                   "size=256k") == 0;
  }

 private:
  std::string path_;
  bool mounted_;
};

TEST_F(ChunkFolderTest, WhatIsPublishedIsFound) {
  const ChunkHead head = sample_head(1), other = sample_head(2);
  {
    ChunkFolder folder(path_, kPlenty);
    EXPECT_EQ(folder.read_only(), "");
    EXPECT_EQ(load(folder, head), Loaded::missing);
    EXPECT_TRUE(publish(folder, head));
    EXPECT_EQ(folder.bytes(), head.file_bytes());
    EXPECT_FALSE(publish(folder, head)) << "it is there";
    EXPECT_EQ(load(folder, head), Loaded::good);
    EXPECT_EQ(load(folder, other), Loaded::missing);
  }
  ChunkFolder folder(path_, kPlenty);
  EXPECT_EQ(folder.bytes(), head.file_bytes());
  EXPECT_EQ(load(folder, head), Loaded::good);
  EXPECT_EQ(names(path_), std::set<std::string>{name_of(head)});
  const std::vector<FolderEntry> entries = folder.list();
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].identity, head.identity);
  EXPECT_EQ(entries[0].tokens, head.tokens.size());
  EXPECT_EQ(entries[0].bytes, head.file_bytes());
  EXPECT_EQ(folder.head_of(entries[0]), head);
  EXPECT_TRUE(folder.remove(entries[0]));
  EXPECT_FALSE(folder.remove(entries[0]));
  EXPECT_FALSE(folder.head_of(entries[0]));
  EXPECT_EQ(load(folder, head), Loaded::missing);
}

TEST_F(ChunkFolderTest, OnlyItsUserMayLook) {
  const mode_t mask = ::umask(0);
  ChunkFolder folder(path_, kPlenty);
  const ChunkHead head = sample_head(1);
  publish(folder, head);
  ::umask(mask);
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(path_ + "/" + name_of(head)).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(ChunkFolderTest, FoldersThatCannotBe) {
  std::string message;
  EXPECT_EQ(status_of(path_ + "/deeper", message), Status::not_found);
  EXPECT_NE(message.find(path_ + "/deeper"), std::string::npos) << message;
  write_file(path_, {});
  EXPECT_EQ(status_of(path_, message), Status::io_error);
  EXPECT_NE(message.find(path_), std::string::npos) << message;
  EXPECT_EQ(status_of(path_ + "/below", message), Status::io_error);
  EXPECT_EQ(status_of(std::string(5000, 'x'), message), Status::io_error);
}

// Whatever has a name like ours and is no file of ours is not followed, waited for or taken.
TEST_F(ChunkFolderTest, NamesThatAreNotOurs) {
  const ChunkHead link = sample_head(1), fifo = sample_head(2), directory = sample_head(3),
                  dangling = sample_head(4);
  const std::string outside = temp_.file("outside");
  write_file(outside, sample_file(link));
  ChunkFolder folder(path_, kPlenty);
  fs::create_symlink(outside, path_ + "/" + name_of(link));
  fs::create_symlink(temp_.file("nowhere"), path_ + "/" + name_of(dangling));
  ASSERT_EQ(::mkfifo((path_ + "/" + name_of(fifo)).c_str(), 0600), 0);
  fs::create_directory(path_ + "/" + name_of(directory));
  const std::string hex = "0123456789abcdef0123456789abcdef";
  for (const std::string name :
       {"x", "chunk-.tsrkv", "chunk-12-3.tsrkv", ".tsrkv", "-", "tmp-", "tmp", "chunk",
        "other-0123456789abcdef0123456789abcdef-3.tsrkv",
        "chunk-0123456789abcdef0123456789abcdef-03.tsrkv",
        "chunk-0123456789abcdef0123456789abcdef-.tsrkv",
        "chunk-0123456789abcdef0123456789abcdef--3.tsrkv",
        "chunk-0123456789ABCDEF0123456789abcdef-3.tsrkv",
        "chunk-0123456789abcdef0123456789abcdef-99999999999999999999.tsrkv",
        "chunk-0123456789abcdef0123456789abcdef-3.tsrkv.bak",
        "chunk-0x23456789abcdef0123456789abcdef-3.tsrkv"}) {
    write_file(path_ + "/" + name, {});
  }
  const std::set<std::string> before = names(path_);
  EXPECT_TRUE(folder.list().empty());
  for (const ChunkHead& head : {link, fifo, directory, dangling}) {
    EXPECT_EQ(load(folder, head), Loaded::unreadable);
    EXPECT_FALSE(folder.head_of({head.kind, head.identity, head.tokens.size(), 0, 0}));
  }
  EXPECT_EQ(names(path_), before);
  EXPECT_TRUE(publish(folder, link)) << "takes the link's place";
  EXPECT_EQ(load(folder, link), Loaded::good);
  EXPECT_FALSE(fs::is_symlink(path_ + "/" + name_of(link)));
  EXPECT_TRUE(same(bytes_of(outside), sample_file(link))) << "what it named is as it was";
  EXPECT_THROW(publish(folder, directory), Error);
  EXPECT_EQ(names(path_), before) << "no half-written file is left";
}

TEST_F(ChunkFolderTest, DamagedFilesAreDropped) {
  ChunkFolder folder(path_, kPlenty);
  const ChunkHead head = sample_head(1);
  const std::string file = path_ + "/" + name_of(head);
  const std::vector<uint8_t> good = sample_file(head);
  std::string why;
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{71}, good.size() - 1}) {
    write_file(file, std::span(good).first(bytes));
    EXPECT_EQ(load(folder, head, &why), Loaded::damaged) << bytes;
    EXPECT_NE(why.find(file), std::string::npos) << why;
    EXPECT_FALSE(fs::exists(file));
  }
  std::vector<uint8_t> bad = good;
  bad[bad.size() / 2] ^= 4;
  write_file(file, bad);
  EXPECT_EQ(load(folder, head), Loaded::damaged);
  EXPECT_FALSE(fs::exists(file));
  write_file(file, sample_file(sample_head(2)));
  EXPECT_EQ(load(folder, head), Loaded::damaged) << "a file that was renamed";
  EXPECT_TRUE(publish(folder, head));
  EXPECT_EQ(load(folder, head), Loaded::good);
}

TEST_F(ChunkFolderTest, ACollisionLeavesTheFirst) {
  ChunkFolder folder(path_, kPlenty);
  const ChunkHead first = sample_head(1);
  ChunkHead second = first, foreign = first;
  second.tokens[3] ^= 1;
  foreign.fingerprint.low ^= 1;
  EXPECT_TRUE(publish(folder, first));
  for (const ChunkHead& head : {second, foreign}) {
    EXPECT_EQ(load(folder, head), Loaded::other);
    EXPECT_FALSE(publish(folder, head));
  }
  EXPECT_EQ(load(folder, first), Loaded::good);
}

// Holes take no room, but say that they have bytes.
TEST_F(ChunkFolderTest, AHugeFile) {
  ChunkFolder folder(path_, kPlenty);
  const ChunkHead head = sample_head(1);
  const std::string file = path_ + "/" + name_of(head);
  write_file(file, sample_file(head));
  fs::resize_file(file, uint64_t{1} << 40);
  EXPECT_FALSE(folder.head_of(folder.list()[0]));
  EXPECT_EQ(load(folder, head), Loaded::damaged);
}

void set_age(const std::string& file, int64_t seconds) {
  fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
}

TEST_F(ChunkFolderTest, TheBudgetHolds) {
  std::vector<ChunkHead> heads;
  for (uint64_t i = 0; i < 6; ++i) heads.push_back(sample_head(i + 1));
  const uint64_t bytes = heads[0].file_bytes();
  ChunkFolder folder(path_, 4 * bytes);
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(publish(folder, heads[i]));
    set_age(path_ + "/" + name_of(heads[i]), 1000 - static_cast<int64_t>(i) * 100);
  }
  EXPECT_EQ(load(folder, heads[0]), Loaded::good);  // used now
  const std::vector<Identity> keep = {heads[1].identity};
  EXPECT_TRUE(publish(folder, heads[4], keep));
  EXPECT_EQ(folder.bytes(), 4 * bytes);
  EXPECT_EQ(load(folder, heads[2]), Loaded::missing) << "unused longest, but one that is kept";
  for (const int i : {0, 1, 3, 4}) EXPECT_EQ(load(folder, heads[i]), Loaded::good) << i;
  std::vector<Identity> all;
  for (const ChunkHead& head : heads) all.push_back(head.identity);
  EXPECT_FALSE(publish(folder, heads[5], all)) << "all in use";
  EXPECT_EQ(folder.list().size(), 4u);
  EXPECT_FALSE(publish(folder, sample_head(9, 40, 5 * bytes))) << "larger than the budget";
  EXPECT_EQ(folder.list().size(), 4u);
}

TEST_F(ChunkFolderTest, WhatCostsMoreABytesStays) {
  const ChunkHead many = sample_head(1, 200, 2400), few = sample_head(2, 40, 2400);
  const ChunkHead next = sample_head(3, 100, 2400);
  ChunkFolder folder(path_, many.file_bytes() + next.file_bytes());
  publish(folder, many);
  publish(folder, few);
  set_age(path_ + "/" + name_of(many), 100);
  set_age(path_ + "/" + name_of(few), 90);
  EXPECT_TRUE(publish(folder, next));
  EXPECT_EQ(load(folder, many), Loaded::good);
  EXPECT_EQ(load(folder, few), Loaded::missing);
}

// Half-written files of the dead go, those of the living stay.
TEST_F(ChunkFolderTest, HalfWrittenFiles) {
  fs::create_directory(path_);
  const std::string dead = path_ + "/tmp-1-0.tsrkv", living = path_ + "/tmp-2-0.tsrkv";
  write_file(dead, sample_file(sample_head(1)));
  write_file(living, {});
  const int held = ::open(living.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(held, LOCK_EX), 0);
  fs::create_symlink(temp_.file("outside"), path_ + "/tmp-3-0.tsrkv");
  {
    ChunkFolder folder(path_, kPlenty);
    EXPECT_EQ(names(path_), (std::set<std::string>{"tmp-2-0.tsrkv", "tmp-3-0.tsrkv"}));
    EXPECT_TRUE(publish(folder, sample_head(1)));
  }
  ::close(held);
  ChunkFolder folder(path_, kPlenty);
  EXPECT_FALSE(fs::exists(living));
}

TEST_F(ChunkFolderTest, AFolderThatIsGone) {
  ChunkFolder folder(path_, kPlenty);
  const ChunkHead head = sample_head(1);
  EXPECT_TRUE(publish(folder, head));
  fs::remove_all(path_);
  EXPECT_EQ(load(folder, head), Loaded::missing);
  EXPECT_THROW(publish(folder, head), Error);
  fs::create_directory(path_);
  EXPECT_EQ(load(folder, head), Loaded::missing) << "another folder of the same name";
}

// A real file system of 256 KiB.
TEST_F(ChunkFolderTest, AFullDisk) {
  Mount mount(path_);
  if (!mount) GTEST_SKIP() << "cannot mount a file system here";
  {
    ChunkFolder folder(path_, kPlenty);
    std::vector<ChunkHead> stored;
    std::string message;
    for (uint64_t i = 0; i < 20 && message.empty(); ++i) {
      const ChunkHead head = sample_head(i, 40, 30'000);
      try {
        EXPECT_TRUE(publish(folder, head));
        stored.push_back(head);
      } catch (const Error& error) {
        EXPECT_EQ(error.status(), Status::io_error);
        message = error.what();
      }
    }
    EXPECT_NE(message.find("No space left"), std::string::npos) << message;
    EXPECT_GE(stored.size(), 5u);
    EXPECT_EQ(folder.list().size(), stored.size());
    EXPECT_EQ(names(path_).size(), stored.size()) << "no half-written file is left";
    for (const ChunkHead& head : stored) EXPECT_EQ(load(folder, head), Loaded::good);
    folder.remove(folder.list()[0]);
    EXPECT_TRUE(publish(folder, sample_head(99, 40, 20'000)));
  }
}

TEST_F(ChunkFolderTest, AReadOnlyFileSystem) {
  Mount mount(path_);
  if (!mount) GTEST_SKIP() << "cannot mount a file system here";
  const ChunkHead head = sample_head(1), damaged = sample_head(2);
  {
    ChunkFolder folder(path_, kPlenty);
    EXPECT_TRUE(publish(folder, head));
    const std::vector<uint8_t> file = sample_file(damaged);
    write_file(path_ + "/" + name_of(damaged), std::span(file).first(100));
    write_file(path_ + "/tmp-1-0.tsrkv", {});
  }
  ASSERT_TRUE(mount.read_only(true));
  ChunkFolder folder(path_, kPlenty);
  EXPECT_NE(folder.read_only(), "");
  EXPECT_EQ(load(folder, head), Loaded::good);
  EXPECT_EQ(load(folder, damaged), Loaded::damaged);
  EXPECT_FALSE(publish(folder, sample_head(3)));
  EXPECT_THROW(folder.remove(folder.list()[0]), Error);
  EXPECT_EQ(names(path_).size(), 3u);
  std::string message;
  EXPECT_EQ(status_of(path_ + "/new", message), Status::io_error);
  EXPECT_NE(message.find("Read-only"), std::string::npos) << message;
}

// It became so while it was open.
TEST_F(ChunkFolderTest, AFileSystemThatTurnsReadOnly) {
  Mount mount(path_);
  if (!mount) GTEST_SKIP() << "cannot mount a file system here";
  ChunkFolder folder(path_, kPlenty);
  EXPECT_TRUE(publish(folder, sample_head(1)));
  ASSERT_TRUE(mount.read_only(true));
  EXPECT_THROW(publish(folder, sample_head(2)), Error);
  EXPECT_EQ(load(folder, sample_head(1)), Loaded::good);
  ASSERT_TRUE(mount.read_only(false));
  EXPECT_TRUE(publish(folder, sample_head(2)));
}

// What runs in a process of its own; returns its exit status, or the signal that ended it,
// negative.
template <typename Action>
int in_child(Action action) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(action());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// A write beyond the limit would end the process with SIGXFSZ.
TEST_F(ChunkFolderTest, ALimitOfTheSizeOfFiles) {
  ChunkFolder folder(path_, kPlenty);
  const int status = in_child([&] {
    const rlimit limit = {1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    try {
      publish(folder, sample_head(1));
      return 2;
    } catch (const Error& error) {
      return error.status() == Status::io_error ? 0 : 3;
    }
  });
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(names(path_).empty());
}

// Processes publish the same texts, and take them away again, at the same time.
TEST_F(ChunkFolderTest, ManyProcessesAtOnce) {
  constexpr uint64_t kTexts = 8;
  const auto work = [&](uint64_t seed) {
    Random random(seed);
    ChunkFolder folder(path_, 5 * sample_head(0).file_bytes());
    std::string why;
    bool right = false;
    for (int i = 0; i < 300; ++i) {
      const ChunkHead head = sample_head(random.below(kTexts));
      switch (random.below(4)) {
        case 0:
          folder.remove({head.kind, head.identity, head.tokens.size(), 0, 0});
          break;
        case 1:
          publish(folder, head);
          break;
        default:
          const Loaded how = load_pages(folder, head, why, right);
          if (how == Loaded::missing) continue;
          if (how != Loaded::good || !right) return 1;
      }
    }
    return 0;
  };
  std::vector<pid_t> children;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        ::_exit(work(seed));
      } catch (...) {
        ::_exit(2);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  ChunkFolder folder(path_, kPlenty);
  for (const FolderEntry& entry : folder.list()) EXPECT_TRUE(folder.head_of(entry));
  for (const std::string& name : names(path_)) EXPECT_TRUE(name.starts_with("chunk-")) << name;
}

// A process that is killed at any moment leaves whole files or none.
void kill_while_publishing(const std::string& path, int tries, uint64_t seed) {
  Random random(seed);
  int half_written = 0, whole = 0;
  for (int i = 0; i < tries && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("try " + std::to_string(i));
    fs::remove_all(path);
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe(ready.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ChunkFolder folder(path, kPlenty);
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      for (uint64_t text = 0;; ++text) publish(folder, sample_head(text % 500, 40, 200'000));
    }
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(20000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    for (const std::string& name : names(path)) half_written += name.starts_with("tmp-");
    ChunkFolder folder(path, kPlenty);
    const size_t files = folder.list().size();
    EXPECT_EQ(names(path).size(), files) << "what was half written is gone";
    for (uint64_t text = 0; text < files; ++text) {
      EXPECT_EQ(load(folder, sample_head(text, 40, 200'000)), Loaded::good) << text;
    }
    whole += static_cast<int>(files);
    EXPECT_TRUE(publish(folder, sample_head(1000)));
  }
  EXPECT_GT(whole, 0);
  std::cout << tries << " kills, " << half_written << " files half written, " << whole
            << " whole\n";
}

TEST_F(ChunkFolderTest, KilledWhilePublishing) {
  kill_while_publishing(path_, 10, 1);
}

TEST(FullChunkFolder, KilledWhilePublishing) {
  const TempFolder temp;
  kill_while_publishing(temp.file("cache"), 200, 2);
}

void flip_bits(const std::string& path, int flips, uint64_t seed) {
  Random random(seed);
  ChunkFolder folder(path, kPlenty);
  const ChunkHead head = sample_head(1);
  const std::vector<uint8_t> good = sample_file(head);
  for (int i = 0; i < flips; ++i) {
    std::vector<uint8_t> bad = good;
    const uint64_t bit = random.below(bad.size() * 8);
    bad[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    write_file(path + "/" + name_of(head), bad);
    EXPECT_EQ(load(folder, head), Loaded::damaged) << "bit " << bit;
    EXPECT_TRUE(folder.list().empty());
  }
}

TEST_F(ChunkFolderTest, FlippedBits) {
  flip_bits(path_, 50, 1);
}

TEST(FullChunkFolder, AThousandFlippedBits) {
  const TempFolder temp;
  flip_bits(temp.file("cache"), 1000, 2);
}

}  // namespace
}  // namespace tessera::kv::test
