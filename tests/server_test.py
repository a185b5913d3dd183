"""server_test: mainspring serve by raw requests, well and badly formed, and by OpenAI's own client.

usage: server_test PROGRAM MODEL MODEL_WITHOUT_TEMPLATE [TEST…]
"""
import base64
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import gguf
import openai

PROGRAM, MODEL, WITHOUT_TEMPLATE = sys.argv[1:4]
NAME = "tales"
MODELS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring/models"
TOOLS = [{"type": "function", "function": {
    "name": "find_animal", "description": "Finds an animal", "strict": True,
    "parameters": {"type": "object", "required": ["kind", "legs"], "additionalProperties": False,
                   "properties": {"kind": {"enum": ["fox", "hen"]}, "legs": {"type": "integer", "minimum": 2, "maximum": 4}}}}},
    {"type": "function", "function": {"name": "go_home"}}]
KEY = "a-key-of-the-test"
HELLO = [{"role": "user", "content": "Tell me of a fox."}]
SHORT = {"temperature": 0, "max_tokens": 8}
CUT = {"temperature": 0, "max_tokens": 4}  # the answer to HELLO goes on
# Greedy, the model repeats itself for ever: a request that does not end while a test looks at it.
LONG = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 1000, "n": 8}


def environment(**more):
    return {**{k: v for k, v in os.environ.items() if not re.match(r"MAINSPRING_(?!DEVICE)", k)}, **more}


class Process:
    """A server on a free port."""

    def __init__(self, *arguments, model=MODEL, **variables):
        command = [PROGRAM, "serve", "-m", model, "--port", "0", *arguments]
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment(**variables))
        line = self.process.stdout.readline()
        match = re.fullmatch(r"(\S+) at (http://(?:127\.0\.0\.1|\[::[\w.:]+\]):(\d+)/v1)\n", line)
        if not match:
            self.process.kill()
            raise AssertionError(f"{line!r}: {self.log()}")
        self.name, self.url, self.port = match[1], match[2], int(match[3])

    def log(self):
        self.errors.seek(0)
        return self.errors.read().decode()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def ask(self, method, path, body=None, headers={}):
        """Status, headers, and the body: JSON as what it says."""
        connection = self.connect()
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            json_type = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, data, {**json_type, **headers})
            answer = connection.getresponse()
            text = answer.read()
            is_json = answer.headers.get("Content-Type") == "application/json"
            return answer.status, answer.headers, json.loads(text) if is_json and text else text.decode()
        finally:
            connection.close()

    def post(self, path, body, **headers):
        return self.ask("POST", path, body, headers)

    def raw(self, data):
        """All that comes for these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=600) as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has said enough
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionResetError:
                pass
            return answer

    def metrics(self, headers={}):
        status, _, text = self.ask("GET", "/metrics", headers=headers)
        assert status == 200, text
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    def until(self, name, value):
        """Waits for a figure."""
        end = time.monotonic() + 600
        while (now := self.metrics()["mainspring_" + name]) != value:
            assert time.monotonic() < end, f"{name} stays {now}, want {value}"
            time.sleep(0.02)

    def begin(self, body, path="/v1/completions"):
        """A request whose answer is not read; closing the socket is the client's leaving."""
        data = json.dumps(body).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=600)
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
        return connection


def events(text):
    """The data of server-sent events, each of which must be well-formed; comments are left out."""
    assert text.endswith("\n\n"), text
    result = []
    for event in text[:-2].split("\n\n"):
        if event.startswith(":"):
            continue
        assert event.startswith("data: ") and "\n" not in event, event
        result.append(event[6:])
    return result


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Process("-a", NAME)
        cls.addClassCleanup(cls.server.close)

    def error(self, answer, status, param=None, code=None, message=""):
        got, headers, body = answer
        self.assertEqual(got, status, body)
        self.assertEqual(set(body["error"]), {"message", "type", "param", "code"})
        self.assertEqual((body["error"]["param"], body["error"]["code"]), (param, code), body)
        self.assertIn(message, body["error"]["message"])
        return headers

    def complete(self, **body):
        status, _, answer = self.server.post("/v1/completions", {"prompt": "Once upon a time", **SHORT, **body})
        self.assertEqual(status, 200, answer)
        return answer

    def chat(self, **body):
        status, _, answer = self.server.post("/v1/chat/completions", {"messages": HELLO, **CUT, **body})
        self.assertEqual(status, 200, answer)
        return answer

    def test_health_and_models(self):
        self.assertEqual(self.server.ask("GET", "/health")[2], {"status": "ok"})
        status, _, models = self.server.ask("GET", "/v1/models")
        self.assertEqual((status, models["object"], [m["id"] for m in models["data"]]), (200, "list", [NAME]))
        self.assertEqual(self.server.ask("GET", f"/v1/models/{NAME}")[2], models["data"][0])
        self.error(self.server.ask("GET", "/v1/models/other"), 404, "model", "model_not_found", NAME)
        status, headers, body = self.server.ask("HEAD", "/health")
        self.assertEqual((status, headers["Content-Length"], body), (200, "15", ""))

    def test_a_chat_completion(self):
        answer = self.chat(user="someone", metadata={"a": "b"}, response_format={"type": "text"}, nobody_knows=1, stop=None)
        self.assertRegex(answer["id"], "^chatcmpl-")
        self.assertEqual((answer["object"], answer["model"]), ("chat.completion", NAME))
        (choice,) = answer["choices"]
        self.assertEqual((choice["index"], choice["message"]["role"], choice["finish_reason"]), (0, "assistant", "length"))
        self.assertTrue(choice["message"]["content"].strip())
        usage = answer["usage"]
        self.assertEqual(usage["completion_tokens"], 4)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 4)
        whole = self.chat(max_completion_tokens=100, stop=".")
        self.assertEqual(whole["choices"][0]["finish_reason"], "stop")
        self.assertEqual(whole["choices"][0]["message"]["content"], "Once upon a time there was a wood-cutter")
        self.assertEqual(whole["usage"]["completion_tokens"], 12)
        # The end that the model says itself: any text that a pattern ends.
        self.assertEqual(self.chat(max_completion_tokens=100, response_format={"type": "regex", "regex": "Once( upon)?"})["choices"][0]["finish_reason"], "stop")
        # Parts and roles come to the same prompt, and so to the same answer.
        parts = [{"role": "user", "content": [{"type": "text", "text": "Tell me of a fox."}]}]
        self.assertEqual(self.chat(messages=parts)["choices"], answer["choices"])
        for system in "system", "developer":
            messages = [{"role": system, "content": "Be brief."}, *HELLO]
            _, _, prompt = self.server.post("/apply-template", {"messages": messages})
            self.assertEqual(prompt, {"prompt": "<|system|>\nBe brief.<|end|><|user|>\nTell me of a fox.<|end|><|assistant|>\n"})
        empty = [*HELLO, {"role": "assistant", "content": None, "refusal": None}, *HELLO]
        self.assertEqual(self.server.post("/apply-template", {"messages": empty})[2],
                         self.server.post("/apply-template", {"messages": [HELLO[0], {"role": "assistant", "content": ""}, HELLO[0]]})[2])
        refused = [*HELLO, {"role": "assistant", "content": None, "refusal": "No."}]
        _, _, prompt = self.server.post("/apply-template", {"messages": refused})
        self.assertIn("<|assistant|>\nNo.<|end|>", prompt["prompt"])
        # The next turn evaluates what is new.
        said = choice["message"]
        again = self.chat(messages=[*HELLO, {"role": "assistant", "content": said["content"]}, {"role": "user", "content": "And then?"}])
        self.assertGreaterEqual(again["usage"]["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"] - 1)

    def check_calls(self, calls):
        for call in calls:
            self.assertEqual((set(call), call["type"]), ({"id", "type", "function"}, "function"))
            self.assertRegex(call["id"], "^[0-9a-zA-Z]{9}$")
            arguments = json.loads(call["function"]["arguments"])
            if call["function"]["name"] == "go_home":
                self.assertEqual(arguments, {})
            else:
                self.assertEqual(call["function"]["name"], "find_animal")
                self.assertEqual(set(arguments), {"kind", "legs"})
                self.assertIn(arguments["kind"], ("fox", "hen"))
                self.assertIn(arguments["legs"], (2, 3, 4))

    def test_calls_of_tools_that_must_be(self):
        """By a model that knows nothing of tools: the grammar alone makes them."""
        one = {"tools": TOOLS, "max_tokens": 100, "parallel_tool_calls": False}
        for seed in range(4):
            (choice,) = self.chat(**one, tool_choice="required", temperature=1.5, seed=seed)["choices"]
            self.assertEqual((choice["finish_reason"], choice["message"]["content"], len(choice["message"]["tool_calls"])), ("tool_calls", None, 1))
            self.check_calls(choice["message"]["tool_calls"])
        for name in "find_animal", "go_home":
            chosen = {"type": "function", "function": {"name": name}}
            some = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [chosen]}}
            for choice in chosen, some:
                (choice,) = self.chat(**one, tool_choice=choice)["choices"]
                self.assertEqual([c["function"]["name"] for c in choice["message"]["tool_calls"]], [name])
                self.check_calls(choice["message"]["tool_calls"])
        # A stream says the same in pieces; several choices each have their own calls.
        whole = self.chat(**one, tool_choice="required", n=2, temperature=1, seed=3)["choices"]
        *chunks, _ = events(self.server.post("/v1/chat/completions", {"messages": HELLO, **one, "tool_choice": "required", "n": 2, "temperature": 1, "seed": 3, "stream": True})[2])
        for index in 0, 1:
            mine = [c["choices"][0] for c in map(json.loads, chunks) if c["choices"][0]["index"] == index]
            self.assertEqual((mine[-1]["delta"], mine[-1]["finish_reason"]), ({}, "tool_calls"))
            first, *rest = [call for c in mine for call in c["delta"].get("tool_calls", [])]
            expected = whole[index]["message"]["tool_calls"][0]["function"]
            self.assertEqual((first["index"], first["type"], first["function"]), (0, "function", {"name": expected["name"], "arguments": ""}))
            self.assertTrue(all(set(c) == {"index", "function"} and c["index"] == 0 for c in rest))
            self.assertEqual("".join(c["function"]["arguments"] for c in rest), expected["arguments"])
        # One that breaks off has what there is, and is no reason to call.
        chosen = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "find_animal"}}}
        (cut,) = self.chat(**chosen, max_tokens=40)["choices"]
        if cut["finish_reason"] == "length":
            self.assertTrue(cut["message"].get("tool_calls") or cut["message"]["content"])
        stopped = {**chosen, "max_tokens": 100, "stop": ["legs"]}
        (cut,) = self.chat(**stopped)["choices"]
        (call,) = cut["message"]["tool_calls"]
        self.assertEqual(cut["finish_reason"], "stop")
        self.assertRegex(call["function"]["arguments"], r'^\{\s*"kind"[^}]*"$')
        *chunks, _ = events(self.server.post("/v1/chat/completions", {"messages": HELLO, **CUT, **stopped, "stream": True})[2])
        self.assertEqual(json.loads(chunks[-1])["choices"][0]["finish_reason"], "stop")

    def test_tools_in_a_conversation(self):
        auto = self.chat(tools=TOOLS)["choices"][0]
        self.assertEqual((auto["finish_reason"], "tool_calls" in auto["message"]), ("length", False))
        self.assertEqual(self.chat(tools=TOOLS, tool_choice="none")["choices"], self.chat()["choices"])
        self.assertEqual(self.chat(tools=[])["choices"], self.chat()["choices"])
        calls = [{"id": "123456789", "type": "function", "function": {"name": "find_animal", "arguments": '{"kind": "fox"}'}}]
        messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "tool_call_id": "123456789", "content": "A fox!"}]
        _, _, shown = self.server.post("/apply-template", {"messages": messages, "tools": TOOLS})
        self.assertIn('"name":"find_animal","description":"Finds an animal"', shown["prompt"])
        self.assertTrue(shown["prompt"].endswith(
            '<|assistant|>\n<tool_call>\n{"name":"find_animal","arguments":{"kind":"fox"}}\n</tool_call><|end|>'
            "<|user|>\n<tool_response>\nA fox!\n</tool_response><|end|><|assistant|>\n"), shown)
        self.assertEqual(self.chat(messages=messages, tools=TOOLS)["choices"][0]["finish_reason"], "length")

    def test_tools_that_are_wrong(self):
        def function(**more):
            return {"type": "function", "function": {"name": "f", **more}}
        wrong = {
            "tools": [1, {}, [function()] * 129, [function(strict=True, parameters={"not": {}})]],
            "tools[0]": [["x"]],
            "tools[0].type": [[{}], [{"type": "custom"}]],
            "tools[0].function": [[{"type": "function"}]],
            "tools[0].function.name": [[{"type": "function", "function": {}}], [function(name="")], [function(name="a b")], [function(name="x" * 65)], [function(name=1)]],
            "tools[1].function.name": [[function(), function()]],
            "tools[0].function.description": [[function(description=1)]],
            "tools[0].function.parameters": [[function(parameters=[])], [function(parameters={"type": "nothing"})], [function(parameters={"type": "array"})]],
            "tools[0].function.strict": [[function(strict="yes")]],
        }
        for param, values in wrong.items():
            for value in values:
                with self.subTest(param=param, value=value):
                    self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, "tools": value}), 400, param)
        # Parameters that are too much to follow: said before a stream begins.
        many = {"type": "object", "anyOf": [{"properties": {f"{k}_property_{n}": {"type": "string"} for n in range(60)}} for k in range(100)]}
        for stream in False, True:
            answer = self.server.post("/v1/chat/completions", {"messages": HELLO, "stream": stream, "tools": [function(parameters=many)]})
            self.error(answer, 400, "tools", message="the parameters of f: the grammar ")
        # A list of one type is that type.
        self.assertTrue(self.chat(tools=[function(parameters={"type": ["object"]})]))
        # A keyword that cannot be enforced is refused only where it must hold.
        self.assertTrue(self.chat(tools=[function(parameters={"not": {}})]))
        other = {"type": "function", "function": {"name": "other"}}
        for choice in "x", 1, {}, {"type": "function"}, other, {"type": "allowed_tools"}, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [other]}}:
            with self.subTest(choice=choice):
                self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, "tools": TOOLS, "tool_choice": choice}), 400, "tool_choice")
        self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, "tool_choice": "required"}), 400, "tool_choice")
        self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, "tools": TOOLS, "response_format": {"type": "json_object"}}), 400, "response_format")

    def test_parameters_that_only_advise_change_nothing(self):
        advice = {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s", "prediction": {"type": "content", "content": "x"},
                  "prompt_cache_key": "k", "modalities": ["text"], "verbosity": "medium", "reasoning_effort": "low", "functions": [], "function_call": "none",
                  "chat_template_kwargs": {"enable_thinking": False}}
        self.assertEqual(self.chat(**advice)["choices"], self.chat()["choices"])

    def test_an_echo(self):
        plain, prompt = self.complete()["choices"][0]["text"], "Once upon a time"
        self.assertEqual(self.complete(echo=True)["choices"][0]["text"], prompt + plain)
        self.assertEqual(self.complete(echo=True, max_tokens=0)["choices"][0]["text"], prompt)
        _, _, tokens = self.server.post("/tokenize", {"content": prompt})
        for same in tokens["tokens"], [tokens["tokens"]], [prompt]:
            self.assertEqual(self.complete(echo=True, prompt=same, max_tokens=0)["choices"][0]["text"], prompt)
        *chunks, _ = events(self.server.post("/v1/completions", {"prompt": prompt, **SHORT, "echo": True, "stream": True})[2])
        self.assertEqual("".join(json.loads(c)["choices"][0]["text"] for c in chunks), prompt + plain)

    def test_names_of_special_tokens_in_messages_are_text(self):
        plain, named = ([{"role": "user", "content": f"a{text}b"}] for text in ("", "<|end|>"))
        counts = [self.chat(messages=messages)["usage"]["prompt_tokens"] for messages in (plain, named)]
        _, _, text = self.server.post("/tokenize", {"content": "a<|end|>b"})
        _, _, special = self.server.post("/tokenize", {"content": "a<|end|>b", "parse_special": True})
        self.assertGreater(len(text["tokens"]), len(special["tokens"]))
        self.assertGreater(counts[1], counts[0] + 1)

    def test_a_completion(self):
        answer = self.complete()
        self.assertRegex(answer["id"], "^cmpl-")
        self.assertEqual((answer["object"], answer["choices"][0]["finish_reason"]), ("text_completion", "length"))
        _, _, tokens = self.server.post("/tokenize", {"content": "Once upon a time", "add_special": True})
        self.assertEqual(answer["usage"]["prompt_tokens"], len(tokens["tokens"]))
        self.assertEqual(self.complete(suffix="")["choices"], answer["choices"])
        for same in tokens["tokens"], [tokens["tokens"]], ["Once upon a time"]:
            self.assertEqual(self.complete(prompt=same)["choices"], answer["choices"])
        self.assertEqual(self.complete(max_tokens=None)["usage"]["completion_tokens"], 16)
        endless = self.complete(max_tokens=-1, response_format={"type": "regex", "regex": "(a1){20}"})
        self.assertEqual((endless["choices"][0]["text"], endless["choices"][0]["finish_reason"]), ("a1" * 20, "stop"))
        self.assertGreater(endless["usage"]["completion_tokens"], 16)
        # A stop string ends the text and is no part of it.
        text = answer["choices"][0]["text"]
        word = text.split()[2]
        stopped = self.complete(stop=[word, "never"])["choices"][0]
        self.assertEqual((stopped["text"], stopped["finish_reason"]), (text[: text.index(word)], "stop"))

    def test_seeds_and_choices(self):
        hot = {"temperature": 1.5, "max_tokens": 12}
        several = [c["text"] for c in self.complete(**hot, seed=7, n=3)["choices"]]
        self.assertEqual(len(set(several)), 3)
        self.assertEqual([c["text"] for c in self.complete(**hot, seed=7, n=3)["choices"]], several)
        self.assertEqual(self.complete(**hot, seed=8)["choices"][0]["text"], several[1])
        self.assertEqual([c["index"] for c in self.complete(**hot, n=3)["choices"]], [0, 1, 2])
        for random in {}, {"seed": -1}:
            self.assertNotEqual(self.complete(**hot, **random)["choices"], self.complete(**hot, **random)["choices"])
        greedy = self.complete()["choices"]
        for same in {"top_k": 1}, {"top_p": 1e-6}, {"top_p": 0}, {"min_p": 1}:
            self.assertEqual(self.complete(temperature=1.5, **same)["choices"], greedy)
        penalised = self.complete(max_tokens=60, presence_penalty=2, frequency_penalty=2)["choices"]
        plain = self.complete(max_tokens=60)["choices"]
        self.assertNotEqual(penalised, plain)
        self.assertEqual(self.complete(max_tokens=60, presence_penalty=2, frequency_penalty=2, repeat_last_n=64)["choices"], penalised)
        self.assertEqual(self.complete(max_tokens=60, presence_penalty=2, frequency_penalty=2, repeat_last_n=0)["choices"], plain)
        far = {"max_tokens": 40, "presence_penalty": 2}  # fewer tokens than the usual 64
        self.assertEqual(*(self.complete(**far, repeat_last_n=n)["choices"] for n in (-1, 64)))
        self.assertEqual(*(self.complete(**hot, seed=7, top_k=off)["choices"] for off in (-1, 0)))

    def test_the_end_of_a_turn_may_be_ignored(self):
        end = {"prompt": [1], "max_tokens": 3, "logit_bias": {"1": 100}}  # <|end|>, again and again
        self.assertEqual(self.complete(**end)["choices"][0]["finish_reason"], "stop")
        ignored = self.complete(**end, ignore_eos=True)
        self.assertEqual((ignored["choices"][0]["finish_reason"], ignored["usage"]["completion_tokens"]), ("length", 3))

    def test_a_stream(self):
        whole = self.chat()
        status, headers, text = self.server.post("/v1/chat/completions", {"messages": HELLO, **CUT, "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        *chunks, done = events(text)
        self.assertEqual(done, "[DONE]")
        chunks = [json.loads(chunk) for chunk in chunks]
        self.assertEqual({(c["id"], c["object"], c["model"]) for c in chunks}, {(chunks[0]["id"], "chat.completion.chunk", NAME)})
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        *chunks, usage = chunks
        self.assertEqual(usage["choices"], [])
        self.assertEqual(usage["usage"]["completion_tokens"], 4)
        self.assertTrue(all(c["usage"] is None for c in chunks))
        self.assertEqual("".join(c["choices"][0]["delta"].get("content", "") for c in chunks), whole["choices"][0]["message"]["content"])
        self.assertEqual([c["choices"][0]["finish_reason"] for c in chunks], [None] * (len(chunks) - 1) + ["length"])
        # Completions, several choices, no usage.
        *chunks, done = events(self.server.post("/v1/completions", {"prompt": "Once upon a time", **SHORT, "n": 2, "stream": True})[2])
        chunks = [json.loads(chunk) for chunk in chunks]
        self.assertFalse(any("usage" in c for c in chunks))
        for index in 0, 1:
            text = "".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == index)
            self.assertEqual(text, self.complete()["choices"][0]["text"])

    def test_tokens_and_templates(self):
        text = "The fox, \u65e5\u672c \U0001f98a!"
        _, _, tokens = self.server.post("/tokenize", {"content": text})
        self.assertEqual(self.server.post("/detokenize", tokens)[2], {"content": text})
        _, _, framed = self.server.post("/tokenize", {"content": text, "add_special": True})
        self.assertEqual(framed["tokens"], [0, *tokens["tokens"]])
        self.assertEqual(self.server.post("/tokenize", {"content": "<|end|>", "parse_special": True})[2], {"tokens": [1]})
        _, _, pieces = self.server.post("/tokenize", {"content": text, "with_pieces": True})
        self.assertEqual([token["id"] for token in pieces["tokens"]], tokens["tokens"])
        bytes_of = lambda piece: piece.encode() if isinstance(piece, str) else bytes(piece)
        self.assertEqual(b"".join(bytes_of(token["piece"]) for token in pieces["tokens"]), text.encode())
        self.assertTrue(any(isinstance(token["piece"], list) for token in pieces["tokens"]))  # of the fox
        self.error(self.server.post("/tokenize", {"content": text, "with_pieces": 1}), 400, "with_pieces")
        self.assertEqual(self.server.post("/detokenize", {"tokens": []})[2], {"content": ""})
        self.error(self.server.post("/tokenize", {}), 400, "content", message="missing")
        self.error(self.server.post("/detokenize", {"tokens": [12288]}), 400, "tokens", message="below 12288")
        self.error(self.server.post("/detokenize", {"tokens": [-1]}), 400, "tokens")
        self.error(self.server.post("/detokenize", {"tokens": "x"}), 400, "tokens")
        _, _, prompt = self.server.post("/apply-template", {"messages": HELLO, "add_generation_prompt": False})
        self.assertEqual(prompt, {"prompt": "<|user|>\nTell me of a fox.<|end|>"})
        self.error(self.server.post("/apply-template", {"messages": []}), 400, "messages")

    def test_parameters_that_are_wrong(self):
        wrong = {
            "temperature": [-0.1, 2.1, "hot", True],
            "top_p": [-1, 1.1, "x"],
            "top_k": [-2, 1.5, 2**32],
            "repeat_last_n": [-2, 1.5, 2**32],
            "ignore_eos": [1, "x"],
            "min_p": [-0.5, 1.5],
            "presence_penalty": [-2.1, 2.1],
            "frequency_penalty": [3],
            "repeat_penalty": [0, -1],
            "seed": ["x", 0.5],
            "max_tokens": [0, -2, 1.5, "many", 2**64],
            "max_completion_tokens": [0],
            "n": [0, 9, "x"],
            "best_of": [2],
            "stop": [1, [1], "", ["a"] * 17, "x" * 1025],
            "stream": ["yes", 1],
            "stream_options": [{"include_usage": True}, 1],
            "model": [1],
            "logprobs": [1, "x"],
            "top_logprobs": [2],
            "logit_bias": [{"1": 101}, {"1": "x"}, {"one": 1}, {"12288": 1}, {"-1": 1}, [1]],
            "response_format": ["text", {"type": "yaml"}, {"type": "json_schema"}, {"type": "regex", "regex": "("}, {"type": "grammar", "grammar": "start: ("},
                                {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}, {"type": "json_object", "schema": 1}],
            "response_format.type": [{}, {"type": 1}],
            "response_format.regex": [{"type": "regex"}],
            "response_format.grammar": [{"type": "grammar", "grammar": []}],
            "functions": [[{}]],
            "function_call": ["auto"],
            "modalities": [["text", "audio"]],
            "audio": [{}],
            "web_search_options": [{}],
            "verbosity": ["low"],
            "n_predict": [8],
            "grammar": ['root ::= "a"'],
            "json_schema": [{}],
            "reasoning_effort": [1],
            "chat_template_kwargs": [1, [], {"messages": []}, {"bos_token": "x"}],
            "parallel_tool_calls": ["x"],
        }
        for name, values in wrong.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, **SHORT, name.split(".")[0]: value}), 400, name, message=name)
        answer = self.server.post("/v1/completions", {"prompt": "a", "stream": True, "stream_options": {"include_usage": 1}})
        self.error(answer, 400, "stream_options.include_usage", message="stream_options.include_usage is number")
        _, _, zero = self.server.post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 0})
        self.assertEqual(zero["error"]["message"], "max_tokens is 0, want 1 or more")
        self.error(self.server.post("/v1/completions", {"prompt": "a", "suffix": "x"}), 400, "suffix", message="fim_prefix")
        self.error(self.server.post("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1}), 400, "echo")
        # What one route takes, the other does not ignore.
        self.error(self.server.post("/v1/completions", {"prompt": "a", "tools": TOOLS}), 400, "tools", message="/v1/chat/completions")
        for name, value in {"echo": True, "suffix": "x", "prompt": "a"}.items():
            self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, name: value}), 400, name, message="/v1/completions")
        self.error(self.server.post("/v1/completions", {"prompt": "a", "logprobs": 21}), 400, "logprobs")
        self.error(self.server.post("/v1/chat/completions", {"messages": HELLO, "logprobs": True, "top_logprobs": 21}), 400, "top_logprobs")
        self.error(self.server.post("/v1/completions", {"prompt": ["a", "b"]}), 400, "prompt", message="a list of 2 prompts")
        for prompt in None, 1, {}, [], [[]], [None], [["a"]], [[1], [2]], [1, "b"], [-1], [12288], [0.5]:
            self.error(self.server.post("/v1/completions", {"prompt": prompt}), 400, "prompt")

    def test_messages_that_are_wrong(self):
        wrong = {
            "messages": [None, [], "x", {}, [HELLO[0]] * 4097],
            "messages[0]": [["x"], [None]],
            "messages[0].role": [[{"content": "x"}], [{"role": "king", "content": "x"}], [{"role": 1, "content": "x"}]],
            "messages[0].content": [
                [{"role": "user"}],
                [{"role": "user", "content": None}],
                [{"role": "user", "content": None, "refusal": "No."}],
                [{"role": "assistant", "refusal": None}],
                [{"role": "user", "content": 1}],
                [{"role": "user", "content": ["x"]}],
                [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
            ],
            "messages[0].tool_calls": [[{"role": "assistant", "tool_calls": [{}]}]],
            "messages[0].refusal": [[{"role": "assistant", "refusal": 1}]],
            "messages[0].name": [[{"role": "user", "content": "x", "name": 1}]],
        }
        for param, values in wrong.items():
            for messages in values:
                with self.subTest(param=param, messages=str(messages)[:200]):
                    self.error(self.server.post("/v1/chat/completions", {"messages": messages}), 400, param)

    def test_forms(self):
        schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
                  "required": ["name", "age"], "additionalProperties": False}
        for seed in range(3):
            answer = self.chat(response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}, max_tokens=100, temperature=1, seed=seed)
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
            person = json.loads(answer["choices"][0]["message"]["content"])
            self.assertEqual(list(person), ["name", "age"])
            self.assertTrue(isinstance(person["age"], int) and 0 <= person["age"] <= 99 and len(person["name"]) <= 12)
        answer = self.complete(response_format={"type": "json_object", "schema": schema}, max_tokens=100)
        self.assertEqual(list(json.loads(answer["choices"][0]["text"])), ["name", "age"])
        answer = self.complete(response_format={"type": "regex", "regex": "[0-9]{4}-[ab]"}, max_tokens=20)
        self.assertRegex(answer["choices"][0]["text"], "^[0-9]{4}-[ab]$")
        answer = self.complete(response_format={"type": "grammar", "grammar": 'start: "yes" | "no"'}, max_tokens=20)
        self.assertIn(answer["choices"][0]["text"], ("yes", "no"))

    def test_forms_that_cannot_be_followed(self):
        """Their fault, and not the engine's."""
        properties = {f"property_{n}": {"type": "string"} for n in range(60)}
        many = {"anyOf": [{"type": "object", "properties": {f"{k}_{n}": v for k, v in properties.items()}} for n in range(100)]}
        schemas = [{"type": "json_schema", "json_schema": {"name": "x", "schema": schema}} for schema in (many, {"$ref": "#"})]
        for form in {"type": "regex", "regex": "[^\\s\\S]"}, *schemas:
            for stream in False, True:  # said before a stream begins
                answer = self.server.post("/v1/completions", {"prompt": "a", **SHORT, "stream": stream, "response_format": form})
                self.error(answer, 400, "response_format", message="response_format: the grammar ")
            self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_bias_and_logprobs(self):
        usual = self.complete(logprobs=3)["choices"][0]
        logprobs = usual["logprobs"]
        self.assertEqual("".join(logprobs["tokens"]), usual["text"])
        self.assertEqual(logprobs["text_offset"], [sum(map(len, logprobs["tokens"][:i])) for i in range(len(logprobs["tokens"]))])
        for token, logprob, top in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertEqual(len(top), 3)
            self.assertEqual(max(top, key=top.get), token)  # greedy
            self.assertEqual(top[token], logprob)
            self.assertLess(sum(2.718281828 ** x for x in top.values()), 1.00001)
        # A special token is none of the text.
        special = self.server.post("/tokenize", {"content": "<|user|>", "parse_special": True})[2]["tokens"][0]
        silent = self.complete(logprobs=0, logit_bias={str(special): 100}, max_tokens=3)["choices"][0]
        self.assertEqual((silent["text"], silent["logprobs"]["tokens"], silent["logprobs"]["text_offset"]), ("", ["<|user|>"] * 3, [0] * 3))
        # A part of a character is named by its bytes.
        part = self.server.post("/tokenize", {"content": "\U0001f98a"})[2]["tokens"][0]
        half = self.complete(logprobs=0, logit_bias={str(part): 100}, max_tokens=1)["choices"][0]
        self.assertRegex(half["logprobs"]["tokens"][0], r"^bytes:\\xf0(\\x[0-9a-f]{2})*$")
        first = self.server.post("/tokenize", {"content": usual["text"]})[2]["tokens"][0]
        without = self.complete(logit_bias={str(first): -100})["choices"][0]["text"]
        self.assertNotEqual(without, usual["text"])

        # A stream has the same reports, piece by piece.
        body = {"messages": HELLO, **CUT, "logprobs": True, "top_logprobs": 2}
        whole = self.chat(**body)["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(whole), 4)
        self.assertEqual(bytes(whole[0]["bytes"]).decode(), whole[0]["token"])
        status, _, text = self.server.post("/v1/chat/completions", {**body, "stream": True})
        pieces = [c["logprobs"]["content"] for e in events(text) if e != "[DONE]" for c in json.loads(e)["choices"] if c["logprobs"]]
        self.assertEqual([token["token"] for piece in pieces for token in piece], [token["token"] for token in whole])

    def test_embeddings(self):
        one = self.server.post("/v1/embeddings", {"input": "A fox."})[2]
        vector = one["data"][0]["embedding"]
        self.assertAlmostEqual(sum(x * x for x in vector), 1, 4)
        tokens = self.server.post("/tokenize", {"content": "A fox.", "add_special": True})[2]["tokens"]
        self.assertEqual(one["usage"], {"prompt_tokens": len(tokens), "total_tokens": len(tokens)})
        two = self.server.post("/v1/embeddings", {"input": [tokens, tokens + tokens]})[2]
        self.assertEqual([d["index"] for d in two["data"]], [0, 1])
        self.assertEqual(two["data"][0]["embedding"], vector)
        for wrong in None, 1, [], [1.5], [[]], ["a", 1]:
            self.error(self.server.post("/v1/embeddings", {"input": wrong}), 400, "input")
        self.error(self.server.post("/v1/embeddings", {"input": ["a", "word " * 5000]}), 400, "input", "context_length_exceeded")
        self.error(self.server.post("/v1/embeddings", {"input": "a", "encoding_format": "x"}), 400, "encoding_format")
        refused = self.server.post("/v1/embeddings", {"input": "a", "dimensions": 3})
        self.error(refused, 400, "dimensions")
        self.assertEqual(refused[2]["error"]["message"], f"dimensions is 3, want {len(vector)}")
        client = openai.OpenAI(base_url=self.server.url, api_key="any", max_retries=0)  # which asks for base64
        theirs = client.embeddings.create(model=NAME, input="A fox.").data[0].embedding
        for a, b in zip(theirs, vector, strict=True):
            self.assertAlmostEqual(a, b, 6)

    def test_a_prompt_beyond_the_context(self):
        long = "word " * 2000
        self.error(self.server.post("/v1/completions", {"prompt": long}), 400, "prompt", "context_length_exceeded", "the context holds 1024")
        self.error(self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": long}], "stream": True}), 400, "messages", "context_length_exceeded")

    def test_bodies_that_are_no_json(self):
        wrong = [b"", b"x", b"{", b'{"prompt": "a",}', b"[]", b"1", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b'{"n": 1e999}',
                 b"[" * 1_000_000, b'{"a":' * 100 + b"1" + b"}" * 100, json.dumps({f"k{n}": n for n in range(600)}).encode()]
        for body in wrong:
            with self.subTest(body=body[:40]):
                self.error(self.server.ask("POST", "/v1/completions", body, {"Content-Type": "application/json"}), 400)
        for type in "Application/JSON", "application/json; charset=utf-8", "application/json;charset=utf-8":
            self.assertEqual(self.server.ask("POST", "/tokenize", b'{"content": "a"}', {"Content-Type": type})[0], 200)
        for type in "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x":
            self.error(self.server.ask("POST", "/v1/completions", b"{}", {"Content-Type": type}), 415)
        self.error(self.server.ask("POST", "/tokenize", b" " * (4 << 20) + b" ", {"Content-Type": "application/json"}), 413)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_routes_that_are_not_there(self):
        self.error(self.server.ask("GET", "/index.html"), 404, code="not_found")
        self.error(self.server.ask("POST", "/v1/images/generations", b"x"), 404, code="not_found")
        self.error(self.server.ask("GET", "/v1/" + "x" * 7000), 404, code="not_found")
        headers = self.error(self.server.ask("GET", "/v1/chat/completions"), 405, code="method_not_allowed")
        self.assertEqual(headers["Allow"], "POST")
        for method in "OPTIONS", "DELETE", "PUT", "PATCH":
            self.error(self.server.ask(method, "/v1/models"), 405, code="method_not_allowed")

    def test_what_http_forbids(self):
        post = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        wrong = {
            b"nonsense\r\n\r\n": 400,
            b"GET /health HTTP/3.0\r\n\r\n": 400,
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n": 414,
            b"GET /" + b"x" * 200_000: 0,
            b"GET /health HTTP/1.1\r\nA: " + b"x" * 1_000_000: 431,
            b"GET /health HTTP/1.1\r\n" + b"A: x\r\n" * 100_000 + b"\r\n": 431,
            post + b"\r\n": 411,
            post + b"Content-Length: x\r\n\r\n": 400,
            post + b"Content-Length: -1\r\n\r\n": 400,
            post + b"Content-Length: 99999999999999999999999\r\n\r\n": 413,
            post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
            post + b"Transfer-Encoding: gzip\r\n\r\n": 400,
            post + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 65: 413,
            post + b"Transfer-Encoding: chunked\r\n\r\nx\r\n": 400,
        }
        for data, status in wrong.items():
            with self.subTest(data=data[:90]):
                answer = self.server.raw(data)
                if status:
                    self.assertRegex(answer, rb"^HTTP/1\.1 %d " % status)
                    self.assertEqual(set(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]), {"message", "type", "param", "code"})
        body = b'{"content": "fox"}'
        chunked = post + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        self.assertIn(b'{"tokens":[', self.server.raw(chunked))
        waiting = post + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        self.assertRegex(self.server.raw(waiting), rb'(?s)^HTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 .*\{"tokens":\[')
        ranged = b"GET /health HTTP/1.1\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\nRange: bytes=1-2\r\n\r\n"
        self.assertTrue(self.server.raw(ranged).endswith(b'\r\n\r\n{"status":"ok"}'))
        # To an old client a body ends with the connection.
        body = json.dumps({"prompt": "Once upon a time", **SHORT, "stream": True}).encode()
        old = self.server.raw(b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head, text = old.decode().split("\r\n\r\n", 1)
        self.assertNotIn("chunked", head)
        self.assertEqual((head.count("Connection: close"), events(text)[-1]), (1, "[DONE]"))
        # A body that is refused unread is not taken for the next request.
        smuggled = b"POST /none HTTP/1.1\r\nContent-Length: 29\r\n\r\nGET /health HTTP/1.1\r\nA: b\r\n\r\n"
        self.assertEqual(self.server.raw(smuggled).count(b"HTTP/1.1 "), 1)

    def test_a_connection_takes_many_requests(self):
        connection = self.server.connect()
        for n in range(20):
            connection.request("POST", "/tokenize", json.dumps({"content": "fox " * n}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            answer.read()
            if n == 0:
                local = connection.sock.getsockname()
        self.assertEqual(connection.sock.getsockname(), local)
        connection.close()

    def test_openai_client(self):
        client = openai.OpenAI(base_url=self.server.url, api_key="any", max_retries=0)
        self.assertEqual([m.id for m in client.models.list()], [NAME])
        self.assertEqual(client.models.retrieve(NAME).owned_by, "mainspring")
        answer = client.chat.completions.create(model=NAME, messages=HELLO, **CUT)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(answer.usage.completion_tokens, 4)
        stream = client.chat.completions.create(model=NAME, messages=HELLO, **CUT, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks[:-1]), answer.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, 4)
        text = client.completions.create(model=NAME, prompt="Once upon a time", **SHORT).choices[0].text
        streamed = client.completions.create(model=NAME, prompt="Once upon a time", **SHORT, stream=True)
        self.assertEqual("".join(c.choices[0].text for c in streamed), text)
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("other")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=NAME, messages=HELLO, temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as caught:
            client.completions.create(model=NAME, prompt="word " * 2000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_openai_client_calls_tools(self):
        client = openai.OpenAI(base_url=self.server.url, api_key="any", max_retries=0)
        ask = {"model": NAME, "messages": HELLO, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "find_animal"}}, "temperature": 0, "max_tokens": 100}
        (call,) = client.chat.completions.create(**ask).choices[0].message.tool_calls
        self.check_calls([call.model_dump()])
        with client.chat.completions.stream(**ask) as stream:
            streamed = stream.get_final_completion().choices[0]
        self.assertEqual((streamed.finish_reason, streamed.message.tool_calls[0].function.arguments), ("tool_calls", call.function.arguments))


class OwnServer(unittest.TestCase):
    """Tests that count, or that end the server."""

    def serve(self, *arguments, **more):
        server = Process(*arguments, **more)
        self.addCleanup(server.close)
        return server

    def begin(self, server, body):
        connection = server.begin(body)
        self.addCleanup(connection.close)
        return connection

    def begin_long(self, server):
        """One that runs: its first text has come."""
        connection = self.begin(server, {**LONG, "stream": True})
        text = b""
        while b"data: " not in text:
            piece = connection.recv(65536)
            self.assertTrue(piece, text)
            text += piece
        return connection

    def refused(self, *arguments, code, **variables):
        done = subprocess.run([PROGRAM, "serve", "-m", MODEL, *arguments], capture_output=True, text=True, timeout=600, env=environment(**variables))
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        return done.stderr

    def test_a_client_that_leaves_ends_its_generation(self):
        server = self.serve()
        self.assertEqual(server.name, Path(MODEL).stem)
        for streaming in True, False:
            if streaming:
                connection = self.begin_long(server)
            else:
                connection = self.begin(server, LONG)
                server.until("running", 1)
                connection.sendall(b"\r\n")  # as some clients do behind a body
            connection.close()
            status, _, answer = server.post("/v1/completions", {"prompt": "A fox", **SHORT})
            self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 8))
        figures = server.metrics()
        self.assertEqual(figures['mainspring_generations_total{end="cancelled"}'], 16)  # n is 8
        self.assertEqual(figures['mainspring_generations_total{end="length"}'], 2)
        self.assertLess(figures["mainspring_generated_tokens_total"], 2000)

    def test_weights_that_are_no_numbers(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(Path(MODEL).read_bytes())
            file.flush()
            next(t for t in gguf.GGUFReader(file.name, "r+").tensors if t.name == "output_norm.weight").data[:] = float("nan")
            server = self.serve(model=file.name)
            message = "are not finite: its weights are broken"
            for more in {}, {"temperature": 0}, {"response_format": {"type": "regex", "regex": "fox"}}, {"max_tokens": 1, "logprobs": True}:
                status, _, answer = server.post("/v1/chat/completions", {"messages": HELLO, **more})
                self.assertEqual((status, answer["error"]["type"]), (500, "server_error"))
                self.assertIn(message, answer["error"]["message"])
            status, _, answer = server.post("/v1/embeddings", {"input": "a fox"})
            self.assertEqual(status, 500, answer)
            self.assertIn(message, answer["error"]["message"])
            status, _, text = server.post("/v1/completions", {"prompt": "A fox", "stream": True})
            self.assertIn(message, json.loads(events(text)[-1])["error"]["message"])

    def test_a_full_queue(self):
        server = self.serve("--queue", "1")
        running = self.begin_long(server)
        waiting = self.begin(server, LONG)
        server.until("queue_length", 1)
        status, headers, body = server.post("/v1/completions", {"prompt": "A fox", **SHORT})
        self.assertEqual((status, body["error"]["code"], body["error"]["type"]), (503, "queue_full", "server_error"))
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertEqual(server.post("/tokenize", {"content": "x"})[0], 200)
        waiting.close()  # it makes room
        server.until("queue_length", 0)
        served = self.begin(server, {"prompt": "A fox", **SHORT})
        server.until("queue_length", 1)
        running.close()
        self.assertIn(b"HTTP/1.1 200 OK", served.recv(65536))
        figures = server.metrics()
        self.assertEqual(figures['mainspring_requests_total{route="/v1/completions",status="503"}'], 1)
        self.assertEqual(figures["mainspring_running"], 0)

    def test_a_stream_that_waits_hears_that_it_is_not_forgotten(self):
        server = self.serve()
        self.begin_long(server)
        waiting = self.begin(server, {**LONG, "stream": True})
        text = b""
        while b": ping\n\n" not in text:
            piece = waiting.recv(65536)
            self.assertTrue(piece, text)
            text += piece
            if b"data: " in text:
                self.skipTest("this device is too fast for a request to wait")

    def test_pages_of_other_sites(self):
        """May not use a server for this machine alone, under a name of their own (DNS rebinding) or with their Origin."""
        def ask(server, **headers):
            answers = [server.ask(method, path, headers=headers) for method, path in (("GET", "/v1/models"), ("GET", "/"), ("OPTIONS", "/v1/models"))]
            answers.append(server.post("/tokenize", {"content": "fox"}, **headers))
            for _, got, _ in answers:
                self.assertFalse([name for name in got if name.startswith("Access-Control-")])
            return answers
        fine, refused = [200, 200, 405, 200], [403] * 4
        server = self.serve()
        port = server.port
        own = [f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", "localhost", f"[::1]:{port}", "127.0.0.2", f"[::ffff:127.0.0.1]:{port}", "[::ffff:7f00:1]"]
        others = ["evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "[::2]", "[::ffff:192.0.2.1]", "[", ":", "0.0.0.0"]
        for host in own:
            with self.subTest(host=host):
                self.assertEqual([a[0] for a in ask(server, Host=host)], fine)
                self.assertEqual([a[0] for a in ask(server, Origin=f"http://{host}")], fine)
        for host in others:
            with self.subTest(host=host):
                for status, _, body in ask(server, Host=host):
                    self.assertEqual((status, body["error"]["code"]), (403, "forbidden_host"), body)
                for status, _, body in ask(server, Origin=f"http://{host}"):
                    self.assertEqual((status, body["error"]["code"]), (403, "forbidden_origin"), body)
        self.assertEqual([a[0] for a in ask(server, Origin="null")], refused)
        self.assertIn(b" 200 OK", server.raw(b"GET /health HTTP/1.0\r\n\r\n"))  # no browser
        # With a key, any page may that has it.
        with_key = self.serve("--api-key", KEY)
        key = {"Authorization": f"Bearer {KEY}"}
        self.assertEqual([a[0] for a in ask(with_key, Host="evil.example", Origin="http://evil.example", **key)], fine)
        self.assertEqual(with_key.ask("GET", "/v1/models", headers={"Host": "evil.example"})[0], 401)

    def test_an_api_key(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "key"
            file.write_text(KEY + "\n")
            servers = [self.serve("--api-key-file", str(file)), self.serve("--api-key", KEY), self.serve(MAINSPRING_API_KEY=KEY)]
            file.write_text("\n")
            self.assertIn("no API key", self.refused("--api-key-file", str(file), code=1))
        for server in servers:
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.ask("GET", "/")[0], 200)  # the page, which asks for the key
            for scheme in "Bearer", "bearer", "BEARER":
                self.assertEqual(server.ask("GET", "/v1/models", headers={"Authorization": f"{scheme} {KEY}"})[0], 200)
        server = servers[0]
        right = f"Bearer {KEY}"
        for route in "/v1/models", "/v1/models/x", "/metrics", "/none", "/v1/chat/completions":
            for wrong in None, "", KEY, f"Basic {KEY}", "Bearer ", right + "x", right[:-1], right.replace("k", "K"):
                status, headers, body = server.ask("GET", route, headers={} if wrong is None else {"Authorization": wrong})
                self.assertEqual((status, body["error"]["code"], headers["WWW-Authenticate"]), (401, "invalid_api_key", "Bearer"))
        for route in "/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/apply-template":
            self.assertEqual(server.post(route, {"messages": HELLO, "prompt": "a", "content": "a", "tokens": [1]})[0], 401)
        client = openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0)
        with self.assertRaises(openai.AuthenticationError):
            client.chat.completions.create(model="any", messages=HELLO)
        client = openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
        self.assertEqual(client.chat.completions.create(model="any", messages=HELLO, max_tokens=2).usage.completion_tokens, 2)
        self.assertEqual(server.log(), "")

    def test_signals_end_it(self):
        for number in signal.SIGINT, signal.SIGTERM:
            server = self.serve("--verbose")
            idle = server.connect()  # a connection that is kept open holds nothing up
            idle.request("GET", "/health")
            idle.getresponse().read()
            running = self.begin_long(server)
            self.assertNotIn("POST", server.log())  # a stream is logged once it ends
            waiting = self.begin(server, LONG)
            server.until("queue_length", 1)
            server.process.send_signal(number)
            self.assertEqual(server.process.wait(timeout=600), 0, server.log())
            self.assertRegex(waiting.recv(65536), rb"^(HTTP/1\.1 503 |$)")
            rest = b""
            while piece := running.recv(65536):
                rest += piece
            self.assertNotIn(b"[DONE]", rest)
            idle.close()
            self.assertIn("GET /health 200", server.log())
            self.assertIn("POST /v1/completions 200", server.log())
            self.assertNotIn("Once upon", server.log())

    def test_a_model_without_a_template_or_a_tokenizer(self):
        server = self.serve(model=WITHOUT_TEMPLATE)
        status, _, body = server.post("/v1/chat/completions", {"messages": HELLO})
        self.assertEqual((status, body["error"]["param"]), (400, "messages"))
        self.assertIn("no chat template", body["error"]["message"])
        status, _, body = server.post("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 4})
        self.assertEqual((status, body["usage"]["prompt_tokens"]), (200, 3), body)
        status, _, body = server.post("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 4, "echo": True})
        self.assertEqual((status, body["error"]["param"]), (400, "echo"), body)
        self.offers_no_page(server)

    def test_an_encoder_embeds_and_writes_nothing(self):
        encoder = Path(WITHOUT_TEMPLATE).parent / "hf-bert"  # which has no tokenizer
        server = self.serve(model=str(encoder))
        answer = server.post("/v1/embeddings", {"input": [[1, 2, 3]]})[2]
        self.assertAlmostEqual(sum(x * x for x in answer["data"][0]["embedding"]), 1, 4)
        status, _, error = server.post("/v1/embeddings", {"input": [[1] * 65]})  # more than it has positions
        self.assertEqual((status, error["error"]["code"]), (400, "context_length_exceeded"))
        self.assertRegex(error["error"]["message"], r"has 65 tokens, the context holds 64: shorten it$")
        for path, body in ("/v1/completions", {"prompt": [1]}), ("/v1/chat/completions", {"messages": HELLO}), ("/apply-template", {"messages": HELLO}):
            status, _, error = server.post(path, body)
            self.assertEqual(status, 400)
            self.assertRegex(error["error"]["message"], "is an encoder.*/v1/embeddings takes it")
        self.offers_no_page(server)

    def offers_no_page(self, server):
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=600)
        self.assertEqual(server.process.stdout.read(), "")

    def fetched(self, name):
        model = MODELS / name
        if not model.exists():
            self.skipTest(f"{model} is not there: tools/get-model")
        return self.serve(model=str(model))

    def test_openai_client_embeds(self):
        server = self.fetched("minilm-l6-v2")
        golden = json.loads((Path(WITHOUT_TEMPLATE).parent / "minilm.json").read_text())
        texts, vectors = [g["text"] for g in golden], [g["embedding"] for g in golden]
        client = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)
        def near(answer, expected):
            self.assertEqual([d.index for d in answer.data], list(range(len(expected))))
            for got, want in zip(answer.data, expected):
                self.assertLess(max(abs(a - b) for a, b in zip(got.embedding, want, strict=True)), 1e-4)
        tokens = [g["tokens"] for g in golden]
        near(client.embeddings.create(model="any", input=tokens), vectors)  # the client asks for base64
        # A text is cut as sentence-transformers cuts it; tokens are not.
        (long,) = [i for i, ids in enumerate(tokens) if len(ids) > 256]
        near(client.embeddings.create(model="any", input=texts[:long] + texts[long + 1:], encoding_format="float"), vectors[:long] + vectors[long + 1:])
        cut = client.embeddings.create(model="any", input=tokens[long][:255] + tokens[long][-1:])
        near(client.embeddings.create(model="any", input=texts[long]), [cut.data[0].embedding])
        self.assertEqual(cut.usage.prompt_tokens, 256)
        near(client.embeddings.create(model="any", input=texts[0], dimensions=len(vectors[0])), vectors[:1])
        encoded = server.post("/v1/embeddings", {"input": texts[1], "encoding_format": "base64"})[2]["data"][0]["embedding"]
        floats = struct.unpack(f"<{len(vectors[1])}f", base64.b64decode(encoded))
        self.assertLess(max(abs(a - b) for a, b in zip(floats, vectors[1])), 1e-4)
        self.assertEqual([server.post("/tokenize", {"content": text, "add_special": True})[2]["tokens"] for text in texts], tokens)
        answer = client.embeddings.create(model="any", input=tokens[0])
        self.assertEqual((len(answer.data), answer.usage.prompt_tokens), (1, len(tokens[0])))
        with self.assertRaises(openai.BadRequestError) as caught:
            client.embeddings.create(model="any", input=[1] * 513)
        self.assertEqual((caught.exception.param, caught.exception.code), ("input", "context_length_exceeded"))
        for wrong in {"dimensions": 7}, {"encoding_format": "hex"}, {"input": []}, {"input": [[]]}, {"input": [1e9]}:
            status, _, body = server.post("/v1/embeddings", {"input": "x", **wrong})
            self.assertEqual((status, body["error"]["param"]), (400, next(iter(wrong))), body)

    def test_a_thousand_connections_that_come_to_nothing(self):
        server = self.serve()
        half = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        for n in range(1000):
            with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
                connection.sendall((b"", b"GET /hea", half)[n % 3])
        self.assertEqual(server.post("/v1/completions", {"prompt": "A fox", **SHORT})[0], 200)
        end = time.monotonic() + 600  # all are closed
        while (count := len(os.listdir(f"/proc/{server.process.pid}/fd"))) > 64:
            self.assertLess(time.monotonic(), end, f"{count} files are open")
            time.sleep(0.1)

    def test_clients_that_take_their_time_hold_nobody_up(self):
        server = self.serve()
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=600) for _ in range(16)]
        for connection in slow:
            self.addCleanup(connection.close)
            connection.sendall(b"POST /tokenize HTTP/1.1\r\nContent-Type: application/json\r\nContent-")
        # One reads nothing of a long answer.
        deaf = self.begin(server, {**LONG, "stream": True})
        server.until("running", 1)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        body = b'{"content": "fox"}'
        for connection in slow:  # byte by byte it is a request still
            for byte in b"Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body):
                connection.sendall(bytes([byte]))
        for connection in slow:
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"]}"), answer)
        deaf.close()
        self.assertEqual(server.post("/v1/completions", {"prompt": "A fox", **SHORT})[0], 200)

    def test_an_address_in_brackets(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as error:
            self.skipTest(f"no IPv6: {error}")
        for host in "::1", "[::1]":
            server = self.serve("--host", host)
            self.assertEqual(server.url, f"http://[::1]:{server.port}/v1")
            with socket.create_connection(("::1", server.port), timeout=600) as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                self.assertIn(b" 200 OK", connection.recv(65536))

    def test_an_address_of_ipv4_mapped_into_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as any:
                any.bind(("::ffff:127.0.0.1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6: {error}")
        server = self.serve("--host", "::ffff:127.0.0.1")
        self.assertEqual(server.ask("GET", "/v1/models")[0], 200)
        for headers in {"Host": "evil.example"}, {"Origin": "http://evil.example"}:
            self.assertEqual(server.ask("GET", "/v1/models", headers=headers)[0], 403)

    def test_wrong_uses(self):
        for host in "", "[]":
            self.assertIn("--host is empty", self.refused("--host", host, code=2))
        self.assertIn("--api-key", self.refused("--api-key", "", code=2))
        for path, reason in ("/nonexistent", "No such file or directory"), ("/", "Is a directory"):
            self.assertIn(f"cannot read a key from {path}: {reason}", self.refused("--api-key-file", path, code=1))
        self.assertIn("--queue", self.refused("--queue", "0", code=2))
        self.assertIn("--port", self.refused("--port", "65536", code=2))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            self.assertIn(f"cannot listen on 127.0.0.1 port {port}", self.refused("--port", port, code=1))


unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
