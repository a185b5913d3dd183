// moe_gather_ref.cpp: the CPU twin of moe_gather.wgsl.
#include <algorithm>

#include "kernels/moe_gather/moe_gather.hpp"

namespace ms {

void moe_gather_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<MoeGather::Params>();
  const std::string_view entry = d.dispatch().entry;
  const auto hidden = d.get<float>(0), gathered = d.get<float>(2);
  const auto experts = d.get<uint32_t>(1), counts = d.get<uint32_t>(3), map = d.get<uint32_t>(4),
             offsets = d.get<uint32_t>(5), row_experts = d.get<uint32_t>(6);
  const size_t pairs = size_t(p.num_tokens) * p.top_k, most = p.max_tokens_per_expert;
  const auto copy_row = [&](size_t row) {
    std::ranges::copy(hidden.subspan(size_t(map[2 * row]) * p.hidden_size, p.hidden_size),
                      gathered.begin() + std::ptrdiff_t(row * p.hidden_size));
  };

  if (entry == "count_and_map" || entry == "gather_single_pass") {
    size_t first = 0;
    for (uint32_t e = 0; e < p.num_experts; ++e) {
      counts[e] = 0;
      if (most) first = e * most;
      for (size_t pair = 0; pair < pairs; ++pair) {
        if (experts[pair] != e) continue;
        const size_t row = first + counts[e]++;
        map[2 * row] = uint32_t(pair / p.top_k);
        map[2 * row + 1] = uint32_t(pair % p.top_k);
        offsets[pair] = uint32_t(row);
        row_experts[row] = e;
        if (entry == "gather_single_pass") copy_row(row);
      }
      first += counts[e];
    }
    return;
  }
  // gather_tokens and gather_tokens_vec4
  const size_t rows = most ? p.num_experts * most : pairs;
  for (size_t row = 0; row < rows; ++row) {
    if (!most || row % most < counts[row / most])
      copy_row(row);
    else
      std::ranges::fill(gathered.subspan(row * p.hidden_size, p.hidden_size), 0.0f);
  }
}

}  // namespace ms
