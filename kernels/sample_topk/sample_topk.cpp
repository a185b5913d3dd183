// sample_topk.cpp: the wrappers of sample_topk.wgsl.
#include "kernels/sample_topk/sample_topk.hpp"

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void sample_topk_ref(const gpu::HostDispatch& d);
const gpu::Kernel sample_topk_kernel =
    gpu::kernel<SampleTopk>("sample_topk", {in, in, in, in, out, out, out, out}, sample_topk_ref);

namespace {

constexpr uint32_t longest_list = 256;
constexpr uint32_t most_ids = 1u << 28;  // products with the workgroup size stay within 32 bits

// What both wrappers bind; `a` is either's arguments.
void check(const char* name, const auto& a) {
  const uint32_t rows = a.logits.rows(), vocab = a.logits.cols();
  require(vocab > 0 && vocab <= most_ids && a.logits.size() <= UINT32_MAX,
          "{}: logits is {}; rows of 1 to {} ids, at most 2^32 - 1 elements", name, a.logits, most_ids);
  require(!a.slots || a.slots.bytes() == rows * sizeof(Slot), "{}: slots is {}, a Slot has {} words, logits is {}", name,
          a.slots, sizeof(Slot) / 4, a.logits);
  require(!a.mask || a.mask.size() == uint64_t(rows) * ((vocab + 31) / 32), "{}: mask is {}, logits is {}", name, a.mask,
          a.logits);
  require(a.logit_softcap >= 0, "{}: a logit_softcap of {}", name, a.logit_softcap);
}

// A CPU likes few lanes with much to do: lavapipe takes 2 us for a workgroup, and more for large ones.
SampleTopk::Overrides choose(const gpu::Caps& caps) { return {.workgroup_size = caps.cpu ? 64u : 256u}; }
uint32_t span_of(const gpu::Caps& caps) { return caps.cpu ? 32 : 16; }

uint64_t chunks_of_a_row(uint32_t vocab, uint32_t span, SampleTopk::Overrides over) {
  const uint32_t chunk = over.workgroup_size * span;
  return (vocab + chunk - 1) / chunk;
}

}  // namespace

gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& a) { return sample_topk(caps, a, choose(caps)); }

gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& a, SampleTopk::Overrides over) {
  check("sample_topk", a);
  const uint32_t rows = a.logits.rows(), vocab = a.logits.cols();
  const uint32_t capacity = a.history ? a.history.cols() : 0, biases = a.bias && a.bias.shape.rank == 3 ? a.bias.shape[1] : 0;
  require(bool(a.slots), "sample_topk: no slots: the sampler's parameters are theirs");
  require(a.sampled.size() == rows, "sample_topk: sampled is {}, logits is {}", a.sampled, a.logits);
  require(!a.history || a.history.size() == uint64_t(rows) * capacity, "sample_topk: history is {}, logits is {}", a.history,
          a.logits);
  require(!a.bias || a.bias.size() == uint64_t(rows) * biases * 2, "sample_topk: bias is {}, logits is {}: it must be [{}, n, 2]",
          a.bias, a.logits, rows);

  gpu::Work work;
  const uint32_t span = span_of(caps);
  const uint64_t chunks = chunks_of_a_row(vocab, span, over);
  const gpu::View scratch = work.add_scratch({rows, chunks * over.workgroup_size, 3}, gpu::Type::u32);
  const auto dispatch = [&](SampleTopk::Phase phase, uint64_t groups) {
    work.dispatches.push_back(
        {.kernel = &sample_topk_kernel,
         .constants = gpu::constants(over),
         .bindings = {a.slots, a.history, a.bias, a.mask, a.logits, scratch, a.sampled, {}},
         .params = gpu::bytes(SampleTopk::Params{phase, span, rows, vocab, 0, a.pad_token_id, a.logit_softcap, true, bool(a.mask),
                                                 capacity, biases}),
         .grid = gpu::fold(groups)});
  };
  const uint64_t subjects = uint64_t(capacity) + biases;
  if (subjects) dispatch(SampleTopk::penalties, rows * ((subjects + over.workgroup_size - 1) / over.workgroup_size));
  dispatch(SampleTopk::summaries, rows * chunks);
  dispatch(SampleTopk::draw, rows);
  return work;
}

gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& a) { return topk_lists(caps, a, choose(caps)); }

gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& a, SampleTopk::Overrides over) {
  check("topk_lists", a);
  const uint32_t rows = a.logits.rows(), vocab = a.logits.cols(), k = a.topk_indices.cols();
  require(k > 0 && k <= longest_list, "topk_lists: lists of {}, at most {}; topk_indices is {}", k, longest_list, a.topk_indices);
  require(a.topk_indices.size() == uint64_t(rows) * k, "topk_lists: topk_indices is {}, logits is {}", a.topk_indices, a.logits);
  require(a.topk_logits.size() == a.topk_indices.size(), "topk_lists: topk_logits is {}, topk_indices is {}", a.topk_logits,
          a.topk_indices);

  gpu::Work work;
  const uint32_t span = span_of(caps);
  const uint64_t chunks = chunks_of_a_row(vocab, span, over);
  const gpu::View scratch = work.add_scratch({rows, chunks * over.workgroup_size, 3}, gpu::Type::u32);
  const auto dispatch = [&](SampleTopk::Phase phase, uint64_t groups) {
    work.dispatches.push_back({.kernel = &sample_topk_kernel,
                               .constants = gpu::constants(over),
                               .bindings = {a.slots, {}, {}, a.mask, a.logits, scratch, a.topk_indices, a.topk_logits},
                               .params = gpu::bytes(SampleTopk::Params{phase, span, rows, vocab, k, a.pad_token_id, a.logit_softcap,
                                                                       bool(a.slots), bool(a.mask), 0, 0}),
                               .grid = gpu::fold(groups)});
  };
  dispatch(SampleTopk::summaries, rows * chunks);
  dispatch(SampleTopk::lists, rows);
  return work;
}

}  // namespace ms
