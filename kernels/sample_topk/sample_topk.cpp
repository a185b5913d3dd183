// sample_topk.cpp: the wrappers of sample_topk.wgsl.
#include "kernels/sample_topk/sample_topk.hpp"

#include <algorithm>

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void sample_topk_ref(const gpu::HostDispatch& d);
const gpu::Kernel sample_topk_kernel =
    gpu::kernel<SampleTopk>("sample_topk", {in, in, in, in, out, out, out, out}, sample_topk_ref);

namespace {

constexpr uint32_t longest_list = 256;
constexpr uint64_t most_elements = 1u << 31;  // of a tensor: indices, and sums of two, fit 32 bits

// A CPU likes few lanes with much to do: lavapipe takes 2 us for a workgroup, more for a large one.
SampleTopk::Overrides choose(const gpu::Caps& caps) {
  return {.workgroup_size = caps.cpu ? 64u : 256u};
}

// The dispatches of a work, which differ in phase and number of workgroups.
struct Phases {
  gpu::Work work;
  gpu::Constants constants;
  std::vector<gpu::View> bindings;
  SampleTopk::Params params;
  uint32_t chunks;  // of a row: workgroups that summarise it

  void add(SampleTopk::Phase phase, uint32_t parts) {
    params.phase = phase;
    params.parts = parts;
    work.dispatches.push_back({.kernel = &sample_topk_kernel,
                               .constants = constants,
                               .bindings = bindings,
                               .params = gpu::bytes(params),
                               .grid = gpu::fold(uint64_t(params.rows) * parts)});
  }
};

// What both wrappers share; `a` is the arguments of either, checked.
Phases begin(const gpu::Caps& caps, const auto& a, SampleTopk::Overrides over) {
  Phases phases{
      .work = {}, .constants = gpu::constants(over), .bindings = {}, .params = {}, .chunks = 0};
  SampleTopk::Params& p = phases.params;
  p.span = caps.cpu ? 32 : 16;
  p.rows = a.logits.rows();
  p.vocab_size = a.logits.cols();
  p.pad_token_id = a.pad_token_id;
  p.logit_softcap = a.logit_softcap;
  p.has_slots = bool(a.slots);
  p.has_mask = bool(a.mask);
  phases.chunks = (p.vocab_size - 1) / (over.workgroup_size * p.span) + 1;
  const gpu::View summaries = phases.work.add_scratch(
      {p.rows, uint64_t(phases.chunks) * over.workgroup_size, 3}, gpu::Type::u32);
  phases.bindings = {a.slots, {}, {}, a.mask, a.logits, summaries, {}, {}};
  return phases;
}

// What both wrappers are given; `a` is the arguments of either.
void check(const char* name, const auto& a) {
  const uint32_t rows = a.logits.rows(), vocab = a.logits.cols();
  require(vocab > 0 && a.logits.size() <= most_elements, "{}: logits is {}, of 1 to {} elements",
          name, a.logits, most_elements);
  require(!a.slots || a.slots.bytes() == rows * sizeof(Slot),
          "{}: slots is {}, a Slot has {} words, logits is {}", name, a.slots, sizeof(Slot) / 4,
          a.logits);
  require(!a.mask || a.mask.size() == uint64_t(rows) * ((vocab + 31) / 32),
          "{}: mask is {}, logits is {}", name, a.mask, a.logits);
  require(a.logit_softcap >= 0, "{}: a logit_softcap of {}", name, a.logit_softcap);
}

}  // namespace

gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& a) {
  return sample_topk(caps, a, choose(caps));
}

gpu::Work sample_topk(const gpu::Caps& caps, const SampleTopk& a, SampleTopk::Overrides over) {
  gpu::check(sample_topk_kernel, over);
  check("sample_topk", a);
  const uint32_t rows = a.logits.rows();
  const uint32_t capacity = a.history ? a.history.cols() : 0;
  const uint32_t biases = a.bias && a.bias.shape.rank == 3 ? a.bias.shape[1] : 0;
  require(bool(a.slots), "sample_topk: no slots, which hold the sampler's parameters");
  require(a.sampled.size() == rows, "sample_topk: sampled is {}, logits is {}", a.sampled,
          a.logits);
  require(uint64_t(rows) * capacity == (a.history ? a.history.size() : 0) &&
              uint64_t(rows) * capacity <= most_elements,
          "sample_topk: history is {}, logits is {}; at most {} tokens", a.history, a.logits,
          most_elements);
  require(uint64_t(rows) * biases * 2 == (a.bias ? a.bias.size() : 0) &&
              uint64_t(rows) * biases * 2 <= most_elements,
          "sample_topk: bias is {}, logits is {}: it must be [{}, n, 2]", a.bias, a.logits, rows);

  Phases phases = begin(caps, a, over);
  phases.params.capacity = capacity;
  phases.params.biases = biases;
  phases.bindings[1] = a.history;
  phases.bindings[2] = a.bias;
  phases.bindings[6] = a.sampled;
  // Windows are short as a rule; lanes loop over long ones.
  const uint32_t subjects = capacity + biases, most = caps.cpu ? 4 : 64;
  if (subjects > 0)
    phases.add(SampleTopk::penalties, std::min((subjects - 1) / over.workgroup_size + 1, most));
  phases.add(SampleTopk::summaries, phases.chunks);
  phases.add(SampleTopk::draw, 1);
  return phases.work;
}

gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& a) {
  return topk_lists(caps, a, choose(caps));
}

gpu::Work topk_lists(const gpu::Caps& caps, const TopkLists& a, SampleTopk::Overrides over) {
  gpu::check(sample_topk_kernel, over);
  check("topk_lists", a);
  const uint32_t rows = a.logits.rows(), k = a.topk_indices.cols();
  require(k > 0 && k <= longest_list && a.topk_indices.size() == uint64_t(rows) * k,
          "topk_lists: topk_indices is {}, logits is {}; lists of 1 to {} a row", a.topk_indices,
          a.logits, longest_list);
  require(a.topk_logits.size() == a.topk_indices.size(),
          "topk_lists: topk_logits is {}, topk_indices is {}", a.topk_logits, a.topk_indices);

  Phases phases = begin(caps, a, over);
  phases.params.top_k = k;
  phases.bindings[6] = a.topk_indices;
  phases.bindings[7] = a.topk_logits;
  phases.add(SampleTopk::summaries, phases.chunks);
  phases.add(SampleTopk::lists, 1);
  return phases.work;
}

}  // namespace ms
