// attention_combine.cpp: the wrapper of attention_combine.wgsl.
#include "kernels/attention_combine/attention_combine.hpp"

namespace ms {

using gpu::in, gpu::out;

void attention_combine_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_combine_kernel =
    gpu::kernel<AttentionCombine>("attention_combine", {in, out}, attention_combine_ref);

void check_parts(std::string_view kernel, const AttentionParts& p) {
  require(p.splits >= 4 && p.splits % 4 == 0, "{}: {} splits, a multiple of 4 is wanted", kernel,
          p.splits);
  require(p.head_dim >= 16 && p.head_dim <= 256 && p.head_dim % 16 == 0,
          "{}: parts of heads of {}, a multiple of 16 up to 256 is wanted", kernel, p.head_dim);
  require(p.words.type == gpu::Type::u32 && p.words.size() >= p.size() &&
              uint64_t(p.rows) * p.heads * p.splits * p.head_dim <= UINT32_MAX,
          "{}: {} splits of [{}, {}, {}] are {} words, parts are {}", kernel, p.splits, p.rows,
          p.heads, p.head_dim, p.size(), p.words);
}

gpu::Work attention_combine(const gpu::Caps& caps, const AttentionCombine& a) {
  return attention_combine(caps, a,
                           {.f16_parts = a.parts.f16,
                            .f16_out = a.out.type == gpu::Type::f16,
                            .head_dim = a.parts.head_dim});
}

gpu::Work attention_combine(const gpu::Caps&, const AttentionCombine& a,
                            AttentionCombine::Overrides over) {
  gpu::check(attention_combine_kernel, over);
  const AttentionParts& p = a.parts;
  check_parts("attention_combine", p);
  require(over.f16_parts == p.f16 && over.head_dim == p.head_dim,
          "attention_combine: F16_PARTS is {} and HEAD_DIM {}, parts are of [{}, {}, {}]{}",
          over.f16_parts, over.head_dim, p.rows, p.heads, p.head_dim, p.f16 ? " f16" : "");
  const uint32_t query_heads = p.rows * p.heads;
  require(a.out.type == (over.f16_out ? gpu::Type::f16 : gpu::Type::f32) &&
              a.out.size() == uint64_t(query_heads) * p.head_dim,
          "attention_combine: out is {}, F16_OUT {}, parts are of [{}, {}, {}]", a.out,
          over.f16_out, p.rows, p.heads, p.head_dim);
  const uint64_t lanes = uint64_t(query_heads) * (p.head_dim / 16);
  return gpu::Dispatch{.kernel = &attention_combine_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {p.words, a.out},
                       .params = gpu::bytes(AttentionCombine::Params{query_heads, p.splits}),
                       .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
