// fused_layer_ref.cpp: the CPU twin of fused_layer.wgsl, in double.
#include <cmath>

#include "base/half.hpp"
#include "kernels/fused_layer/fused_layer.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

using Places = FusedLayer::Places;

// Attention of the slot at its position, whose rotated key and value go into the cache.
std::vector<float> attention_ref(const gpu::HostDispatch& d, const FusedLayer::Params& p,
                                 uint32_t dim, const Places& at, std::span<const float> qkv) {
  const Slot& slot = d.get<Slot>(7)[0];
  const auto rope = d.get<float>(8);
  const uint32_t half = p.rotary_dim / 2, position = slot.position;
  std::vector<float> x(qkv.begin(), qkv.end());
  for (uint32_t head = 0; head < p.heads + p.kv_heads; ++head)
    for (uint32_t pair = 0; pair < half; ++pair) {
      float& a = x[head * dim + (p.interleaved ? 2 * pair : pair)];
      float& b = x[head * dim + (p.interleaved ? 2 * pair + 1 : pair + half)];
      const size_t angle = size_t(std::min(position, p.max_seq - 1)) * half + pair;
      const double cos = rope[angle], sin = rope[size_t(p.max_seq) * half + angle];
      const double turned = a * cos - b * sin;
      b = float(b * cos + a * sin);
      a = float(turned);
    }
  const bool running = slot.stopped == Stopped::running;
  const size_t base = size_t(at.cache) * 8;
  const auto cached = [&](size_t binding, uint32_t key, uint32_t kv_head, uint32_t i) -> double {
    const size_t e = base + (size_t(key) * p.kv_heads + kv_head) * dim + i;
    return f16_to_f32(uint16_t(d.get<uint32_t>(binding)[e / 2] >> (e % 2 * 16)));
  };
  if (running && position < p.capacity)
    for (uint32_t kv : {0u, 1u})
      for (uint32_t i = 0; i < p.kv_heads * dim; ++i)
        d.store(9 + kv, base + size_t(position) * p.kv_heads * dim + i,
                x[(p.heads + kv * p.kv_heads) * dim + i], true);
  const uint32_t count = running ? std::min(position + 1, p.capacity) : 0;
  std::vector<float> result(p.heads * dim);
  for (uint32_t head = 0; head < p.heads; ++head) {
    const uint32_t kv_head = head / p.ratio;
    std::vector<double> scores(count), sum(dim);
    double peak = -1e38, total = 0;
    for (uint32_t key = 0; key < count; ++key) {
      for (uint32_t i = 0; i < dim; ++i)
        scores[key] += p.scale * x[head * dim + i] * cached(9, key, kv_head, i);
      if (p.attn_softcap != 0)
        scores[key] = p.attn_softcap * std::tanh(scores[key] / p.attn_softcap);
      peak = std::max(peak, scores[key]);
    }
    for (uint32_t key = 0; key < count; ++key) {
      const double w = std::exp(scores[key] - peak);
      total += w;
      for (uint32_t i = 0; i < dim; ++i) sum[i] += w * cached(10, key, kv_head, i);
    }
    for (uint32_t i = 0; i < dim; ++i) result[head * dim + i] = count ? float(sum[i] / total) : 0;
  }
  return result;
}

}  // namespace

void fused_layer_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedLayer::Params>();
  const auto over = d.overrides<FusedLayer::Overrides>();
  const auto quants = d.get<uint32_t>(2), scales = d.get<uint32_t>(3);
  const auto places = d.get<Places>(4);
  uint32_t turn = d.get<uint32_t>(5)[0];
  // W v, v rounded to 16-bit integers, after a norm if there is one. What has `travelled` has a
  // mark in elements 0 and 8 of each 16.
  struct Matrix {
    WeightType type;
    uint32_t quants, scales, rows;
  };
  const auto norm_at = [&](uint32_t first) { return d.get<float>(3).subspan(first, p.dim); };
  const auto product = [&](const std::vector<Matrix>& parts, std::span<const float> v,
                           bool travelled, std::span<const float> norm = {}) {
    auto e = gemv_vector(v, norm, v.size(), !norm.empty(), p.eps, true);
    for (size_t half = 0; travelled && half < v.size(); half += 16) {
      double largest = 0;
      for (size_t i = half; i < half + 16; ++i) largest = std::max(largest, std::abs(double(e[i])));
      const double step = largest / 32512;
      for (size_t i = half; largest > 0 && i < half + 16; i += 8)
        e[i] = step * double((std::lround(e[i] / step) & ~1L) | (~(turn / 4) & 1));
    }
    std::vector<float> w(v.size()), result;
    for (const Matrix& m : parts)
      for (uint32_t n = 0; n < m.rows; ++n) {
        unpack_row(m.type, n, v.size(), quants.subspan(4 * size_t(m.quants)),
                   scales.subspan(m.scales), w);
        double sum = 0;
        for (size_t k = 0; k < v.size(); ++k) sum += double(w[k]) * e[k];
        result.push_back(float(sum));
      }
    return result;
  };
  const auto type = WeightType(over.weight_type);
  const auto x = d.get<float>(1), qkv = d.get<float>(6);
  std::vector<float> own_qkv;
  const auto qkv_of = [&](const Places& at, bool travelled) {
    const uint32_t first_rows = over.some_q6_k ? std::min(at.v_first, p.qkv_rows) : p.qkv_rows;
    own_qkv = product({{type, at.w_quants, at.w_scales, first_rows},
                       {WeightType::q6_k, at.v_quants, at.v_scales, p.qkv_rows - first_rows}},
                      x.subspan(0, p.dim), travelled, norm_at(at.attn_norm));
    for (uint32_t j = 0; at.qkv_bias != UINT32_MAX && j < p.qkv_rows; ++j)
      own_qkv[j] += d.get<float>(3)[at.qkv_bias + j];
  };
  if (over.attention) {
    qkv_of(places[p.first_layer], true);
    ++turn;
  }
  for (uint32_t i = 0; i < p.layer_count; ++i, ++turn) {
    const Places& at = places[p.first_layer + i];
    std::vector<float> attended;
    if (over.attention) {
      attended = attention_ref(d, p, over.head_dim, at, own_qkv);
    } else if (over.parts) {
      const uint32_t heads = p.heads_dim / over.head_dim;
      for (uint32_t h = 0; h < heads; ++h)
        for (const double e :
             combined_ref(d.get<uint32_t>(0), heads, over.head_dim, p.splits, over.f16_parts, h))
          attended.push_back(float(e));
    } else {
      const auto a = d.get<float>(0);
      attended.assign(a.begin(), a.begin() + p.heads_dim);
    }
    const auto added = product({{type, at.o_quants, at.o_scales, p.dim}}, attended, false);
    std::vector<float> h(p.dim);
    for (uint32_t j = 0; j < p.dim; ++j) h[j] = float(x[j] + p.alpha * double(added[j]));
    const auto both = product({{type, at.gate_up_quants, at.gate_up_scales, 2 * p.ffn}}, h, true,
                              norm_at(at.ffn_norm));
    std::vector<float> activated(p.ffn);
    for (uint32_t j = 0; j < p.ffn; ++j)
      activated[j] = float(gated_ref(Activation(p.activation), both[2 * j], both[2 * j + 1]));
    const auto fed = product({{over.some_q6_k && at.down_q6_k ? WeightType::q6_k : type,
                               at.down_quants, at.down_scales, p.dim}},
                             activated, true);
    for (uint32_t j = 0; j < p.dim; ++j) x[j] = float(h[j] + p.alpha * double(fed[j]));
    if (i + 1 == p.layer_count && !p.qkv_follows) return;
    qkv_of(places[p.first_layer + i + 1], true);
  }
  if (!over.attention) std::copy(own_qkv.begin(), own_qkv.end(), qkv.begin());
}

}  // namespace ms
