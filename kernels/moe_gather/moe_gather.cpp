// moe_gather.cpp: the wrapper of moe_gather.wgsl.
#include "kernels/moe_gather/moe_gather.hpp"

#include <algorithm>

namespace ms {

using gpu::in, gpu::out;

void moe_gather_ref(const gpu::HostDispatch& d);
const gpu::Kernel moe_gather_kernel = gpu::kernel<MoeGather>(
    "moe_gather", {in, in, out, out, out, out, out}, moe_gather_ref,
    {"count_and_map", "gather_tokens", "gather_tokens_vec4", "gather_single_pass"});

gpu::Work moe_gather(const gpu::Caps& caps, const MoeGather& a) {
  // A workgroup an expert copies a few rows as fast as a second dispatch starts.
  constexpr uint64_t few_pairs = 32;
  const bool compact = a.max_tokens_per_expert == 0;
  if (compact && a.expert_indices.size() <= few_pairs)
    return moe_gather(caps, a, "gather_single_pass");
  gpu::Work work = moe_gather(caps, a, "count_and_map");
  work += moe_gather(caps, a, a.hidden.cols() % 4 == 0 ? "gather_tokens_vec4" : "gather_tokens");
  return work;
}

gpu::Work moe_gather(const gpu::Caps&, const MoeGather& a, std::string_view entry,
                     MoeGather::Overrides over) {
  gpu::check(moe_gather_kernel, over);
  const uint32_t tokens = a.hidden.rows(), hidden = a.hidden.cols(), k = a.expert_indices.cols(),
                 experts = a.token_counts.cols(), most = a.max_tokens_per_expert;
  const auto found = std::ranges::find(moe_gather_kernel.entries, entry);
  require(found != moe_gather_kernel.entries.end(), "moe_gather: there is no entry point \"{}\"",
          entry);
  require(a.hidden && a.hidden.type == gpu::Type::f32, "moe_gather: hidden is {}, wants f32",
          a.hidden);
  require(a.expert_indices.type == gpu::Type::u32 && a.expert_indices.rows() == tokens,
          "moe_gather: expert_indices are {}, hidden is {}", a.expert_indices, a.hidden);
  require(most == 0 || most >= tokens,
          "moe_gather: max_tokens_per_expert is {}, {} tokens may choose one expert", most, tokens);
  const uint64_t rows = most ? uint64_t(experts) * most : uint64_t(tokens) * k;
  require(a.gathered.type == gpu::Type::f32 && a.gathered.size() == rows * hidden,
          "moe_gather: gathered is {}, wants {} rows of {}", a.gathered, rows, hidden);
  const auto holds = [](const gpu::View& v, uint64_t size) {
    return v && v.type == gpu::Type::u32 && v.size() == size;
  };
  require(holds(a.token_counts, experts), "moe_gather: token_counts are {}", a.token_counts);
  require(holds(a.token_map, 2 * rows), "moe_gather: token_map is {}, for {} rows", a.token_map,
          rows);
  require(holds(a.token_offsets, uint64_t(tokens) * k),
          "moe_gather: token_offsets are {}, expert_indices {}", a.token_offsets, a.expert_indices);
  require(holds(a.row_experts, rows), "moe_gather: row_experts are {}, for {} rows", a.row_experts,
          rows);
  require(rows <= 1u << 30 && rows * hidden <= UINT32_MAX,
          "moe_gather: {} rows of {}, at most 2^30 and 2^32 - 1 elements", rows, hidden);
  const bool rows_only = entry.starts_with("gather_tokens"), four = entry == "gather_tokens_vec4";
  require(!four || hidden % 4 == 0, "moe_gather: {} takes hidden sizes in fours, hidden is {}",
          entry, a.hidden);
  const uint64_t lanes = rows * hidden / (four ? 4 : 1);
  return gpu::Dispatch{
      .kernel = &moe_gather_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.hidden, a.expert_indices, a.gathered, a.token_counts, a.token_map,
                   a.token_offsets, a.row_experts},
      .params = gpu::bytes(MoeGather::Params{tokens, hidden, experts, k, most}),
      .grid =
          gpu::fold(rows_only ? (lanes + over.workgroup_size - 1) / over.workgroup_size : experts),
      .entry = *found};
}

}  // namespace ms
