// architecture_test.cpp: what of a file is refused, architecture by architecture; their logits are
// golden_test.cpp's.
#include <gtest/gtest.h>

#include <bit>

#include "engine/engine.hpp"
#include "tests/changed_file.hpp"

namespace ms {
namespace {

const std::string folder = MS_SOURCE_DIR "/tests/golden/";

TEST(Architectures, a_file_that_lacks_or_contradicts_what_its_architecture_needs_is_an_error) {
  const std::string qwen2 = folder + "tiny-qwen2.gguf", granite = folder + "tiny-granite.gguf";
  for (const auto& [file, what] :
       {std::pair(without(qwen2, "blk.0.attn_q.bias"), "there is no tensor blk.0.attn_q.bias"),
        {without(qwen2, "blk.1.attn_v.bias"), "there is no tensor blk.1.attn_v.bias"},
        // Biases may be left out of a Granite, but not some of a layer's.
        {without(granite, "blk.1.attn_k.bias"), "there is no tensor blk.1.attn_k.bias"},
        {with_number(granite, "granite.logit_scale", 0), "granite.logit_scale is 0"},
        {with_number(granite, "granite.residual_scale", 0x7f800000),
         "granite.residual_scale is inf"},
        {with_number(granite, "granite.attention.scale", std::bit_cast<uint32_t>(-1.0f)),
         "granite.attention.scale is -1"},
        {with_number(granite, "granite.embedding_scale", 0x7fc00000),
         "granite.embedding_scale is nan"}})
    expect_refused(file, what);
}

TEST(Architectures, one_that_is_not_known_is_an_error_that_lists_those_there_are) {
  std::string bytes = read_file(folder + "tiny-qwen2.gguf");
  bytes[bytes.find("qwen2")] = 'Q';
  expect_refused(bytes, "architecture \"Qwen2\" is not supported; there are llama, granite, qwen2");
}

// A Llama without scales and biases that stand in the file would answer, and wrongly.
TEST(Architectures, a_tensor_that_a_graph_does_not_use_is_an_error) {
  std::string bytes = read_file(folder + "tiny-granite.gguf");
  for (const std::string_view bias :
       {"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"})
    bytes[end_of(bytes, bias) - 1] ^= 1;
  expect_refused(bytes, "tensor blk.0.attn_k.biar is none that this architecture has here");
}

}  // namespace
}  // namespace ms
