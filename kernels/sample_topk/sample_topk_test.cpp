// sample_topk_test.cpp: the cases of sample_topk: against the twin, and draws against their
// distribution.
#include "kernels/sample_topk/sample_topk.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "kernels/lab.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

constexpr float lowest = std::numeric_limits<float>::lowest();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

gpu::View upload(Lab& lab, std::span<const Slot> slots) {
  return lab.upload({slots.size(), 32}, gpu::Type::u32, std::as_bytes(slots));
}

Slot sampler(float temperature, uint32_t top_k, float top_p, float min_p) {
  return {.stopped = Stopped::running,
          .temperature = temperature,
          .top_k = top_k,
          .top_p = top_p,
          .min_p = min_p};
}

// Parameters that take each path of the kernel; the last ones do not run.
std::vector<Slot> samplers(uint32_t vocab) {
  std::vector<Slot> slots = {sampler(0, 40, 0.9f, 0.1f), sampler(-1, 0, 1, 0)};
  for (uint32_t k :
       {0u, 1u, 2u, 40u, 48u, 49u, 192u, 193u, 300u, 512u, 513u, vocab - 1, vocab, vocab + 7})
    slots.push_back(sampler(1, k, 1, 0));
  for (float p : {0.0f, 0.3f, 0.9f, 0.999f}) slots.push_back(sampler(1, 0, p, 0));
  for (float p : {0.3f, 0.97f}) slots.push_back(sampler(50, 0, p, 0));  // nearly flat
  for (float p : {0.5f, 0.95f})
    for (uint32_t k : {40u, 300u, vocab - 1}) slots.push_back(sampler(0.8f, k, p, 0.05f));
  for (float min_p : {0.01f, 0.5f, 1.0f}) slots.push_back(sampler(2, 0, 1, min_p));
  for (float temperature : {1e-30f, 1e-3f, 1e6f}) slots.push_back(sampler(temperature, 0, 1, 0));
  for (Stopped stopped : {Stopped::token, Stopped::limit, Stopped::idle}) {
    slots.push_back(sampler(1, 0, 1, 0));
    slots.back().stopped = stopped;
  }
  for (uint32_t i = 0; i < slots.size(); ++i) slots[i].seed = 17 * i, slots[i].position = 3 * i;
  return slots;
}

// Whole numbers along a bell curve: many ties.
float bell(size_t i) {
  std::minstd_rand rng(uint32_t(i % 2'000'003) + 1);
  rng.discard(2);
  return float(std::popcount(rng() & 0xfffff)) - 10;
}

// The same without ties.
float spread(size_t i) { return bell(i) + float(uint32_t(i) * 2654435761u >> 8) / float(1 << 24); }

using Logit = std::function<float(size_t)>;  // of element [row, id] of [rows, vocab]

// A row for each of the samplers, drawn; with every override or as the wrapper chooses.
void check_draw(Lab& lab, uint32_t vocab, const Logit& logit, bool every = true,
                float softcap = 0) {
  const auto slots = samplers(vocab);
  const uint32_t rows = uint32_t(slots.size());
  const SampleTopk args{.slots = upload(lab, slots),
                        .logits = lab.values({rows, vocab}, logit),
                        .sampled = lab.output({rows}, gpu::Type::u32),
                        .logit_softcap = softcap};
  if (!every) return lab.check(sample_topk(lab.caps(), args), exact);
  lab.every<SampleTopk::Overrides>(
      sample_topk_kernel, [&](auto over) { return sample_topk(lab.caps(), args, over); }, exact);
}

void check_lists(Lab& lab, uint32_t vocab, const Logit& logit) {
  for (uint32_t k : {1u, 48u, 49u, 193u, 256u}) {
    const TopkLists args{.logits = lab.values({2, vocab}, logit),
                         .topk_indices = lab.output({2, k}, gpu::Type::u32),
                         .topk_logits = lab.output({2, k})};
    for (uint32_t size : {64u, 256u})
      lab.check(topk_lists(lab.caps(), args, {.workgroup_size = size}), exact);
  }
}

// Logits of which sampling must not stumble.
void check_odd_logits(Lab& lab) {
  constexpr uint32_t vocab = 1500;
  const std::vector<Logit> kinds = {
      [](size_t) { return 2.5f; },
      [](size_t i) { return i % vocab == 777 ? 1e5f : bell(i); },
      [](size_t i) { return i % vocab == 1200 ? -1e5f : -60 - bell(i); },
      [](size_t i) { return i % 500 == 3 ? bell(i) : lowest; },
      [](size_t) { return lowest; },
      [](size_t i) { return i % 100 == 7 ? bell(i)
                            : i % 2      ? nan
                                         : -inf; },
      [](size_t i) { return i % 2 ? nan : -inf; },
      [](size_t i) { return i % 400 == 9 ? inf : bell(i); },
      [](size_t i) { return float(i % vocab / 50); },  // ties at every bound of k
      [](size_t i) { return i % 2 ? 0.0f : -0.0f; },
  };
  for (const Logit& logit : kinds) {
    check_draw(lab, vocab, logit, false);
    check_draw(lab, vocab, logit, false, 30);
    check_lists(lab, vocab, logit);
  }
}

// Masks, a padding id, biases and penalties, alone and together. Powers of two keep the sums exact.
void check_changes(Lab& lab) {
  constexpr uint32_t vocab = 1000, capacity = 40, biases = 5;
  std::vector<Slot> slots = samplers(vocab);
  const uint32_t rows = uint32_t(slots.size());
  for (uint32_t i = 0; i < rows; ++i) {
    // In the history and beyond it.
    slots[i].position = i % 7 == 6 ? 1'000'000 : i % 7 == 5 ? 0xffffffff : i;
    slots[i].penalty_last_n = i % 4 == 0 ? 0 : i % 4 == 1 ? 1000 : i;
    slots[i].repeat_penalty = i % 3 ? 2 : 1;
    slots[i].presence_penalty = i % 2 ? 0.5f : 0;
    slots[i].frequency_penalty = i % 5 ? 0.25f : 0;
  }
  // Tokens that repeat, that are likely, and that are none.
  const gpu::View history = lab.words({rows, capacity}, [](size_t i) {
    return i % 9 == 0 ? 5000u : i % 4 == 0 ? 0xffffffffu : uint32_t(i % 37);
  });
  const gpu::View bias = lab.words({rows, biases, 2}, [](size_t i) {
    const uint32_t ids[] = {1, 999, 0xffffffff, 1, 1000};  // one twice, some unused
    const float values[] = {3, 100, 4, -1, 2};
    return i % 2 == 0 ? ids[i / 2 % biases] : std::bit_cast<uint32_t>(values[i / 2 % biases]);
  });
  const gpu::View mask = lab.words({rows, (vocab + 31) / 32}, [](size_t i) {
    return i / 32 % 8 == 3 ? 0 : uint32_t(i * 2654435761u);
  });
  const gpu::View logits = lab.values({rows, vocab}, [](size_t i) {
    return i % 111 == 0 ? nan : i % 97 == 0 ? -inf : bell(i);
  });
  for (int given = 0; given < 8; ++given) {
    const SampleTopk args{.slots = upload(lab, slots),
                          .logits = logits,
                          .sampled = lab.output({rows}, gpu::Type::u32),
                          .history = given & 1 ? history : gpu::View{},
                          .bias = given & 2 ? bias : gpu::View{},
                          .mask = given & 4 ? mask : gpu::View{},
                          .pad_token_id = given & 4 ? 999 : 0xffffffff};
    lab.every<SampleTopk::Overrides>(
        sample_topk_kernel, [&](auto over) { return sample_topk(lab.caps(), args, over); }, exact);
  }

  // Any numbers, the penalties alone; what is excluded before stays so.
  for (Slot& slot : slots)
    slot.repeat_penalty = 1.3f, slot.presence_penalty = 0.7f, slot.frequency_penalty = -0.1f;
  const SampleTopk args{
      .slots = upload(lab, slots),
      .logits = lab.values({rows, vocab},
                           [](size_t i) {
                             return i % 97 == 0 ? -inf : i % 89 == 0 ? lowest : bell(i) / 3;
                           }),
      .sampled = lab.output({rows}, gpu::Type::u32),
      .history = history,
      .bias = bias};
  gpu::Work work = sample_topk(lab.caps(), args);
  work.dispatches.resize(1);
  lab.check(work);

  const TopkLists lists{.slots = args.slots,
                        .logits = lab.values({rows, vocab}, bell),
                        .topk_indices = lab.output({rows, 20}, gpu::Type::u32),
                        .topk_logits = lab.output({rows, 20}),
                        .mask = mask,
                        .pad_token_id = 5,
                        .logit_softcap = 5};
  lab.check(topk_lists(lab.caps(), lists));
}

// The distribution, by definition.
std::vector<double> probabilities(std::vector<double> logits, const Slot& slot,
                                  std::span<const uint32_t> recent, double softcap) {
  for (uint32_t id = 0; id < logits.size(); ++id) {
    const auto n = std::ranges::count(recent, id);
    double& x = logits[id];
    if (n)
      x = (x > 0 ? x / slot.repeat_penalty : x * slot.repeat_penalty) -
          double(n) * slot.frequency_penalty - slot.presence_penalty;
    if (softcap) x = softcap * std::tanh(x / softcap);
  }
  std::vector<uint32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
  if (slot.top_k) order.resize(std::min<size_t>(slot.top_k, order.size()));
  std::vector<double> p(logits.size());
  double total = 0;
  for (uint32_t id : order)
    total += p[id] = std::exp((logits[id] - logits[order[0]]) / slot.temperature);
  double before = 0;
  for (uint32_t id : order) {
    const double mass = p[id];
    if (before >= slot.top_p * total || mass < slot.min_p) p[id] = 0;
    before += mass;
  }
  const double kept = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= kept;
  return p;
}

// Pearson's test: throws where draws of this distribution stray so far once in a million times.
void check_counts(const std::string& what, const std::vector<double>& p,
                  const std::vector<uint32_t>& counts) {
  const double n = double(std::accumulate(counts.begin(), counts.end(), uint64_t(0)));
  double chi2 = 0, rest_p = 0, rest = 0;
  int bins = 0;
  const auto bin = [&](double expected, double got) {
    chi2 += (got - expected) * (got - expected) / expected, ++bins;
  };
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0 && counts[id])
      fail("{}: token {} was drawn {} times and must not be", what, id, counts[id]);
    if (n * p[id] >= 10)
      bin(n * p[id], counts[id]);
    else
      rest_p += p[id], rest += counts[id];
  }
  if (n * rest_p >= 10) bin(n * rest_p, rest);
  if (bins < 2) return;
  // Wilson and Hilferty; z: one in a million.
  const double df = bins - 1, v = 2 / (9 * df), z = 4.753;
  const double most = df * std::pow(1 - v + z * std::sqrt(v), 3);
  if (chi2 > most)
    fail("{}: chi-square {:.1f} over {} bins, at most {:.1f}", what, chi2, bins, most);
}

// A CPU draws tens of thousands a second where few ids are kept, a few thousand where many are.
uint32_t draws(const gpu::Caps& caps, const Slot& slot) {
  if (!caps.cpu || std::getenv("MAINSPRING_FULL")) return 100'000;
  return slot.top_k < 200 ? 20'000 : 4'000;
}

// Many draws from one row of logits: 1,000 slots, each with its seed, at many positions.
void check_draws(Lab& lab, const std::string& what, const std::vector<float>& row, Slot slot,
                 std::vector<uint32_t> recent = {}, float softcap = 0) {
  const bool penalised = !recent.empty();  // in place, so each row is drawn from once
  const uint32_t n = draws(lab.caps(), slot), rows = penalised ? n : 1'000;
  const uint32_t vocab = uint32_t(row.size()), capacity = uint32_t(recent.size());
  SampleTopk args{.slots = lab.output({rows, 32}, gpu::Type::u32),
                  .logits = lab.values({rows, vocab}, [&](size_t i) { return row[i % vocab]; }),
                  .sampled = lab.output({rows}, gpu::Type::u32),
                  .history = penalised ? lab.words({rows, capacity},
                                                   [&](size_t i) { return recent[i % capacity]; })
                                       : gpu::View{},
                  .logit_softcap = softcap};
  const gpu::Recording step =
      lab.device.record(sample_topk(lab.caps(), args, {.workgroup_size = 64}));
  std::vector<uint32_t> counts(vocab);
  std::vector<Slot> slots(rows, slot);
  for (uint32_t position = 0; position < n / rows; ++position) {
    for (uint32_t i = 0; i < rows; ++i)
      slots[i].seed = i, slots[i].position = penalised ? capacity - 1 : position;
    lab.device.write(*args.slots.buffer, 0, std::as_bytes(std::span(slots)));
    lab.device.submit(step);
    for (float id : lab.read(args.sampled)) ++counts.at(size_t(id));
  }
  ++lab.checks;
  if (slot.penalty_last_n) recent.erase(recent.begin(), recent.end() - slot.penalty_last_n);
  check_counts(what, probabilities({row.begin(), row.end()}, slot, recent, softcap), counts);
}

void check_distributions(Lab& lab) {
  // Small: a token a bin. Large: beyond a chunk, few tokens likely among many that share little.
  std::vector<float> small(320), large(3000);
  for (size_t i = 0; i < small.size(); ++i) small[i] = bell(i) / 2;
  for (size_t i = 0; i < large.size(); ++i)
    large[i] = i % 211 == 5 ? 4 + bell(i) / 4 : bell(i) / 8 - 3;
  check_draws(lab, "temperature 1", small, sampler(1, 0, 1, 0));
  check_draws(lab, "temperature 0.5", small, sampler(0.5f, 0, 1, 0));
  check_draws(lab, "temperature 3, softcap 2", small, sampler(3, 0, 1, 0), {}, 2);
  check_draws(lab, "temperature 0", small, sampler(0, 40, 0.9f, 0));
  for (uint32_t k : {1u, 40u, 256u, 300u})
    check_draws(lab, fmt::format("top-k {}", k), small, sampler(2, k, 1, 0));
  check_draws(lab, "top-p 0.8", small, sampler(1.5f, 0, 0.8f, 0));
  check_draws(lab, "top-k 300, top-p 0.7", small, sampler(3, 300, 0.7f, 0));
  check_draws(lab, "min-p 0.05", small, sampler(1, 0, 1, 0.05f));
  check_draws(lab, "all limits", small, sampler(0.8f, 40, 0.95f, 0.02f));
  check_draws(lab, "3,000 ids", large, sampler(1, 0, 1, 0));
  check_draws(lab, "3,000 ids, top-p 0.9", large, sampler(1, 0, 0.9f, 0));
  check_draws(lab, "3,000 ids, top-k 2,000, top-p 0.99", large, sampler(1.5f, 2000, 0.99f, 0));
  check_draws(lab, "3,000 ids, all limits", large, sampler(0.8f, 40, 0.95f, 0.05f));
  Slot penalties = sampler(1, 0, 1, 0);
  penalties.repeat_penalty = 1.3f, penalties.presence_penalty = 0.3f,
  penalties.frequency_penalty = 0.2f;
  penalties.penalty_last_n = 6;
  check_draws(lab, "penalties", {small.begin(), small.begin() + 40}, penalties,
              {6, 6, 2, 11, 13, 11, 11, 1});
}

}  // namespace

KERNEL_TEST(sample_topk) {
  for (uint32_t vocab : {1u, 2u, 255u, 1023u, 1024u, 1025u, 12'288u}) {
    check_draw(lab, vocab, bell);
    check_lists(lab, vocab, bell);
  }
  for (uint32_t vocab : {300u, 49'152u, 151'936u, 262'144u}) check_draw(lab, vocab, spread, false);
  check_lists(lab, 151'936, bell);
  check_odd_logits(lab);
  check_changes(lab);

  // The other variants of a CPU differ in nothing that the twin has not seen.
  if (lab.runs() && (!lab.caps().cpu || lab.caps().variant.subgroups)) check_distributions(lab);

  const gpu::View slots = upload(lab, samplers(9)), logits = lab.random({3, 9}),
                  ids = lab.output({3}, gpu::Type::u32), two = lab.output({2}, gpu::Type::u32);
  const gpu::View three = upload(lab, std::vector<Slot>(3));
  lab.refuses("no slots",
              [&] { sample_topk(lab.caps(), {.slots = {}, .logits = logits, .sampled = ids}); });
  lab.refuses("a Slot has 32 words",
              [&] { sample_topk(lab.caps(), {.slots = slots, .logits = logits, .sampled = ids}); });
  lab.refuses("sampled is [2]",
              [&] { sample_topk(lab.caps(), {.slots = three, .logits = logits, .sampled = two}); });
  lab.refuses("history is [2]", [&] {
    sample_topk(lab.caps(), {.slots = three, .logits = logits, .sampled = ids, .history = two});
  });
  lab.refuses("bias is [2]", [&] {
    sample_topk(lab.caps(), {.slots = three, .logits = logits, .sampled = ids, .bias = two});
  });
  lab.refuses("mask is [2]", [&] {
    sample_topk(lab.caps(), {.slots = three, .logits = logits, .sampled = ids, .mask = two});
  });
  lab.refuses("lists of 1 to 256", [&] {
    topk_lists(lab.caps(), {.logits = logits,
                            .topk_indices = lab.output({3, 257}, gpu::Type::u32),
                            .topk_logits = lab.output({3, 257})});
  });
}

}  // namespace ms
