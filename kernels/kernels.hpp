// kernels.hpp: every kernel room. The list of rooms is made by the build from the folders.
#pragma once
#include <span>

#include "gpu/work.hpp"
#include "kernels/attention_combine/attention_combine.hpp"
#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/attention_streaming/attention_streaming.hpp"
#include "kernels/bf16_to_f16/bf16_to_f16.hpp"
#include "kernels/bf16_to_f32/bf16_to_f32.hpp"
#include "kernels/bias_add/bias_add.hpp"
#include "kernels/cast_f32_to_f16/cast_f32_to_f16.hpp"
#include "kernels/check_stop/check_stop.hpp"
#include "kernels/dequant_mxfp4/dequant_mxfp4.hpp"
#include "kernels/dequant_q4k/dequant_q4k.hpp"
#include "kernels/dequant_q6k/dequant_q6k.hpp"
#include "kernels/dequant_q8_0/dequant_q8_0.hpp"
#include "kernels/fused_attention/fused_attention.hpp"
#include "kernels/fused_ffn/fused_ffn.hpp"
#include "kernels/fused_layer/fused_layer.hpp"
#include "kernels/fused_matmul_q4/fused_matmul_q4.hpp"
#include "kernels/fused_matmul_rmsnorm/fused_matmul_rmsnorm.hpp"
#include "kernels/fused_swiglu/fused_swiglu.hpp"
#include "kernels/gather/gather.hpp"
#include "kernels/gelu/gelu.hpp"
#include "kernels/layernorm/layernorm.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/matmul_gemv/matmul_gemv.hpp"
#include "kernels/matmul_gemv_residual/matmul_gemv_residual.hpp"
#include "kernels/moe_gather/moe_gather.hpp"
#include "kernels/relu/relu.hpp"
#include "kernels/residual/residual.hpp"
#include "kernels/rmsnorm/rmsnorm.hpp"
#include "kernels/rope_compute/rope_compute.hpp"
#include "kernels/rope_init/rope_init.hpp"
#include "kernels/rope_precomputed/rope_precomputed.hpp"
#include "kernels/sample_argmax/sample_argmax.hpp"
#include "kernels/sample_topk/sample_topk.hpp"
#include "kernels/scale/scale.hpp"
#include "kernels/scatter_add/scatter_add.hpp"
#include "kernels/silu/silu.hpp"
#include "kernels/softmax/softmax.hpp"
#include "kernels/softmax_log/softmax_log.hpp"
#include "kernels/split_qkv/split_qkv.hpp"
#include "kernels/topk/topk.hpp"

namespace ms {

// Every kernel, sorted by name.
std::span<const gpu::Kernel* const> all_kernels();

}  // namespace ms
