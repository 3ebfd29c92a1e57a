// The cache of packed weights: found again by what was packed, believed only when whole, shared, never needed.
#include "delegates/int4/packing/cache.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "delegates/int4/delegate.h"
#include "delegates/int4/test/layers.h"

namespace tfq::int4 {
namespace {

// A folder that goes with the test.
class Folder {
 public:
  Folder() { path_ = mkdtemp(path_.data()); }
  ~Folder() {
    for (const std::string& file : files()) std::remove(file.c_str());
    rmdir(path_.c_str());
  }

  const std::string& path() const { return path_; }
  std::set<std::string> files() const {
    std::set<std::string> files;
    DIR* folder = opendir(path_.c_str());
    while (const dirent* entry = readdir(folder)) {
      if (entry->d_name[0] != '.') files.insert(path_ + "/" + entry->d_name);
    }
    closedir(folder);
    return files;
  }

 private:
  std::string path_ = testing::TempDir() + "tfq_cache_XXXXXX";
};

std::string Read(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void Write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::vector<ino_t> Inodes(const std::set<std::string>& files) {
  std::vector<ino_t> inodes;
  for (const std::string& file : files) {
    struct stat status = {};
    stat(file.c_str(), &status);
    inodes.push_back(status.st_ino);
  }
  return inodes;
}

CacheKey KeyOfText(const std::string& text) {
  CacheKey key;
  key.Add(text.data(), text.size());
  return key;
}

PackedMemory Bytes(const std::string& text) {
  const auto copy = std::make_shared<std::string>(text);
  return {std::shared_ptr<const uint8_t>(copy, reinterpret_cast<const uint8_t*>(copy->data())), text.size()};
}

TEST(CacheKey, DiffersByEveryBitAndByWhereThePiecesEnd) {
  const std::string text = "seventeen letters";
  std::set<std::pair<uint64_t, uint64_t>> keys;
  const auto add = [&](const CacheKey& key) { return keys.insert({key.low, key.high}).second; };
  EXPECT_TRUE(add(KeyOfText(text)));
  EXPECT_FALSE(add(KeyOfText(text)));
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string other = text;
    other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(add(KeyOfText(other)));
  }
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    CacheKey key;
    key.Add(text.data(), cut);
    key.Add(text.data() + cut, text.size() - cut);
    EXPECT_TRUE(add(key)) << cut;
  }
}

TEST(Cache, GivesBackWhatWasStored) {
  const Folder folder;
  const std::string packed(1000, 'x');
  EXPECT_EQ(MapCached(folder.path(), KeyOfText("a"), packed.size()).data(), nullptr);
  ASSERT_EQ(StoreCached(folder.path(), KeyOfText("a"), Bytes(packed)), "");
  const PackedMemory mapped = MapCached(folder.path(), KeyOfText("a"), packed.size());
  ASSERT_NE(mapped.data(), nullptr);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(mapped.data()), mapped.size), packed);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped.data()) % kPackedAlignment, 0u);
  EXPECT_EQ(MapCached(folder.path(), KeyOfText("b"), packed.size()).data(), nullptr);
  EXPECT_EQ(MapCached(folder.path(), KeyOfText("a"), packed.size() - 1).data(), nullptr);
}

TEST(Cache, DoesNotBelieveADamagedFile) {
  const Folder folder;
  const std::string packed = "packed weights of some layer";
  ASSERT_EQ(StoreCached(folder.path(), KeyOfText("a"), Bytes(packed)), "");
  const std::string path = *folder.files().begin();
  const std::string whole = Read(path);
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 0x10);
    Write(path, damaged);
    EXPECT_EQ(MapCached(folder.path(), KeyOfText("a"), packed.size()).data(), nullptr) << byte;
  }
  for (const std::string& text :
       {whole.substr(0, whole.size() - 1), whole + "x", std::string(), std::string("foreign")}) {
    Write(path, text);
    EXPECT_EQ(MapCached(folder.path(), KeyOfText("a"), packed.size()).data(), nullptr);
  }
  Write(path, whole);
  EXPECT_NE(MapCached(folder.path(), KeyOfText("a"), packed.size()).data(), nullptr);
}

// Runs a layer of each kind through a delegate.
void RunThroughDelegate(const std::string& cache) {
  Options options;
  options.cpu = BestCpuTier();
  options.match = Match::kLiteRt;
  options.cache = cache;
  LayerMaker maker(3);
  FakeGraph graph;
  Image image = maker.AddInput(&graph, {1, 6, 5, 8});
  for (const OpKind kind : {OpKind::kConv, OpKind::kDepthwise, OpKind::kDense}) {
    Layer layer;
    layer.kind = kind;
    layer.keep_num_dims = true;
    image = maker.AddLayer(&graph, layer, image);
  }
  Int4Delegate delegate(options);
  testing::internal::CaptureStderr();
  ASSERT_EQ(delegate.get()->Prepare(graph.context(), delegate.get()), abi::Status::kOk);
  testing::internal::GetCapturedStderr();
  ASSERT_EQ(graph.Prepare(), abi::Status::kOk) << graph.errors();
  ASSERT_EQ(graph.Invoke(), abi::Status::kOk) << graph.errors();
  EXPECT_EQ(graph.Values(image.tensor), image.values);
}

TEST(Cache, ServesADelegateAndIsMendedWhenDamaged) {
  const Folder folder;
  RunThroughDelegate(folder.path());
  const std::set<std::string> files = folder.files();
  ASSERT_EQ(files.size(), 3u);
  std::vector<std::string> texts;
  for (const std::string& file : files) texts.push_back(Read(file));

  // What lies there serves: a layer that was packed again would have a new file.
  const std::vector<ino_t> before = Inodes(files);
  RunThroughDelegate(folder.path());
  EXPECT_EQ(folder.files(), files);
  EXPECT_EQ(Inodes(files), before);

  for (const std::string& file : files) Write(file, Read(file).substr(0, 70));
  RunThroughDelegate(folder.path());
  size_t i = 0;
  for (const std::string& file : files) EXPECT_EQ(Read(file), texts[i++]);
}

TEST(Cache, IsDoneWithoutWhereItCannotBeWritten) { RunThroughDelegate("/nonexistent/folder"); }

}  // namespace
}  // namespace tfq::int4
