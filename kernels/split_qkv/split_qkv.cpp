// split_qkv.cpp: the wrapper of split_qkv.wgsl.
#include "kernels/split_qkv/split_qkv.hpp"

#include "kernels/kernels.hpp"

namespace ms {

using gpu::in, gpu::out;

void split_qkv_ref(const gpu::HostDispatch& d);
const gpu::Kernel split_qkv_kernel =
    gpu::kernel<SplitQkv>("split_qkv", {in, in, in, in, in, out, out, out}, split_qkv_ref);

namespace {

// A plain k or v of `size` elements a row.
void check_plain(const char* name, const gpu::View& view, uint32_t rows, uint32_t size,
                 uint32_t head_dim, bool f16) {
  const uint32_t dim = head_dim ? head_dim : size;
  const uint64_t padded = f16 ? uint64_t(size / dim) * ((dim + 1) / 2 * 2) : size;
  require(view.size() == rows * padded, "split_qkv: {} is {}, want [{}, {}]", name, view, rows,
          padded);
}

}  // namespace

gpu::Work split_qkv(const gpu::Caps& caps, const SplitQkv& a) {
  // A head that is normed, or rounded to q8_0, has a workgroup of its own.
  const KvType type = a.cache.type();
  const bool small =
      a.norms || type == KvType::q8_0 ? a.head_dim <= 4 * 64 : a.qkv.size() < 1 << 18;
  return split_qkv(caps, a,
                   {.workgroup_size = small ? 64u : 256u,
                    .f16_out = type == KvType::f16,
                    .q8_out = type == KvType::q8_0,
                    .rope = bool(a.rope),
                    .qk_norm = bool(a.norms)});
}

gpu::Work split_qkv(const gpu::Caps&, const SplitQkv& a, SplitQkv::Overrides over) {
  gpu::check(split_qkv_kernel, over);
  const KvCache& cache = a.cache;
  const uint32_t rows = a.qkv.rows(), cols = a.qkv.cols();
  require(rows && a.q.size() % rows == 0 && a.q.size() / rows < cols,
          "split_qkv: q is {}, qkv is {}", a.q, a.qkv);
  const uint32_t q_size = uint32_t(a.q.size() / rows);
  const uint32_t k_size = a.k_size ? a.k_size : (cols - q_size) / 2;
  require(k_size && k_size < cols - q_size,
          "split_qkv: q takes {} and k {} of the {} columns of qkv", q_size, k_size, cols);
  const uint32_t v_size = cols - q_size - k_size;
  const uint32_t dim = a.head_dim;
  require(!dim || (q_size % dim == 0 && k_size % dim == 0 && v_size % dim == 0),
          "split_qkv: q, k and v of {}, {} and {} are not whole heads of {}", q_size, k_size,
          v_size, dim);

  require(cache.type() == kv_type(over.f16_out, over.q8_out) && cache.k.type == cache.v.type,
          "split_qkv: F16_OUT is {}, Q8_OUT is {}, k is {}, v is {}", over.f16_out, over.q8_out,
          cache.k, cache.v);
  if (cache.layout == KvLayout::plain) {
    require(!over.q8_out, "split_qkv: plain k and v are f32 or f16, not q8_0");
    check_plain("k", cache.k, rows, k_size, dim, over.f16_out);
    check_plain("v", cache.v, rows, v_size, dim, over.f16_out);
    require(!a.step.slots ||
                (a.step.prefill ? a.step.slot < a.step.slots.rows() : rows <= a.step.slots.rows()),
            "split_qkv: {} rows from slot {} of slots, {}", rows, a.step.slot, a.step.slots);
  } else {
    require(dim && k_size == v_size,
            "split_qkv: a cache wants head_dim, got {}, and k as wide as v, got {} and {}", dim,
            k_size, v_size);
    check_kv("split_qkv", cache, a.step, rows, k_size / dim, dim);
    // Two rows must not meet in one row of a ring.
    require(cache.layout != KvLayout::ring || rows <= cache.positions() ||
                (a.step.slots && !a.step.prefill),
            "split_qkv: {} rows of one slot do not fit a ring of {}", rows, cache.positions());
  }

  require(over.rope == bool(a.rope), "split_qkv: ROPE is {}, rope is {}", over.rope, a.rope);
  const RopeTables tables = over.rope ? check_rope("split_qkv", a.rope, dim) : RopeTables{};
  require(over.qk_norm == bool(a.norms) &&
              (!over.qk_norm || (dim && a.norms.size() == 2 * uint64_t(dim))),
          "split_qkv: QK_NORM is {}, norms is {}, heads have {} elements", over.qk_norm, a.norms,
          dim);
  const bool by_head = over.qk_norm || over.q8_out;
  require(
      !by_head || dim <= 4 * over.workgroup_size,
      "split_qkv: QK_NORM and Q8_OUT take heads of up to {} elements with WORKGROUP_SIZE {}, not "
      "{}",
      4 * over.workgroup_size, over.workgroup_size, dim);

  const auto words = [&](uint32_t size) {
    return over.f16_out ? size / (dim ? dim : size) * (((dim ? dim : size) + 1) / 2) : size;
  };
  const uint32_t per_group = 4 * over.workgroup_size;
  const uint64_t groups =
      by_head ? cols / dim
              : (uint64_t(q_size) + words(k_size) + words(v_size) + per_group - 1) / per_group;
  return gpu::Dispatch{
      .kernel = &split_qkv_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.qkv, a.rope, a.norms, a.step.slots, cache.block_table, a.q, cache.k, cache.v},
      .params = gpu::bytes(SplitQkv::Params{
          rows, q_size, k_size, v_size, dim, bool(a.step.slots), a.step.prefill, a.step.slot,
          a.step.start_pos, uint32_t(cache.layout), cache.rows(), cache.positions(),
          cache.page_size, tables.max_seq, tables.rotary_dim, a.interleaved, a.eps}),
      .grid = gpu::fold(rows * groups)};
}

}  // namespace ms
