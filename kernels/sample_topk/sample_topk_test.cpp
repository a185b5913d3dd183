// sample_topk_test.cpp: the cases of sample_topk: against the twin, and draws against their distribution.
#include "kernels/sample_topk/sample_topk.hpp"

#include <algorithm>
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
  return {.stopped = Stopped::running, .temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p};
}

// Parameters that take each path of the kernel; the last ones do not run.
std::vector<Slot> samplers(uint32_t vocab) {
  std::vector<Slot> slots = {sampler(0, 40, 0.9f, 0.1f), sampler(-1, 0, 1, 0)};
  for (uint32_t k : {0u, 1u, 2u, 31u, 32u, 33u, 40u, 128u, 129u, 256u, 300u, vocab - 1, vocab, vocab + 7})
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

// Whole numbers near a bell curve: many ties. Uniform otherwise.
float bell(size_t i) {
  std::minstd_rand rng(uint32_t(i % 2'000'003) + 1);
  rng.discard(2);
  return float(std::popcount(rng() & 0xfffff)) - 10;
}

// Rows of the samplers over logits of one kind, drawn and listed, with every override.
void check_logits(Lab& lab, uint32_t vocab, const std::function<float(size_t)>& logit, bool every) {
  const auto slots = samplers(vocab);
  const uint32_t rows = uint32_t(slots.size());
  SampleTopk args{.slots = upload(lab, slots), .logits = lab.values({rows, vocab}, logit), .sampled = lab.output({rows}, gpu::Type::u32)};
  if (!every) return lab.check(sample_topk(lab.caps(), args), exact);
  lab.every<SampleTopk::Overrides>(sample_topk_kernel, [&](auto over) { return sample_topk(lab.caps(), args, over); }, exact);
}

void check_lists(Lab& lab, uint32_t vocab, const std::function<float(size_t)>& logit) {
  for (uint32_t k : {1u, 32u, 40u, 128u, 129u, 256u}) {
    const TopkLists args{.logits = lab.values({2, vocab}, logit),
                         .topk_indices = lab.output({2, k}, gpu::Type::u32),
                         .topk_logits = lab.output({2, k})};
    for (uint32_t size : {64u, 256u}) lab.check(topk_lists(lab.caps(), args, {.workgroup_size = size}), exact);
  }
}

// --- the distribution, by definition

std::vector<double> probabilities(std::vector<double> logits, const Slot& slot, std::span<const uint32_t> recent, double softcap) {
  for (uint32_t id = 0; id < logits.size(); ++id) {
    const auto n = std::ranges::count(recent, id);
    double& x = logits[id];
    if (n) x = (x > 0 ? x / slot.repeat_penalty : x * slot.repeat_penalty) - double(n) * slot.frequency_penalty - slot.presence_penalty;
    if (softcap) x = softcap * std::tanh(x / softcap);
  }
  std::vector<uint32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
  if (slot.top_k) order.resize(std::min<size_t>(slot.top_k, order.size()));
  std::vector<double> p(logits.size());
  double total = 0;
  for (uint32_t id : order) total += p[id] = std::exp((logits[id] - logits[order[0]]) / slot.temperature);
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

// Pearson's test: throws where draws of this distribution would stray so far once in a million times.
void check_counts(const std::string& what, const std::vector<double>& p, const std::vector<uint32_t>& counts) {
  const double n = double(std::accumulate(counts.begin(), counts.end(), uint64_t(0)));
  double chi2 = 0, rest_p = 0, rest = 0;
  int bins = 0;
  const auto bin = [&](double expected, double got) { chi2 += (got - expected) * (got - expected) / expected, ++bins; };
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0 && counts[id]) fail("{}: token {} was drawn {} times and must not be", what, id, counts[id]);
    if (n * p[id] >= 10) bin(n * p[id], counts[id]);
    else rest_p += p[id], rest += counts[id];
  }
  if (n * rest_p >= 10) bin(n * rest_p, rest);
  if (bins < 2) return;
  const double df = bins - 1, v = 2 / (9 * df), z = 4.753;  // Wilson and Hilferty; z: one in a million
  const double most = df * std::pow(1 - v + z * std::sqrt(v), 3);
  if (chi2 > most) fail("{}: chi-square {:.1f} over {} bins, at most {:.1f}", what, chi2, bins, most);
}

// 100,000 draws from one row of logits: many slots, each with its seed, at many positions.
void check_draws(Lab& lab, const std::string& what, const std::vector<float>& row, Slot slot, std::vector<uint32_t> recent = {}, float softcap = 0) {
  const bool penalised = !recent.empty();
  const uint32_t rows = penalised ? 100'000 : 2'500, vocab = uint32_t(row.size()), capacity = uint32_t(recent.size());
  SampleTopk args{.slots = lab.output({rows, 32}, gpu::Type::u32),
                  .logits = lab.values({rows, vocab}, [&](size_t i) { return row[i % vocab]; }),
                  .sampled = lab.output({rows}, gpu::Type::u32),
                  .history = penalised ? lab.words({rows, capacity}, [&](size_t i) { return recent[i % capacity]; }) : gpu::View{},
                  .logit_softcap = softcap};
  const gpu::Recording step = lab.device.record(sample_topk(lab.caps(), args, {.workgroup_size = 64}));
  std::vector<uint32_t> counts(vocab);
  std::vector<Slot> slots(rows, slot);
  for (uint32_t position = 0; position < 100'000 / rows; ++position) {
    for (uint32_t i = 0; i < rows; ++i) slots[i].seed = i, slots[i].position = penalised ? capacity - 1 : position;
    lab.device.write(*args.slots.buffer, 0, std::as_bytes(std::span(slots)));
    lab.device.submit(step);
    for (float id : lab.read(args.sampled)) ++counts.at(size_t(id));
  }
  ++lab.checks;
  if (slot.penalty_last_n) recent.erase(recent.begin(), recent.end() - slot.penalty_last_n);
  check_counts(what, probabilities({row.begin(), row.end()}, slot, recent, softcap), counts);
}

}  // namespace

KERNEL_TEST(sample_topk) {
  for (uint32_t vocab : {1u, 2u, 255u, 1023u, 1024u, 1025u, 12'288u}) {
    check_logits(lab, vocab, bell, true);
    check_lists(lab, vocab, bell);
  }
  for (uint32_t vocab : {49'152u, 151'936u}) check_logits(lab, vocab, bell, false);
  check_lists(lab, 151'936, bell);
}

}  // namespace ms
