"""A tiny mixture of experts as a GGUF file (Mixtral's layout, random weights, no tokenizer), and its exact logits.

usage: make_tiny_moe.py      writes tiny-moe.gguf, tiny-moe.json (the input ids) and tiny-moe.exact.f32 [tokens, vocab]
                             beside itself. Needs: pip install gguf numpy (tools/setup --checks installs them)
The logits are those of the quantised weights, in float64, one token and one expert at a time.
"""
import json
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

VOCAB, DIM, LAYERS, HEADS, KV_HEADS, HEAD_DIM, FFN, EXPERTS, USED, EPS, BASE = 256, 64, 2, 4, 2, 16, 64, 8, 2, 1e-5, 10000.0
TOKENS = 32
F32, F16, Q4_0, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q4_0", "Q8_0"))
here = Path(__file__).parent
rng = np.random.default_rng(25)

writer = gguf.GGUFWriter(here / "tiny-moe.gguf", "llama")
writer.add_name("tiny-moe")
writer.add_block_count(LAYERS)
writer.add_context_length(128)
writer.add_embedding_length(DIM)
writer.add_feed_forward_length(FFN)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_key_length(HEAD_DIM)
writer.add_value_length(HEAD_DIM)
writer.add_rope_dimension_count(HEAD_DIM)
writer.add_rope_freq_base(BASE)
writer.add_layer_norm_rms_eps(EPS)
writer.add_expert_count(EXPERTS)
writer.add_expert_used_count(USED)

weights = {}


def add(name, kind, *shape, around=0.0, size=1.0):
    """Weights of deviation size / sqrt(columns), or for norms `size`, as their type keeps them."""
    values = (around + rng.standard_normal(shape) * size / (np.sqrt(shape[-1]) if len(shape) > 1 else 1)).astype(np.float32)
    stored = {F32: lambda: values, F16: lambda: values.astype(np.float16)}.get(kind, lambda: quantize(values, kind))()
    weights[name] = (dequantize(stored, kind) if kind in (Q4_0, Q8_0) else stored).astype(np.float64).reshape(shape)
    writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)


add("token_embd", Q8_0, VOCAB, DIM, size=8)
add("output", Q8_0, VOCAB, DIM)
add("output_norm", F32, DIM, around=1, size=0.1)
for layer in range(LAYERS):
    blk = f"blk.{layer}."
    add(blk + "attn_norm", F32, DIM, around=1, size=0.1)
    add(blk + "attn_q", Q8_0, HEADS * HEAD_DIM, DIM)
    add(blk + "attn_k", Q8_0, KV_HEADS * HEAD_DIM, DIM)
    add(blk + "attn_v", Q8_0, KV_HEADS * HEAD_DIM, DIM)
    add(blk + "attn_output", Q8_0, DIM, HEADS * HEAD_DIM)
    add(blk + "ffn_norm", F32, DIM, around=1, size=0.1)
    add(blk + "ffn_gate_inp", (F32, F16)[layer], EXPERTS, DIM, size=2)
    # Gate and up of one type, and of two.
    add(blk + "ffn_gate_exps", Q4_0, EXPERTS, FFN, DIM, size=2)
    add(blk + "ffn_up_exps", (Q4_0, Q8_0)[layer], EXPERTS, FFN, DIM)
    add(blk + "ffn_down_exps", (Q8_0, Q4_0)[layer], EXPERTS, DIM, FFN)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


def norm(x, weight):
    return x / np.sqrt(np.mean(x * x) + EPS) * weight


def rope(x, position):
    """x: [heads, head_dim]; pairs (2i, 2i + 1)."""
    angle = position * BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    even, odd = x[:, 0::2], x[:, 1::2]
    return np.stack([even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)], -1).reshape(x.shape)


margins, chosen = [], set()


def experts(x, layer):
    w = lambda name: weights[f"blk.{layer}.ffn_{name}"]
    logits = w("gate_inp") @ x
    order = np.argsort(-logits, kind="stable")
    margins.append(logits[order[USED - 1]] - logits[order[USED]])
    p = np.exp(logits - logits.max())
    p /= p.sum()
    y = np.zeros(DIM)
    for e in order[:USED]:
        chosen.add((layer, int(e)))
        gate, up = w("gate_exps")[e] @ x, w("up_exps")[e] @ x
        y += p[e] / p[order[:USED]].sum() * (w("down_exps")[e] @ (gate / (1 + np.exp(-gate)) * up))
    return y


keys, values = ([[] for _ in range(LAYERS)] for _ in range(2))


def step(token, position):
    x = weights["token_embd"][token]
    for layer in range(LAYERS):
        w = lambda name: weights[f"blk.{layer}.{name}"]
        y = norm(x, w("attn_norm"))
        q = rope((w("attn_q") @ y).reshape(HEADS, HEAD_DIM), position)
        keys[layer].append(rope((w("attn_k") @ y).reshape(KV_HEADS, HEAD_DIM), position))
        values[layer].append((w("attn_v") @ y).reshape(KV_HEADS, HEAD_DIM))
        k, v = (np.array(cache[layer]).repeat(HEADS // KV_HEADS, 1) for cache in (keys, values))
        score = np.einsum("he,jhe->hj", q, k) / np.sqrt(HEAD_DIM)
        p = np.exp(score - score.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + w("attn_output") @ np.einsum("hj,jhe->he", p, v).ravel()
        x = x + experts(norm(x, w("ffn_norm")), layer)
    return weights["output"] @ norm(x, weights["output_norm"])


tokens = [int(t) for t in rng.integers(0, VOCAB, TOKENS)]
logits = np.array([step(token, position) for position, token in enumerate(tokens)])
logits.astype("<f4").tofile(here / "tiny-moe.exact.f32")
(here / "tiny-moe.json").write_text(json.dumps({"vocab": VOCAB, "tokens": tokens}) + "\n")
# What rounding must not tip, and what all of it should cover.
print(f"the closest choice of experts is by {min(margins):.4f}; {len(chosen)} of {LAYERS * EXPERTS} experts are chosen")
