// graph.cpp: the steps of a pass, each in the form for few rows (a GEMV that reads every weight
// once, with what stands before and after it inside) and for many.
#include "model/graph.hpp"

#include <algorithm>

namespace ms {

namespace {

// The first `rows` rows of a tensor of more.
gpu::View head(const gpu::View& view, uint32_t rows) { return view.slice(0, {rows, view.cols()}); }

// An f16 tensor in the memory of an f32 one.
gpu::View as_halves(gpu::View view) {
  view.type = gpu::Type::f16;
  return view;
}

gpu::View by_head(const gpu::View& view, const Config& c) {
  return view.as({view.rows(), c.heads, c.head_dim});
}

}  // namespace

FusedLayer::Layer fused(const Layer& l) {
  FusedLayer::Layer result{.attn_norm = l.attn_norm,
                           .ffn_norm = l.ffn_norm,
                           .qkv = l.qkv.parts.front().weight,
                           .qkv_bias = l.qkv.bias,
                           .output = l.attn_output,
                           .gate_up = l.ffn.gate_up.parts.front().weight,
                           .down = l.ffn.down,
                           .cache = l.cache};
  if (l.qkv.parts.size() > 1) result.v = l.qkv.parts[1].weight;
  return result;
}

Pass::Pass(const gpu::Caps& caps, const Config& config, const Activations& memory, uint32_t rows,
           const Options& options)
    : caps_(caps),
      config_(config),
      memory_(memory),
      rows_(rows),
      options_(options),
      h_(head(memory.hidden, rows)),
      h2_(head(memory.hidden2, rows)),
      normed_(head(memory.normed, rows)),
      qkv_(head(memory.qkv, rows)),
      q_(head(memory.q, rows)),
      attended_(head(memory.attended, rows)),
      gate_up_(head(memory.gate_up, rows)),
      ffn_(head(memory.ffn, rows)) {}

uint32_t Pass::few_rows(const gpu::Caps& caps) {
  // Matmuls without subgroup matrices have tiles of 64 rows.
  return caps.cpu || caps.has_matrices_of(32) ? 4 : 32;
}

gpu::View Pass::factor_of(const Weight& weight, const gpu::View& view) const {
  return !few() && weight.cols % 2 == 0 && takes_halves(caps_, rows_, weight) ? as_halves(view)
                                                                              : view;
}

void Pass::linear(const gpu::View& x, const gpu::View& norm, const Linear& weight,
                  const gpu::View& y, float alpha, const gpu::View& experts) {
  if (few() || experts) {
    for (const auto& [part, first_row] : weight.parts)
      work_ += matmul_gemv(caps_, {.x = x,
                                   .weight = part,
                                   .norm = norm,
                                   .y = y,
                                   .y_offset = first_row,
                                   .alpha = alpha,
                                   .eps = config_.norm_eps,
                                   .int16_activations = options_.int16_activations,
                                   .experts = experts,
                                   .num_experts = experts ? config_.experts : 1});
  } else {
    gpu::View normed = normed_;  // f16 where all parts take that
    if (std::ranges::all_of(weight.parts, [&](const Linear::Part& part) {
          return factor_of(part.weight, normed_).type == gpu::Type::f16;
        }))
      normed = as_halves(normed_);
    work_ += rmsnorm(caps_, {.x = x, .weight = norm, .y = normed, .eps = config_.norm_eps});
    for (const auto& [part, first_row] : weight.parts)
      work_ +=
          matmul(caps_, {.a = normed, .b = part, .c = y, .c_offset = first_row, .alpha = alpha});
  }
  if (weight.bias) work_ += bias_add(caps_, {.bias = weight.bias, .data = y});
}

void Pass::gate(const gpu::View& x, const gpu::View& norm, const GatedFfn& ffn,
                const gpu::View& gate_up, const gpu::View& y, const gpu::View& experts) {
  if ((few() || experts) && ffn.interleaved) {
    work_ += fused_ffn(caps_, {.x = x,
                               .weight = ffn.gate_up.parts.front().weight,
                               .norm = norm,
                               .y = y,
                               .activation = config_.activation,
                               .eps = config_.norm_eps,
                               .int16_activations = options_.int16_activations,
                               .experts = experts,
                               .num_experts = experts ? config_.experts : 1});
    return;
  }
  linear(x, norm, ffn.gate_up, gate_up, 1, experts);
  const GateLayout layout = ffn.interleaved ? GateLayout::interleaved : GateLayout::row_split;
  work_ += config_.activation == Activation::gelu
               ? gelu(caps_, {.input = gate_up, .y = y, .layout = layout})
               : silu(caps_, {.input = gate_up, .y = y, .layout = layout});
}

void Pass::add(const gpu::View& x, const Weight& weight, const gpu::View& post_norm) {
  const float alpha = config_.residual_scale;
  const bool int16 = options_.int16_activations;
  const gpu::View& y = post_norm ? normed_ : h2_;
  const gpu::View added_to = post_norm ? gpu::View{} : h_;
  if (!few())
    work_ += matmul(caps_, {.a = x, .b = weight, .c = y, .residual = added_to, .alpha = alpha});
  else if (post_norm)
    work_ += matmul_gemv(
        caps_, {.x = x, .weight = weight, .y = y, .alpha = alpha, .int16_activations = int16});
  else
    work_ += matmul_gemv_residual(caps_, {.x = x,
                                          .weight = weight,
                                          .residual = added_to,
                                          .y = y,
                                          .alpha = alpha,
                                          .int16_activations = int16});
  if (post_norm)
    work_ += rmsnorm(caps_, {.x = normed_,
                             .weight = post_norm,
                             .residual = h_,
                             .y = h2_,
                             .has_residual = Residual::after,
                             .eps = config_.norm_eps});
  std::swap(h_, h2_);
}

void Pass::embed(const Weight& table) {
  work_ += gather(
      caps_,
      {.indices = options_.tokens, .table = table, .y = h_, .index_stride = options_.token_stride});
  if (config_.embedding_scale != 1)
    work_ += scale(caps_, {.y = h_, .scale = config_.embedding_scale});
}

void Pass::qkv(const gpu::View& norm, const Linear& weight) {
  if (!options_.persistent) return linear(h_, norm, weight, qkv_);
  next_ = {.attn_norm = norm, .qkv = weight.parts.front().weight, .qkv_bias = weight.bias};
  if (weight.parts.size() > 1) next_.v = weight.parts[1].weight;
  if (options_.whole) {
    if (!layer_.layers.empty() && !suits_fused_layer(caps_, layer_.layers.back(), next_))
      end_layer();
    return;
  }
  if (layer_.layers.empty() || weight.parts.size() > 2 ||
      !suits_fused_layer(caps_, layer_.layers.back(), next_)) {
    end_layer();
    return linear(h_, norm, weight, qkv_);
  }
  end_layer(next_);
}

void Pass::end_layer(const FusedLayer::Layer& next) {
  if (layer_.layers.empty()) return;
  layer_.x = h_;
  layer_.places = memory_.places;
  layer_.next = next;
  if (next.qkv) layer_.qkv = qkv_;
  left_.append(fused_layer(caps_, layer_));
  work_ += std::move(left_);
  left_ = {};
  layer_ = {};
}

void Pass::add_attended(const Weight& output, const gpu::View& post_norm) {
  if (!options_.persistent) return add(attended_, output, post_norm);
  layer_.attended = attended_;
  next_.output = output;
}

void Pass::rope(const KvCache& cache, const gpu::View& tables, const gpu::View& qk_norms) {
  rope_ = {};
  if (options_.whole) {
    rope_ = tables;
    return;
  }
  if (step() && !qk_norms && cache.type() != KvType::q8_0 &&
      suits_fused_attention(caps_, config_.head_dim, cache.type())) {
    rope_ = tables;
    return;
  }
  work_ += split_qkv(caps_, {.qkv = qkv_,
                             .q = q_,
                             .cache = cache,
                             .step = options_.step,
                             .head_dim = config_.head_dim,
                             .rope = tables,
                             .interleaved = config_.interleaved_rope,
                             .norms = qk_norms,
                             .eps = config_.norm_eps});
}

void Pass::attention(const KvCache& cache, uint32_t window, const Weight& output,
                     const gpu::View& post_norm) {
  if (options_.whole) {
    if (!layer_.layers.empty() && layer_.layers.back().cache.k.buffer != cache.k.buffer)
      end_layer();
    next_.cache = cache;
    next_.output = output;
    layer_.heads = config_.heads;
    layer_.rope = rope_;
    layer_.interleaved = config_.interleaved_rope;
    layer_.scale = config_.attention_scale;
    return;
  }
  const gpu::View q = by_head(q_, config_), out = by_head(attended_, config_);
  if (step() && suits_fused_attention(caps_, config_.head_dim, cache.type())) {
    FusedAttention args{.qkv = rope_ ? qkv_ : q_,
                        .heads = config_.heads,
                        .cache = cache,
                        .slots = options_.step.slots,
                        .rope = rope_,
                        .interleaved = config_.interleaved_rope,
                        .scale = config_.attention_scale,
                        .sliding_window = window};
    args.parts = choose_parts(rows_, config_.heads, cache);
    if (!args.parts.splits) {
      args.out = out;
      work_ += fused_attention(caps_, args);
      return add_attended(output, post_norm);
    }
    gpu::Work work;
    args.parts.words = work.add_scratch({args.parts.size()}, gpu::Type::u32);
    work.append(fused_attention(caps_, args));
    if (options_.persistent) {
      left_ = std::move(work);
      layer_.parts = args.parts;
      next_.output = output;
      return;
    }
    // What the workgroups of a query found is put together by the product, where that is a GEMV
    // that adds to the residual.
    const bool fused = few() && caps_.variant.subgroups && !post_norm && config_.q_size() % 32 == 0;
    const gpu::View attended = factor_of(output, attended_);
    work.append(
        fused ? matmul_gemv_residual(caps_, {.weight = output,
                                             .residual = h_,
                                             .y = h2_,
                                             .parts = args.parts,
                                             .alpha = config_.residual_scale,
                                             .int16_activations = options_.int16_activations})
              : attention_combine(caps_, {.parts = args.parts, .out = by_head(attended, config_)}));
    work_ += std::move(work);
    if (!fused) return add(attended, output, post_norm);
    std::swap(h_, h2_);
    return;
  }
  work_ += step() ? attention_decode(caps_, {.q = q,
                                             .cache = cache,
                                             .out = out,
                                             .step = options_.step,
                                             .scale = config_.attention_scale,
                                             .sliding_window = window,
                                             .parts = memory_.attention_parts})
                  : attention_prefill(caps_, {.q = q,
                                              .cache = cache,
                                              .out = out,
                                              .step = options_.step,
                                              .scale = config_.attention_scale,
                                              .sliding_window = window});
  add_attended(output, post_norm);
}

void Pass::feed_forward(const gpu::View& norm, const GatedFfn& ffn, const gpu::View& post_norm) {
  if (options_.persistent) {
    next_.ffn_norm = norm;
    next_.gate_up = ffn.gate_up.parts.front().weight;
    next_.down = ffn.down;
    if (layer_.layers.empty()) layer_.first_layer = layers_;
    layer_.layers.push_back(next_);
    ++layers_;
    layer_.exchange = memory_.exchange;
    layer_.slots = options_.step.slots;
    layer_.activation = config_.activation;
    layer_.alpha = config_.residual_scale;
    layer_.eps = config_.norm_eps;
    layer_.groups = options_.groups;
    return;
  }
  const gpu::View activated = factor_of(ffn.down, ffn_);
  gate(h_, norm, ffn, gate_up_, activated);
  add(activated, ffn.down, post_norm);
}

void Pass::mixture(const gpu::View& norm, const Weight& router, const GatedFfn& ffn) {
  const Config& c = config_;
  const uint32_t tokens = rows_, rows = tokens * c.experts_used;
  const gpu::View logits = head(memory_.router_logits, tokens),
                  ids = head(memory_.expert_ids, tokens),
                  weights = head(memory_.expert_weights, tokens), x = head(memory_.expert_in, rows),
                  experts = head(memory_.row_experts, rows),
                  token_rows = head(memory_.token_rows, tokens),
                  activated = head(memory_.ffn, rows), out = head(memory_.expert_out, rows);

  // router logits [tokens, experts]: not of rounded activations, which would tip close choices
  work_ +=
      matmul_gemv(caps_, {.x = h_, .weight = router, .norm = norm, .y = logits, .eps = c.norm_eps});
  // the experts of each token, and their weights, which add up to 1 [tokens, experts_used]
  work_ += topk(
      caps_, {.x = logits, .indices = ids, .weights = weights, .softmax = true, .normalize = true});
  // x [rows, dim]: a row for each token and expert, by expert. The choice never leaves the GPU.
  work_ += moe_gather(caps_, {.hidden = h_,
                              .expert_indices = ids,
                              .gathered = x,
                              .token_counts = memory_.expert_counts,
                              .token_map = head(memory_.row_tokens, rows),
                              .token_offsets = token_rows,
                              .row_experts = experts});
  // activated [rows, ffn]. Each row reads its expert's weights, also in a prefill, which costs rows
  // / experts times the reads of a matmul over each expert's rows, most of them cached.
  gate(x, norm, ffn, head(memory_.gate_up, rows), activated, experts);
  // out = down projection [rows, dim]; h += its rows, weighted [tokens, dim]
  work_ += matmul_gemv(caps_, {.x = activated,
                               .weight = ffn.down,
                               .y = out,
                               .int16_activations = options_.int16_activations,
                               .experts = experts,
                               .num_experts = c.experts});
  work_ += scatter_add(caps_, {.expert_outputs = out,
                               .weights = weights,
                               .output = h_,
                               .token_offsets = token_rows,
                               .accumulate = true});
}

void Pass::logits(const gpu::View& norm, const Linear& output) {
  end_layer();
  if (options_.states)
    work_ += rmsnorm(caps_, {.x = h_, .weight = norm, .y = normed_, .eps = config_.norm_eps});
  else
    linear(h_, norm, output, options_.logits, config_.logit_scale);
}

}  // namespace ms
