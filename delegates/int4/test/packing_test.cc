// Reading int4 as it lies in the file, against the vectors that the Python packer is tested with, and the channel
// section.
#include "delegates/int4/packing/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "delegates/int4/packing/channel_blocks.h"
#include "delegates/int4/packing/gemm_blocks.h"
#include "delegates/int4/packing/joined_nibbles.h"
#include "delegates/int4/test/golden.h"

namespace tfq::int4 {
namespace {

TEST(Packing, ReadsTheNibblesThatPythonWrites) {
  const auto rows = ReadGolden("int4_packing.tsv");
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    const size_t count = row[0];
    ASSERT_EQ(row.size(), 1 + count + (count + 1) / 2);
    const std::vector<uint8_t> bytes(row.begin() + 1 + count, row.end());
    const WeightValues values = {bytes.data(), 4};
    EXPECT_EQ(ValueBytes(count, 4), bytes.size());
    int64_t sum = 0;
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(ValueAt(values, i), row[1 + i]) << "value " << i << " of " << count;
      sum += row[1 + i];
    }
    EXPECT_EQ(SumOfWeights(values, 0, count, 1), sum);
  }
}

TEST(Packing, UnpacksAnyStretchToUnsigned) {
  const uint8_t bytes[] = {0x21, 0x83, 0xf5, 0x7e};
  for (const int32_t bits : {4, 8}) {
    const WeightValues values = {bytes, bits};
    const int32_t size = 4 * 8 / bits;
    for (int32_t begin = 0; begin <= size; ++begin) {
      for (int32_t count = 0; begin + count <= size; ++count) {
        std::vector<uint8_t> unpacked(static_cast<size_t>(count) + 1, 77);
        const int32_t sum = UnpackUnsigned(values, static_cast<size_t>(begin), count, unpacked.data());
        EXPECT_EQ(sum, SumOfWeights(values, static_cast<size_t>(begin), static_cast<size_t>(count), 1));
        for (int32_t i = 0; i < count; ++i) {
          const int32_t value = ValueAt(values, static_cast<size_t>(begin + i));
          EXPECT_EQ(unpacked[static_cast<size_t>(i)], value + (bits == 4 ? 8 : 128));
        }
        EXPECT_EQ(unpacked.back(), 77) << "wrote past the end";
      }
    }
  }
}

TEST(Packing, SumsWeightsThatStandApart) {
  const uint8_t bytes[] = {0x21, 0x43, 0xf5};  // as int4 1 2 3 4 5 -1
  EXPECT_EQ(SumOfWeights({bytes, 4}, 1, 3, 2), 2 + 4 - 1);
  EXPECT_EQ(SumOfWeights({bytes, 4}, 0, 2, 3), 1 + 4);
  EXPECT_EQ(SumOfWeights({bytes, 8}, 0, 2, 2), 0x21 - 11);
}

// A block of four output channels, groups of two input channels, three of them: the last is not there.
TEST(Packing, BlocksPutHalfOfTheChannelsIntoHighNibbles) {
  const uint8_t bytes[] = {0x21, 0x43, 0xa5, 0xcb, 0x0d};  // [3][1][3]: 1 2 3, 4 5 -6, -5 -4 -3
  const int32_t multiplier[] = {7, 8, 9}, shift[] = {-1, -2, -3};
  const WeightSource source = {{bytes, 4}, nullptr, multiplier, shift, 10};
  const BlockLayout layout = {4, 2, 4};
  const GemmShape shape = {3, 1, 3};
  ASSERT_EQ(PackedBytesOf(layout, shape), kPackedAlignment);
  std::vector<uint8_t> packed(kPackedAlignment, 0xee);
  PackBlocks(layout, shape, source, packed.data());
  int32_t section[12];
  std::memcpy(section, packed.data(), sizeof(section));
  const int32_t expected[] = {-60, -30, 120, 0, 7, 8, 9, 0, -1, -2, -3, 0};
  EXPECT_TRUE(std::equal(section, section + 12, expected));
  const uint8_t groups[] = {0xb1, 0xc2, 0x04, 0x05, 0xd3, 0x00, 0x0a, 0x00, 0x00};
  EXPECT_TRUE(std::equal(groups, groups + 9, packed.data() + sizeof(section)));
}

TEST(Packing, JoinsNibblesThatFitAByte) {
  for (int32_t high = -8; high <= 7; ++high) {
    for (int32_t low = -8; low <= 7; ++low) {
      uint8_t bytes[] = {0x21, static_cast<uint8_t>((high & 15) << 4 | (low & 15))};
      const uint8_t before = bytes[1];
      const int32_t number = 16 * high + low;
      ASSERT_EQ(JoinNibbles(bytes, 2), number >= -128) << high << " " << low;
      EXPECT_EQ(bytes[0], 0x21);
      EXPECT_EQ(bytes[1], number >= -128 ? static_cast<uint8_t>(number) : before);
    }
  }
}

TEST(Packing, BlocksWithAPairThatFitsNoByteStaySeparate) {
  // [4][1][1] in blocks of two: 3 -2, then -1 -8; the second of a block is the high one.
  const uint8_t bytes[] = {0xe3, 0x8f};
  const int32_t bias[] = {5, 7, 9, 11}, multiplier[] = {1, 1, 1, 1}, shift[] = {0, 0, 0, 0};
  const WeightSource source = {{bytes, 4}, bias, multiplier, shift, 0};
  const BlockLayout layout = {2, 1, 4, alignof(int32_t), kJoinedFlagBytes};
  const GemmShape shape = {4, 1, 1};
  std::vector<uint8_t> packed(PackedBytesOf(layout, shape));
  PackJoinedBlocks(layout, shape, source, packed.data());
  const uint8_t* first = packed.data();
  const uint8_t* second = first + BlockBytes(layout, shape);
  EXPECT_TRUE(IsJoined(layout, first));
  EXPECT_FALSE(IsJoined(layout, second));
  EXPECT_EQ(static_cast<int8_t>(first[GroupsOffset(layout)]), 16 * -2 + 3);
  EXPECT_EQ(second[GroupsOffset(layout)], 0x8f);
  int32_t biases[2];
  std::memcpy(biases, first, sizeof(biases));
  EXPECT_EQ(biases[0], 5 + 16 * 7);
  EXPECT_EQ(biases[1], 7);
  std::memcpy(biases, second, sizeof(biases));
  EXPECT_EQ(biases[0], 9);
}

TEST(Packing, ChannelSectionFoldsTheZeroPointIntoTheBias) {
  const int32_t bias[] = {100, -7, 0};
  const int32_t multiplier[] = {11, 12, 13};
  const int32_t shift[] = {-1, 0, 3};
  const int32_t sums[] = {5, -6};
  const WeightSource source{{}, bias, multiplier, shift, 0};
  int32_t section[6];
  WriteChannelSection(source, 0, 3, 2, -3, sums, section);
  EXPECT_EQ(std::vector<int32_t>(section, section + 6), (std::vector<int32_t>{115, -25, 11, 12, -1, 0}));
  // The last block is only half used.
  WriteChannelSection(source, 2, 3, 2, -3, sums, section);
  EXPECT_EQ(std::vector<int32_t>(section, section + 6), (std::vector<int32_t>{15, 0, 13, 0, 3, 0}));
}

TEST(Packing, ChannelSectionWorksWithoutBias) {
  const int32_t multiplier = 1, shift = 2, sum = 4;
  const WeightSource source{{}, nullptr, &multiplier, &shift, 0};
  int32_t section[3];
  WriteChannelSection(source, 0, 1, 1, 10, &sum, section);
  EXPECT_EQ(section[0], -40);
}

TEST(Packing, ChannelBlocksCoverEveryChannelAndNoMore) {
  for (int32_t channels = 1; channels <= 100; ++channels) {
    for (const int32_t widest : {16, 32}) {
      const int32_t width = ChannelBlockWidth(channels, widest);
      EXPECT_TRUE(width == 8 || (width <= widest && width <= channels));
      std::vector<bool> covered(channels, false);
      for (int32_t block = 0; block < ChannelBlockCount(channels, width); ++block) {
        const int32_t begin = ChannelBlockBegin(channels, width, block);
        EXPECT_GE(begin, 0);
        if (channels >= width) {
          EXPECT_LE(begin + width, channels);
        }
        for (int32_t c = begin; c < begin + width && c < channels; ++c) covered[c] = true;
      }
      EXPECT_EQ(covered, std::vector<bool>(channels, true)) << channels;
    }
  }
}

}  // namespace
}  // namespace tfq::int4
