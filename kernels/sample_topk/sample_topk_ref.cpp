// sample_topk_ref.cpp: the CPU twin of sample_topk.wgsl, in double. It is the specification.
//
// The draw sorts the whole vocabulary and reads no summaries; it shares only the noise with the
// kernel.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "kernels/sample_topk/sample_topk.hpp"
#include "kernels/shared/order.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

using Params = SampleTopk::Params;

struct Candidate {
  uint32_t key, id;
  bool operator<(const Candidate& other) const {
    return key != other.key ? key > other.key : id < other.id;
  }
};

// Everything that a row's sampler depends on.
struct Row {
  const Params& p;
  Slot slot;
  std::span<float> logits;   // [vocab_size]
  std::span<uint32_t> mask;  // [(vocab_size + 31) / 32]

  uint32_t key(uint32_t id) const {
    if (id >= p.vocab_size || id == p.pad_token_id) return 0;
    if (p.has_mask && !(mask[id / 32] >> id % 32 & 1)) return 0;
    return key_of(logits[id]);
  }
  double level(uint32_t key) const {
    return std::clamp(softcap(logit_of(key), p.logit_softcap), -1e38, 1e38);
  }
  // The probability relative to the largest.
  double weight(uint32_t key, double top) const {
    return std::exp((level(key) - top) / std::max(slot.temperature, 1e-20f));
  }

  // What may be drawn, in the order of sampling.
  std::vector<Candidate> sorted() const {
    std::vector<Candidate> all;
    for (uint32_t id = 0; id < p.vocab_size; ++id)
      if (const uint32_t k = key(id)) all.push_back({k, id});
    std::sort(all.begin(), all.end());
    return all;
  }
};

uint32_t mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352d;
  x = (x ^ x >> 15) * 0x846ca68b;
  return x ^ x >> 16;
}

// Exponential noise of (seed, position, id).
double noise(const Slot& slot, uint32_t id) {
  const uint32_t a = mix(slot.seed + mix(slot.position)), b = mix(slot.position + mix(~slot.seed));
  return -std::log1p(-std::min((mix(mix(id + a) ^ b) + 0.5) / 4294967296.0, 0.99999994));
}

void summarise(const Row& row, uint32_t lanes, uint32_t span, std::span<uint32_t> summaries) {
  const Slot& slot = row.slot;
  const bool all = row.p.has_slots && slot.temperature > 0 &&
                   (slot.top_k == 0 || slot.top_k >= row.p.vocab_size);
  for (uint32_t s = 0; s < summaries.size() / 3; ++s) {
    std::vector<Candidate> covered;
    for (uint32_t i = 0; i < span; ++i) {
      const uint32_t id = s / lanes * lanes * span + i * lanes + s % lanes;
      if (const uint32_t key = row.key(id)) covered.push_back({key, id});
    }
    uint32_t best = 0;
    for (const Candidate& c : covered) best = std::max(best, c.key);
    double mass = 0, race = 0;
    for (const Candidate& c : covered) {
      const double weight = row.weight(c.key, row.level(best));
      mass += weight;
      race = std::max(race, weight / noise(slot, c.id));
    }
    summaries[3 * s] = best;
    summaries[3 * s + 1] = std::bit_cast<uint32_t>(all && slot.top_p < 1 ? float(mass) : 0.0f);
    summaries[3 * s + 2] = std::bit_cast<uint32_t>(all && !(slot.min_p > 0) ? float(race) : 0.0f);
  }
}

void list(const Row& row, std::span<uint32_t> ids, std::span<float> logits) {
  const auto best = row.sorted();
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = i < best.size() ? best[i].id : 0xffffffff;
    logits[i] =
        i < best.size() ? float(softcap(logit_of(best[i].key), row.p.logit_softcap)) : -3.4e38f;
  }
}

uint32_t draw(const Row& row) {
  const Slot& slot = row.slot;
  auto kept = row.sorted();
  if (kept.empty()) return 0;
  if (slot.temperature <= 0) return kept.front().id;
  const double top = row.level(kept.front().key);
  if (slot.top_k != 0 && slot.top_k < kept.size()) kept.resize(slot.top_k);

  if (slot.top_p < 1) {
    double total = 0, mass = 0;
    for (const Candidate& c : kept) total += row.weight(c.key, top);
    size_t n = 0;
    do mass += row.weight(kept[n++].key, top);
    while (n < kept.size() && mass < slot.top_p * total);
    kept.resize(n);
  }
  if (slot.min_p > 0) {
    const double lowest = top + slot.temperature * std::log(std::min(slot.min_p, 1.0f));
    std::erase_if(kept, [&](const Candidate& c) { return row.level(c.key) < lowest; });
  }

  const auto race = [&](const Candidate& c) { return row.weight(c.key, top) / noise(slot, c.id); };
  return std::ranges::max_element(kept, {}, race)->id;
}

void penalise(const Row& row, std::span<const uint32_t> history, std::span<const uint32_t> bias) {
  const Slot& slot = row.slot;
  const size_t end = std::min<size_t>(size_t(slot.position) + 1, history.size());
  std::map<uint32_t, uint32_t> repeats;
  for (size_t i = end - std::min<size_t>(end, slot.penalty_last_n); i < end; ++i)
    ++repeats[history[i]];
  std::map<uint32_t, double> change;
  for (const auto& [token, n] : repeats) change[token] += 0;
  for (size_t i = 0; i + 1 < bias.size(); i += 2)
    change[bias[i]] += std::bit_cast<float>(bias[i + 1]);
  for (const auto& [token, added] : change) {
    if (token >= row.p.vocab_size || key_of(row.logits[token]) == 0) continue;
    double logit = row.logits[token];
    if (const uint32_t n = repeats.contains(token) ? repeats[token] : 0) {
      logit = logit > 0 ? logit / slot.repeat_penalty : logit * slot.repeat_penalty;
      logit -= n * double(slot.frequency_penalty) + slot.presence_penalty;
    }
    row.logits[token] = float(std::clamp(logit + added, -3.4e38, 3.4e38));
  }
}

}  // namespace

void sample_topk_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Params>();
  const uint32_t lanes = d.overrides<SampleTopk::Overrides>().workgroup_size,
                 chunk = lanes * p.span;
  const auto slots = d.get<Slot>(0);
  const auto history = d.get<uint32_t>(1), bias = d.get<uint32_t>(2), mask = d.get<uint32_t>(3);
  const auto logits = d.get<float>(4), topk_logits = d.get<float>(7);
  const auto summaries = d.get<uint32_t>(5), ids = d.get<uint32_t>(6);
  const size_t words = (p.vocab_size + 31) / 32,
               summary_words = size_t(p.vocab_size + chunk - 1) / chunk * lanes * 3;
  for (size_t i = 0; i < p.rows; ++i) {
    const Row row{p, p.has_slots ? slots[i] : Slot{.stopped = Stopped::running},
                  logits.subspan(i * p.vocab_size, p.vocab_size),
                  p.has_mask ? mask.subspan(i * words, words) : mask};
    if (row.slot.stopped != Stopped::running) continue;
    switch (p.phase) {
      case SampleTopk::summaries:
        summarise(row, lanes, p.span, summaries.subspan(i * summary_words, summary_words));
        break;
      case SampleTopk::lists:
        list(row, ids.subspan(i * p.top_k, p.top_k), topk_logits.subspan(i * p.top_k, p.top_k));
        break;
      case SampleTopk::draw:
        ids[i] = draw(row);
        break;
      default:
        penalise(row, history.subspan(i * p.capacity, p.capacity),
                 bias.subspan(i * p.biases * 2, p.biases * 2));
    }
  }
}

}  // namespace ms
