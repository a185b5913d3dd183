// rope_precomputed.cpp: the wrapper of rope_precomputed.wgsl.
#include "kernels/rope_precomputed/rope_precomputed.hpp"

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void rope_precomputed_ref(const gpu::HostDispatch& d);
const gpu::Kernel rope_precomputed_kernel =
    gpu::kernel<RopePrecomputed>("rope_precomputed", {in, in, in, out}, rope_precomputed_ref);

gpu::Work rope_precomputed(const gpu::Caps&, const RopePrecomputed& a,
                           RopePrecomputed::Overrides over) {
  gpu::check(rope_precomputed_kernel, over);
  const auto f32 = [](const gpu::View& v, uint32_t rank) {
    return v && v.type == gpu::Type::f32 && v.shape.rank == rank;
  };
  require(f32(a.x, 3), "rope_precomputed: x is {}, wants [rows, heads, head_dim] f32", a.x);
  require(f32(a.cos, 2), "rope_precomputed: cos is {}, wants [max_seq, pairs] f32", a.cos);
  require(f32(a.sin, 2) && a.sin.shape == a.cos.shape, "rope_precomputed: sin is {}, cos is {}",
          a.sin, a.cos);
  require(a.x.size() <= UINT32_MAX && a.cos.size() <= UINT32_MAX,
          "rope_precomputed: x is {}, cos is {}: at most 2^32 - 1 elements", a.x, a.cos);
  const uint32_t rows = a.x.shape[0], heads = a.x.shape[1], head_dim = a.x.shape[2];
  const uint32_t max_seq = a.cos.shape[0], pairs = a.cos.shape[1];
  require(pairs <= head_dim / 2,
          "rope_precomputed: cos is {}, whose pairs exceed the heads of x, {}", a.cos, a.x);
  require(max_seq > 0, "rope_precomputed: cos is {}, an empty table", a.cos);

  const StepRows& step = a.step;
  if (step.slots) {
    const uint32_t slots = step.slots.rows();
    require(step.slots.type == gpu::Type::u32 && step.slots.cols() * 4 == sizeof(Slot),
            "rope_precomputed: slots is {}, wants [slots, {}] u32", step.slots, sizeof(Slot) / 4);
    require(step.prefill ? step.slot < slots : rows <= slots,
            "rope_precomputed: {} rows {} slot {} of {}", rows, step.prefill ? "of" : "from",
            step.slot, slots);
  } else {
    require(uint64_t(step.start_pos) + rows <= max_seq,
            "rope_precomputed: {} rows from position {} pass the tables' {}", rows, step.start_pos,
            max_seq);
  }

  const RopePrecomputed::Params params{.rows = rows,
                                       .heads = heads,
                                       .head_dim = head_dim,
                                       .rotary_dim = 2 * pairs,
                                       .max_seq = max_seq,
                                       .interleaved = a.interleaved,
                                       .start_pos = step.start_pos,
                                       .from_slots = bool(step.slots),
                                       .prefill = step.prefill,
                                       .slot = step.slot};
  const uint64_t lanes = uint64_t(rows) * ((heads + 3) / 4) * pairs;  // of four heads
  return gpu::Dispatch{.kernel = &rope_precomputed_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.cos, a.sin, step.slots, a.x},
                       .params = gpu::bytes(params),
                       .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
