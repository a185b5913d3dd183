"""What other implementations make of the same text: mixed_text.tsv, splits.tsv and templates.json, beside this file.

usage: make_expectations.py SHARED MODELS      SHARED: the folder of reference files; MODELS: of the real models
needs: pip install jinja2==3.1.6 tokenizers==0.23.3 xllamacpp==2026.10.11549

mixed_text.tsv: a line is a text (as a JSON string) and, for each model, the hash of its tokens.
splits.tsv: for each tokenizer.ggml.pre, the hash of the tokens of all those texts with a vocabulary of all bytes
and all pairs of bytes, which shows where pieces end.
templates.json: conversations, and what each chat template of SHARED makes of them (Jinja2, set up as transformers
does): the hash of a text, or the message with which it refuses, empty where that is Python's own. A hash is FNV-1a of 32 bits: over ids (u32, little-endian) or over text (UTF-8).
"""
import http.client
import json
import random
import sys
from pathlib import Path

import jinja2.ext
import jinja2.sandbox
import xllamacpp
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

HERE = Path(__file__).parent
SEPARATOR = 0xFFFFFFFF  # between the ids of a line without and with special tokens, and between lines


def fnv(data, value=0x811C9DC5):
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def hash_of(ids):
    return f"{fnv(b''.join(i.to_bytes(4, 'little') for i in ids)):08x}"


# ---- text ----

WORDS = """the of and to in is was he for it with his on be at by had not are but from or have an they which one you were
all her she there would their we him been has when who will no more if out so said what up about into them can other new
some could time these two may first then do any like my now over such our man me even most made after also did many must
can't won't I'll they've you're she'd it's SHE'S O'Neil rock'n'roll HTTPServer camelCase snake_case""".split()
OTHER = """Führer naïve Ελληνικά Привет нещо Български 日本語 の テキスト 中文字符 你好 世界 한국어 안녕하세요 हिन्दी กำลัง مرحبا שלום
កាន់តែ 🚀 😶‍🌫️ 👨‍👩‍👧‍👦 🦙 ǅ ﬁ ß ſ İ ½ ² Ⅷ ٣ ৪ 𝔘𝔫𝔦 𐍈 ᾳ – … «» “q” ¿ ₿ ▁""".split() + [
    "e\u0301", "\u200b", "\u00a0", "\u3000", "\ufeff", "\u2028", "\U000e0041", "\ud7ff", "\uffff", "\x00", "\x7f", "\x1b"]
# Without "</s>", which llama.cpp takes for a control token in every vocabulary.
MARKS = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + """... !! ?! -> => :: // /* {} [] () '' ```
<| |> <s> <unk> <|im_start|> <|im_end|> <|endoftext|> <|end|> <|user|> <0x0A>""".split()
SPACES = [" "] * 30 + ["  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", "  \n  ", "", "", ""]
CODE = ["def f(x):\n    return x**2\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "<div class=\"x\">&nbsp;</div>",
        "{\"a\": [1, 2.5, null]}", "\\frac{a}{b} \\le x^{2}", "https://example.com/a?b=c&d=e#f", "2024-06-07T12:34:56Z"]


def make_word(rng):
    kind = rng.random()
    if kind < 0.62:
        word = rng.choice(WORDS)
        return rng.choice([word] * 8 + [word.capitalize(), word.upper()])
    if kind < 0.72:
        return rng.choice([str(rng.randrange(10**8)), f"{rng.random() * 1000:.3f}", f"{rng.randrange(10**7):,}", hex(rng.randrange(2**32))])
    if kind < 0.83:
        return "".join(rng.choice(MARKS) for _ in range(rng.choice([1, 1, 1, 2, 3])))
    if kind < 0.92:
        return rng.choice(OTHER)
    if kind < 0.95:
        return chr(rng.choice([rng.randrange(0x80), rng.randrange(0x250), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
    if kind < 0.98:
        return rng.choice(CODE)
    return rng.choice("a=-. \n\t") * rng.randrange(2, 40)


def make_texts():
    rng = random.Random(1)
    return ["".join(make_word(rng) + rng.choice(SPACES) for _ in range(rng.randrange(1, 14))) for _ in range(1000)]


# ---- tokens ----


def with_llama_cpp(model, texts):
    """A hash per text."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup, params.port, params.hostnames = str(model), 256, False, 0, ["127.0.0.1"]
    server = xllamacpp.Server(params)
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://").rstrip("/"))

    def tokens(text, special):
        body = json.dumps({"content": text, "add_special": False, "parse_special": special})
        connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())["tokens"]

    return [hash_of([*tokens(text, False), SEPARATOR, *tokens(text, True)]) for text in texts]


def with_tokenizers(tokenizer, texts):
    """A hash per text."""
    ids = []
    for tokenizer.encode_special_tokens in (True, False):
        ids.append([tokenizer.encode(text, add_special_tokens=False).ids for text in texts])
    return [hash_of([*plain, SEPARATOR, *special]) for plain, special in zip(*ids)]


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACE_RULES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def cased(digits, suffix):
    start = r"[^\r\n\p{L}\p{N}]?"
    return f"{start}{UPPER}*{LOWER}+{suffix}|{start}{UPPER}+{LOWER}*{suffix}|{digits}" r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACE_RULES


def modern(letters, digits, signs):
    return CONTRACTIONS + rf"|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{digits}| ?{signs}+[\r\n]*" + SPACE_RULES


def splits():
    """The pre-tokenizers of tokenizer.json of the models that the names come from."""
    digits, gpt2 = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    signs = r"[^\s\p{L}\p{N}]"
    return {
        "gpt-2": [gpt2],
        "smollm": [digits, gpt2],
        "llama-bpe": [modern(r"\p{L}", r"\p{N}{1,3}", signs)],
        "qwen2": [modern(r"\p{L}", r"\p{N}", signs)],
        "qwen35": [modern(r"[\p{L}\p{M}]", r"\p{N}", r"[^\s\p{L}\p{M}\p{N}]")],
        "gpt-4o": [cased(r"\p{N}{1,3}", CONTRACTIONS + "?")],
        "tekken": [cased(r"\p{N}", "")],
        "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, digits],
        "deepseek-v3": [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + SPACE_RULES],
        "falcon": [pre_tokenizers.Punctuation("contiguous"), gpt2, "[0-9][0-9][0-9]"],
    }


def byte_pairs():
    """GPT-2's characters for the bytes, in order, and then every pair of them, which all merge."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(256 + others.index(byte)) if byte in others else chr(byte) for byte in range(256)]
    merges = [(left, right) for left in alphabet for right in alphabet]
    return alphabet + ["".join(merge) for merge in merges], merges


def split_hashes(texts):
    tokens, merges = byte_pairs()
    for name, steps in splits().items():
        whole_words = name in ("llama-bpe", "tekken")
        tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges, ignore_merges=whole_words))
        steps = [pre_tokenizers.Split(Regex(step), "isolated") if isinstance(step, str) else step for step in steps]
        has_bytes = any(isinstance(step, pre_tokenizers.ByteLevel) for step in steps)
        last = [] if has_bytes else [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps + last)
        yield name, hash_of(i for text in texts for i in [*tokenizer.encode(text).ids, SEPARATOR])


# ---- chat templates ----

CITY = {"type": "object", "required": ["city"], "properties": {
    "city": {"type": "string", "description": "The city's name, like <Paris> & \"Rome\""},
    "days": {"type": "integer", "description": "n", "minimum": 1, "default": 3},
    "fraction": {"type": "number", "description": "x", "default": 0.5}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather, in °C", "parameters": CITY}},
         {"type": "function", "function": {"name": "ping", "description": "Ping", "parameters": {"type": "object", "properties": {}}}}]
ARGUMENTS = {"city": "Zürich", "days": 2}
CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
TEXT_CALL = {**CALL, "function": {**CALL["function"], "arguments": json.dumps(ARGUMENTS, ensure_ascii=False)}}  # as OpenAI has it
SYSTEM = {"role": "system", "content": "You are terse.\n"}
USER = {"role": "user", "content": "  Is it 'warm' in <b>Zürich</b> & \"Rome\"?\n"}
VARIABLES = {"date_string": "26 Jul 2024", "functions": "F", "datetime": "D"}  # that some of the templates ask for
CASES = {
    "user": {"messages": [USER], "add_generation_prompt": True},
    "system": {"messages": [SYSTEM, USER, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}, USER], "add_generation_prompt": True},
    "no prompt": {"messages": [USER, {"role": "assistant", "content": "Yes."}], "add_generation_prompt": False},
    "tools": {"messages": [SYSTEM, USER], "tools": TOOLS, "add_generation_prompt": True},
    **{name: {"messages": [USER, {"role": "assistant", "content": content, "tool_calls": [call]},
                           {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": "{\"t\": 20.0}"}],
              "tools": TOOLS, "add_generation_prompt": True}
       for name, call, content in [("call", CALL, ""), ("call as text", TEXT_CALL, ""), ("call alone", TEXT_CALL, None)]},
}


def compile_template(source):
    def raise_exception(message):
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    environment.filters["tojson"] = lambda x, ensure_ascii=False, **options: json.dumps(x, ensure_ascii=ensure_ascii, **options)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


def render(template, case):
    try:
        text = template.render({"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", **VARIABLES, **case})
    except jinja2.TemplateError as error:
        return {"refused": error.message}
    except TypeError:
        return {"refused": ""}
    return f"{fnv(text.encode()):08x}"


def chat_templates(folder):
    """(name, source): of files, and of the configs of tokenizers."""
    for path in sorted((folder / "templates").glob("*.jinja")):
        yield f"templates/{path.name}", path.read_text()
    for path in sorted(folder.glob("*/tokenizer_config*.json")):
        if source := json.loads(path.read_text()).get("chat_template"):
            yield f"{path.parent.name}/{path.name}", source


def main():
    shared, real = Path(sys.argv[1]), Path(sys.argv[2])
    texts = make_texts()
    columns = {"tales-31m": with_tokenizers(Tokenizer.from_file(str(shared / "models/tales-31m/tokenizer.json")), texts)}
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b", "gemma3-270m"):
        columns[name] = with_llama_cpp(real / f"{name}.gguf", texts)
    lines = [["text", *columns], *zip(map(json.dumps, texts), *columns.values())]
    (HERE / "mixed_text.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))

    (HERE / "splits.tsv").write_text("".join(f"{name}\t{value}\n" for name, value in split_hashes(texts)))

    expected = {}
    for name, source in chat_templates(shared / "tokenizers"):
        template = compile_template(source)
        expected[name] = {case: render(template, CASES[case]) for case in CASES}
    data = {"variables": VARIABLES, "cases": CASES, "expected": expected}
    (HERE / "templates.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


main()
