// sample_argmax.cpp: the wrapper of sample_argmax.wgsl.
#include "kernels/sample_argmax/sample_argmax.hpp"

#include <algorithm>

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void sample_argmax_ref(const gpu::HostDispatch& d);
const gpu::Kernel sample_argmax_kernel =
    gpu::kernel<SampleArgmax>("sample_argmax", {out, in, out, out, out, out}, sample_argmax_ref);

gpu::Work sample_argmax(const gpu::Caps& caps, const SampleArgmax& a) {
  SampleArgmax::Overrides over;
  // One CPU core reads 49,152 logits in the time of a second dispatch.
  over.single_pass = !a.partials && (caps.cpu || a.logits.cols() <= 8192);
  return sample_argmax(caps, a, over);
}

gpu::Work sample_argmax(const gpu::Caps&, const SampleArgmax& a, SampleArgmax::Overrides over) {
  gpu::check(sample_argmax_kernel, over);
  const uint32_t rows = a.logits.rows(), vocab = a.logits.cols();
  require(a.logits.size() <= UINT32_MAX, "sample_argmax: logits is {}, at most 2^32 - 1 elements",
          a.logits);
  require(vocab > 0, "sample_argmax: logits is {}: there is nothing to choose from", a.logits);
  require(a.sampled.size() == rows, "sample_argmax: sampled is {}, logits is {}", a.sampled,
          a.logits);
  require(!a.slots || a.slots.bytes() == rows * sizeof(Slot),
          "sample_argmax: slots is {}, a Slot has {} words, logits is {}", a.slots,
          sizeof(Slot) / 4, a.logits);
  require(!a.best_logit || a.best_logit.size() == rows,
          "sample_argmax: best_logit is {}, logits is {}", a.best_logit, a.logits);
  require(!a.history || (a.slots && a.history.rows() == rows && a.history.cols() > 0 &&
                         a.history.size() <= UINT32_MAX),
          "sample_argmax: history is {}, slots is {}, logits is {}; of a history there are at most "
          "2^32 - 1 tokens",
          a.history, a.slots, a.logits);
  require(a.logit_softcap >= 0, "sample_argmax: a logit_softcap of {}", a.logit_softcap);
  require(!over.is_reduce_phase || a.partials,
          "sample_argmax: IS_REDUCE_PHASE without partials to reduce");
  require(!over.single_pass || !a.partials,
          "sample_argmax: SINGLE_PASS takes no partials, they are {}", a.partials);
  require(!a.partials || (a.partials.shape.rank == 3 && a.partials.shape[0] == rows &&
                          a.partials.shape[1] > 0 && a.partials.shape[2] == 2),
          "sample_argmax: partials is {}, logits is {}", a.partials, a.logits);

  // A part is what a workgroup loads at once.
  const uint32_t once = 4 * over.workgroup_size;
  const uint32_t parts =
      a.partials ? a.partials.shape[1] : std::clamp((vocab + once - 1) / once, 1u, 256u);
  gpu::Work work;
  const gpu::View partials = over.single_pass ? gpu::View{}
                             : a.partials     ? a.partials
                                              : work.add_scratch({rows, parts, 2}, gpu::Type::u32);
  const auto dispatch = [&](uint64_t groups) {
    work.dispatches.push_back(
        {.kernel = &sample_argmax_kernel,
         .constants = gpu::constants(over),
         .bindings = {a.slots, a.logits, partials, a.sampled, a.best_logit, a.history},
         .params = gpu::bytes(SampleArgmax::Params{
             rows, vocab, parts, a.pad_token_id, a.logit_softcap, bool(a.slots), bool(a.best_logit),
             a.history ? a.history.cols() : 0}),
         .grid = gpu::fold(groups)});
  };
  if (a.partials || over.single_pass) {
    dispatch(over.single_pass || over.is_reduce_phase ? rows : uint64_t(rows) * parts);
    return work;
  }
  dispatch(uint64_t(rows) * parts);
  over.is_reduce_phase = true;
  dispatch(rows);
  return work;
}

}  // namespace ms
