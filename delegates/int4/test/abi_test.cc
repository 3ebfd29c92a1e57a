// The layouts of the interface by number: what TFLite 2.14 to LiteRT 2.3 have on 64-bit platforms.
#include <gtest/gtest.h>

#include "delegates/int4/abi/names.h"
#include "delegates/int4/abi/tflite.h"

namespace tfq::abi {
namespace {

TEST(Abi, SizesAreThoseOfTheRuntimes) {
  EXPECT_EQ(sizeof(Registration), 88u);
  EXPECT_EQ(sizeof(Delegate), 56u);
  EXPECT_EQ(sizeof(Context), 200u);
  EXPECT_EQ(sizeof(Tensor), 112u);
  EXPECT_EQ(sizeof(Node), 80u);
  EXPECT_EQ(sizeof(DelegateParams), 32u);
  EXPECT_EQ(sizeof(AffineQuantization), 24u);
  EXPECT_EQ(sizeof(BlockwiseQuantization), 16u);
}

TEST(Abi, MembersLieWhereTheRuntimesPutThem) {
  EXPECT_EQ(offsetof(Context, tensors), 16u);
  EXPECT_EQ(offsetof(Context, ResizeTensor), 32u);
  EXPECT_EQ(offsetof(Context, ReportError), 40u);
  EXPECT_EQ(offsetof(Context, GetNodeAndRegistration), 56u);
  EXPECT_EQ(offsetof(Context, ReplaceNodeSubsetsWithDelegateKernels), 64u);
  EXPECT_EQ(offsetof(Context, PreviewDelegatePartitioning), 152u);
  EXPECT_EQ(offsetof(Tensor, data), 8u);
  EXPECT_EQ(offsetof(Tensor, allocation_type), 32u);
  EXPECT_EQ(offsetof(Tensor, delegate), 64u);
  EXPECT_EQ(offsetof(Tensor, is_variable), 77u);
  EXPECT_EQ(offsetof(Tensor, quantization), 80u);
  EXPECT_EQ(offsetof(Node, user_data), 32u);
  EXPECT_EQ(offsetof(Node, builtin_data), 40u);
  EXPECT_EQ(offsetof(Registration, custom_name), 48u);
  EXPECT_EQ(offsetof(Registration, version), 56u);
  EXPECT_EQ(offsetof(Delegate, flags), 40u);
  EXPECT_EQ(offsetof(ConvParams, dilation_width), 16u);
  EXPECT_EQ(offsetof(DepthwiseParams, dilation_width), 20u);
}

TEST(Abi, ArraysHoldTheirCountBeforeTheirElements) {
  EXPECT_EQ(offsetof(IntArray, data), 4u);
  IntArray* array = NewIntArray(3);
  EXPECT_EQ(array->size, 3);
  array->data[2] = 7;
  std::free(array);
  IntArray* empty = NewIntArray(0);
  EXPECT_EQ(empty->size, 0);
  std::free(empty);
}

TEST(Abi, NamesForMessages) {
  Registration registration = {};
  registration.builtin_code = kDepthwiseConv2D;
  EXPECT_EQ(OpName(registration), "DEPTHWISE_CONV_2D");
  registration.builtin_code = 25;
  EXPECT_EQ(OpName(registration), "SOFTMAX");
  registration.builtin_code = kCustom;
  registration.custom_name = "MyOp";
  EXPECT_EQ(OpName(registration), "MyOp");
  registration.builtin_code = 100000;
  EXPECT_EQ(OpName(registration), "op 100000");
  EXPECT_EQ(TypeName(Type::kInt4), "INT4");
  EXPECT_EQ(TypeName(static_cast<Type>(99)), "type 99");
  EXPECT_EQ(ActivationName(Activation::kTanh), "tanh");
}

}  // namespace
}  // namespace tfq::abi
