"""Tiny models of random weights as transformers saves them, and the logits (of BERT, the last states) that it computes of them.

usage: make_transformers.py      writes NAME/ (config.json, model.safetensors), NAME.json (the input ids) and
                                 NAME.exact.f32 [tokens, vocab or dim] beside itself. Needs: pip install torch transformers
The weights are bfloat16 but Mistral's, float32; the logits are those of a float64 copy, with attention in plain matrices.
"""
import copy
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen3Config

VOCAB, TOKENS = 128, 48
SHAPE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             num_hidden_layers=2, max_position_embeddings=256)

LLAMA3 = dict(rope_type="llama3", rope_theta=5000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
here = Path(__file__).parent
for seed, (name, config, dtype) in enumerate([
    ("hf-llama3", LlamaConfig(**SHAPE, rope_parameters=LLAMA3), torch.bfloat16),
    ("hf-mistral", MistralConfig(**SHAPE, sliding_window=10), torch.float32),
    ("hf-qwen3", Qwen3Config(**SHAPE, tie_word_embeddings=True), torch.bfloat16),
    # Layers 1 and 3 see all, with linear scaling; 0 and 2 a window.
    ("hf-gemma3", Gemma3TextConfig(**{**SHAPE, "num_hidden_layers": 4}, sliding_window=10, query_pre_attn_scalar=24,
                                   layer_types=["sliding_attention", "full_attention"] * 2,
                                   rope_parameters={"sliding_attention": dict(rope_type="default", rope_theta=10000.0),
                                                    "full_attention": dict(rope_type="linear", rope_theta=1e6, factor=8.0)}), torch.bfloat16),
    ("hf-bert", BertConfig(vocab_size=VOCAB, hidden_size=48, intermediate_size=64, num_attention_heads=4, num_hidden_layers=2,
                           max_position_embeddings=64), torch.float32),
]):
    torch.manual_seed(seed)
    if name == "hf-bert":
        model = BertModel(config, add_pooling_layer=False).eval()
    else:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, p in model.named_parameters():
            # Gemma's norms multiply by 1 + weight.
            around = 0 if p.dim() > 1 or name == "hf-gemma3" or key.endswith("bias") else 1
            p.copy_((around + torch.randn(p.shape) * (1.5 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.1)).to(dtype))
    tokens = torch.randint(0, VOCAB, (TOKENS,))
    with torch.no_grad():  # a copy: a model that is cast loses bits of its RoPE frequencies, too
        out = copy.deepcopy(model).double()(tokens[None])
    logits = (out.last_hidden_state if name == "hf-bert" else out.logits)[0]
    shutil.rmtree(here / name, ignore_errors=True)
    model.to(dtype).save_pretrained(here / name)
    (here / name / "generation_config.json").unlink(missing_ok=True)
    logits.numpy().astype("<f4").tofile(here / f"{name}.exact.f32")
    (here / f"{name}.json").write_text(json.dumps({"vocab": VOCAB, "tokens": tokens.tolist()}) + "\n")
    print(name, float(logits.std()))
