// gather.cpp: the wrapper of gather.wgsl.
#include "kernels/gather/gather.hpp"

namespace ms {

using gpu::in, gpu::out;

void gather_ref(const gpu::HostDispatch& d);
const gpu::Kernel gather_kernel = gpu::kernel<Gather>("gather", {in, in, in, out}, gather_ref);

gpu::Work gather(const gpu::Caps& caps, const Gather& a) {
  // Small workgroups where there is little to spread over a device.
  Gather::Overrides over{.workgroup_size = a.y.size() < 1 << 18 ? 64u : 256u,
                         .weight_type = uint32_t(a.table.type)};
  over.use_vec4 = a.y.cols() % 4 == 0;
  over.row_tile = a.table.row_tile;
  return gather(caps, a, over);
}

gpu::Work gather(const gpu::Caps& caps, const Gather& a, Gather::Overrides over) {
  gpu::check(gather_kernel, over);
  const uint32_t tokens = a.y.rows(), hidden = a.y.cols();
  const uint32_t vocab = a.transpose ? a.table.cols : a.table.rows;
  const WeightType type = over.f16_embeddings ? WeightType::f16 : WeightType(over.weight_type);
  require(type == a.table.type, "gather: the overrides say {}, the table is {}", to_string(type),
          to_string(a.table.type));
  require(over.row_tile == a.table.row_tile, "gather: ROW_TILE {}, the table's is {}",
          over.row_tile, a.table.row_tile);
  require(hidden == (a.transpose ? a.table.rows : a.table.cols),
          "gather: y is {}, the table [{}, {}]", a.y, a.table.rows, a.table.cols);
  require(!over.use_vec4 || hidden % 4 == 0,
          "gather: USE_VEC4 takes hidden sizes in fours, y is {}", a.y);
  require(tokens == 0 || a.index_offset + uint64_t(tokens - 1) * a.index_stride < a.indices.size(),
          "gather: indices are {}, {} from {} in steps of {} are wanted", a.indices, tokens,
          a.index_offset, a.index_stride);
  const uint64_t lanes = (a.y.size() + 3) / 4;
  require(a.y.size() <= UINT32_MAX, "gather: y is {}, more than 2^32 - 1 elements", a.y);
  gpu::Work work;
  const auto parts = split_rows("gather", caps, a.table);
  require(!a.transpose || parts.size() == 1,
          "gather: the table is [{}, {}], more than one binding of {} holds, {} bytes: with "
          "transpose it must fit",
          a.table.rows, a.table.cols, caps.name, caps.max_binding_bytes);
  for (const WeightPart& part : parts)
    work +=
        gpu::Dispatch{.kernel = &gather_kernel,
                      .constants = gpu::constants(over),
                      .bindings = {a.indices, part.weight.quants, part.weight.scales, a.y},
                      .params = gpu::bytes(Gather::Params{
                          tokens, hidden, vocab, a.transpose, a.index_offset, a.index_stride,
                          a.table.row_blocks(), part.first_row, a.transpose ? vocab : part.rows}),
                      .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
  return work;
}

}  // namespace ms
