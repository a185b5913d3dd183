"""Embeddings of all-MiniLM-L6-v2, as sentence-transformers computes them: mean of the last states, of length 1; in float64. No
text is cut: of one of more than 256 tokens it would take the first.

usage: make_minilm.py FOLDER     FOLDER: the model (tools/get-model minilm-l6-v2). Writes minilm.json beside itself: texts, their
                                 tokens and their embeddings. Needs: pip install torch transformers
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = ["That is a happy person", "The weather is lovely today.", "Größe, façade, 東京: naïve Résumés!",
         "A unit of heat is the calorie; " * 30, "."]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1]).double().eval()
cases = []
for text in TEXTS:
    tokens = tokenizer(text, return_tensors="pt", truncation=False)["input_ids"]
    with torch.no_grad():
        states = model(tokens).last_hidden_state[0]
    embedding = states.mean(0)
    embedding /= embedding.norm()
    cases.append({"text": text, "tokens": tokens[0].tolist(), "embedding": [round(float(x), 7) for x in embedding]})
    print(len(tokens[0]), text[:40])
(Path(__file__).parent / "minilm.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")
