"""Tiny models of random weights as GGUF files without a tokenizer, and their exact logits.

usage: make_tiny.py      writes NAME.gguf, NAME.json (the input ids) and NAME.exact.f32 [tokens, vocab] of tiny-moe,
                         tiny-granite and tiny-qwen2 beside itself. Needs: pip install gguf numpy (tools/setup --checks)
The logits are those of the quantised weights, in float64, one token and one expert at a time.
"""
import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

VOCAB, DIM, LAYERS, HEADS, KV_HEADS, HEAD_DIM, FFN, EPS, BASE, TOKENS = 256, 64, 2, 4, 2, 16, 64, 1e-5, 10000.0, 32
F32, F16, Q4_0, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q4_0", "Q8_0"))


@dataclass
class Model:
    name: str
    architecture: str
    seed: int
    experts: int = 0  # 0: one feed-forward network for every token
    experts_used: int = 0
    biases: bool = False  # of q, k and v
    interleaved: bool = True  # RoPE over pairs (2i, 2i + 1); else (i, i + half)
    embedding_scale: float = 1
    residual_scale: float = 1
    attention_scale: float = HEAD_DIM**-0.5
    logit_scale: float = 1  # logits are divided by it


def write(m: Model, path: Path):
    """The file of random weights. Returns them by name, as their types keep them, and the generator that goes on."""
    rng = np.random.default_rng(m.seed)
    weights = {}
    writer = gguf.GGUFWriter(path, m.architecture)
    writer.add_name(m.name)
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
    if m.experts:
        writer.add_expert_count(m.experts)
        writer.add_expert_used_count(m.experts_used)
    if m.architecture == "granite":
        writer.add_embedding_scale(m.embedding_scale)
        writer.add_residual_scale(m.residual_scale)
        writer.add_attention_scale(m.attention_scale)
        writer.add_logit_scale(m.logit_scale)

    def add(name, kind, *shape, around=0.0, size=1.0):
        """Weights of deviation size / sqrt(columns), or of vectors `size`."""
        values = (around + rng.standard_normal(shape) * size / (np.sqrt(shape[-1]) if len(shape) > 1 else 1)).astype(np.float32)
        stored = {F32: lambda: values, F16: lambda: values.astype(np.float16)}.get(kind, lambda: quantize(values, kind))()
        name = name if name.endswith(".bias") else name + ".weight"
        weights[name] = (dequantize(stored, kind) if kind in (Q4_0, Q8_0) else stored).astype(np.float64).reshape(shape)
        writer.add_tensor(name, stored, raw_dtype=kind)

    add("token_embd", Q8_0, VOCAB, DIM, size=8 / m.embedding_scale)
    add("output", Q8_0, VOCAB, DIM)
    add("output_norm", F32, DIM, around=1, size=0.1)
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        add(blk + "attn_norm", F32, DIM, around=1, size=0.1)
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            add(blk + "attn_" + name, Q8_0, rows * HEAD_DIM, DIM)
            if m.biases:
                add(f"{blk}attn_{name}.bias", F32, rows * HEAD_DIM)
        add(blk + "attn_output", Q8_0, DIM, HEADS * HEAD_DIM)
        add(blk + "ffn_norm", F32, DIM, around=1, size=0.1)
        experts, suffix = ((m.experts,), "_exps") if m.experts else ((), "")
        if m.experts:
            add(blk + "ffn_gate_inp", (F32, F16)[layer], m.experts, DIM, size=2)
        # Gate and up of one type, and of two.
        add(blk + "ffn_gate" + suffix, Q4_0, *experts, FFN, DIM, size=2)
        add(blk + "ffn_up" + suffix, (Q4_0, Q8_0)[layer], *experts, FFN, DIM)
        add(blk + "ffn_down" + suffix, (Q8_0, Q4_0)[layer], *experts, DIM, FFN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights, rng


def run(m: Model, weights, tokens):
    """The logits [tokens, vocab] in float64."""
    keys, values = ([[] for _ in range(LAYERS)] for _ in range(2))
    margins, chosen = [], set()

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x) + EPS) * weight

    def rope(x, position):
        """x: [heads, head_dim]"""
        angle = position * BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        cos, sin, half = np.cos(angle), np.sin(angle), HEAD_DIM // 2
        a, b = (x[:, 0::2], x[:, 1::2]) if m.interleaved else (x[:, :half], x[:, half:])
        a, b = a * cos - b * sin, a * sin + b * cos
        return np.stack([a, b], -1).reshape(x.shape) if m.interleaved else np.concatenate([a, b], -1)

    def gated(gate, up, down, x):
        gate = gate @ x
        return down @ (gate / (1 + np.exp(-gate)) * (up @ x))

    def feed_forward(x, layer):
        w = lambda name: weights[f"blk.{layer}.ffn_{name}.weight"]
        if not m.experts:
            return gated(w("gate"), w("up"), w("down"), x)
        logits = w("gate_inp") @ x
        order = np.argsort(-logits, kind="stable")
        margins.append(logits[order[m.experts_used - 1]] - logits[order[m.experts_used]])
        p = np.exp(logits - logits.max())
        p /= p.sum()
        used = order[: m.experts_used]
        chosen.update((layer, int(e)) for e in used)
        return sum(p[e] / p[used].sum() * gated(w("gate_exps")[e], w("up_exps")[e], w("down_exps")[e], x) for e in used)

    def step(token, position):
        x = weights["token_embd.weight"][token] * m.embedding_scale
        for layer in range(LAYERS):
            w = lambda name: weights[f"blk.{layer}.{name}.weight"]
            y = norm(x, w("attn_norm"))
            q, k, v = (
                (w(f"attn_{name}") @ y + weights.get(f"blk.{layer}.attn_{name}.bias", 0)).reshape(-1, HEAD_DIM) for name in "qkv"
            )
            q = rope(q, position)
            keys[layer].append(rope(k, position))
            values[layer].append(v)
            k, v = (np.array(cache[layer]).repeat(HEADS // KV_HEADS, 1) for cache in (keys, values))
            score = np.einsum("he,jhe->hj", q, k) * m.attention_scale
            p = np.exp(score - score.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            x = x + w("attn_output") @ np.einsum("hj,jhe->he", p, v).ravel() * m.residual_scale
            x = x + feed_forward(norm(x, w("ffn_norm")), layer) * m.residual_scale
        return weights["output.weight"] @ norm(x, weights["output_norm.weight"]) / m.logit_scale

    logits = np.array([step(token, position) for position, token in enumerate(tokens)])
    if margins:  # what rounding must not tip, and what all of it should cover
        print(f"  the closest choice of experts is by {min(margins):.4f}; {len(chosen)} of {LAYERS * m.experts} are chosen")
    return logits


here = Path(__file__).parent
for m in (
    Model("tiny-moe", "llama", seed=25, experts=8, experts_used=2),
    Model("tiny-granite", "granite", seed=26, biases=True, embedding_scale=12, residual_scale=0.22, attention_scale=0.1, logit_scale=8),
    Model("tiny-qwen2", "qwen2", seed=27, biases=True, interleaved=False),
):
    print(m.name)
    weights, rng = write(m, here / f"{m.name}.gguf")
    tokens = [int(t) for t in rng.integers(0, VOCAB, TOKENS)]
    run(m, weights, tokens).astype("<f4").tofile(here / f"{m.name}.exact.f32")
    (here / f"{m.name}.json").write_text(json.dumps({"vocab": VOCAB, "tokens": tokens}) + "\n")
