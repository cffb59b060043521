// What the tests of the disk tier share: contexts with a folder, and a prompt that fills it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/fuzz/temp_folder.hpp"
#include "tests/unit/engine/fixture.hpp"

namespace tessera::test {

// Of a folder, in order, those whose names begin so.
std::vector<std::filesystem::path> files(const std::string& folder, const std::string& kind = "");
std::vector<char> bytes_of(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::vector<char>& bytes);

// Deletes and damages files of a folder all the time while it lives.
class Vandal {
 public:
  explicit Vandal(const std::string& folder);
  ~Vandal();

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Options with an anchor and a primer; without a folder where its name is empty.
tsr::ContextOptions disk_options(const std::string& folder, uint64_t pages = 512);

inline constexpr uint64_t kChunks = 3;
// Logits behind anchor, three chunks of other lengths and a question.
std::vector<float> ask(tsr::Session& session, const tsr::Context& context, uint64_t seed = 0);
std::vector<float> ask(const tsr::Context& context, uint64_t seed = 0);

class DiskFixture : public EngineTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  static tsr::ContextOptions with(const std::string& folder, uint64_t pages = 512) {
    return disk_options(folder, pages);
  }
  tsr::Context warmable(const std::string& folder = "", uint64_t pages = 512) {
    return context(with(folder.empty() ? path_ : folder, pages));
  }
  const std::vector<float>& wanted() {
    if (wanted_.empty()) wanted_ = ask(context(with("")));
    return wanted_;
  }
  // Answers, and waits until all that was encoded is in the folder: anchor, primer and chunks.
  void warm(const std::string& folder = "");
  // A context that meets whatever is in the folder answers as always and forgets nothing.
  tsr::Metrics expect_as_always(const std::string& folder = "");

  TempFolder temp_;
  std::string path_ = temp_.file("cache");
  std::vector<float> wanted_;
  size_t descriptors_ = 0;
};

}  // namespace tessera::test
