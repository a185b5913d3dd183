"""hub_test: mainspring pull, list, rm and -hf against a server that answers as a hub of models does, well and badly.

usage: hub_test PROGRAM MODEL [TEST…]      MODEL is a small GGUF file
"""
import hashlib
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import gguf
from gguf.scripts.gguf_new_metadata import copy_with_new_metadata
from hub_server import TOKEN, Repository, Server, git_oid

PROGRAM, MODEL = sys.argv[1], Path(sys.argv[2])
GOLDEN = Path(__file__).parent / "golden"


def random_bytes(size, seed):
    return hashlib.shake_128(b"%d" % seed).digest(size)


class Hub(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.storage = cls.storage = Server(cls.server)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.server.requests.clear()
        self.storage.requests.clear()
        self.server.repositories.clear()
        self.models = Path(self.folder.name) / "mainspring/models"

    def share_pipelines(self):
        """For tests that run models: what was compiled already is not compiled again."""
        cache = os.environ.get("XDG_CACHE_HOME", "")
        real = (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "mainspring/pipelines"
        real.mkdir(parents=True, exist_ok=True)
        self.models.mkdir(parents=True)
        (self.models.parent / "pipelines").symlink_to(real)

    def environment(self, **variables):
        kept = {k: v for k, v in os.environ.items() if not re.match(r"MAINSPRING_|HF_|.*_proxy$", k, re.I)}
        return {**kept, "XDG_CACHE_HOME": self.folder.name, "HF_ENDPOINT": self.server.url, **variables}

    def start(self, *arguments, preexec_fn=None, **variables):
        return subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment(**variables), preexec_fn=preexec_fn, restore_signals=preexec_fn is None)

    def mainspring(self, *arguments, code=0, **more):
        process = self.start(*arguments, **more)
        out, error = process.communicate(timeout=600)
        self.assertEqual(process.returncode, code, error)
        if code == 0:
            self.error = error
            return out
        return error

    def add(self, name, *arguments, **more):
        self.server.repositories[name] = Repository(*arguments, **more)
        return self.server.repositories[name]

    def files(self):
        """What is in the cache, without the locks."""
        return {str(p.relative_to(self.models)) for p in self.models.rglob("*") if p.is_file() and p.name != ".lock"}

    def test_a_pulled_model_runs_without_the_hub(self):
        self.share_pipelines()
        self.add("u/tales", {"README.md": b"x", "tales-Q8_0.gguf": MODEL.read_bytes(), "tales-F32.gguf": b"not fetched"})
        path = self.mainspring("pull", "u/tales").strip()
        self.assertEqual(path, str(self.models / "u/tales/tales-Q8_0.gguf"))
        self.assertEqual(Path(path).read_bytes(), MODEL.read_bytes())
        self.assertEqual(self.files(), {"u/tales/tales-Q8_0.gguf"})
        self.assertRegex(self.error, r"fetching tales-Q8_0.gguf, [\d.]+ MB\n")
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        tensors = json.loads(self.mainspring("inspect", MODEL, "-o", "json"))["tensors"]
        for name in "u/tales", "u/tales:Q8_0", "u/tales:tales-Q8_0.gguf":
            for option in "-hf", "-hfr", "--hf-repo":
                self.assertEqual(json.loads(self.mainspring("inspect", option, name, "-o", "json", **nowhere))["tensors"], tensors)
        self.assertEqual(json.loads(self.mainspring("inspect", "-o", "json", MAINSPRING_HF_REPO="u/tales", **nowhere))["tensors"], tensors)
        words = self.mainspring("run", "-hf", "u/tales", "--temp", "0", "-n", "8", "Once upon", MAINSPRING_MODEL="no/such", **nowhere)
        self.assertEqual(words, self.mainspring("run", "-m", MODEL, "--temp", "0", "-n", "8", "Once upon", MAINSPRING_HF_REPO="no/such"))
        # What is wrong with the way to the hub is of no account, where none is asked.
        for wrong in {"HF_ENDPOINT": "hub"}, {"HF_TOKEN": "a\nb"}, {"HF_HUB_DOWNLOAD_TIMEOUT": "x"}:
            self.mainspring("inspect", "-hf", "u/tales", **wrong)
            self.assertIn("u/tales:Q8_0", self.mainspring("list", **wrong))
            self.assertIn("there is no u/none", self.mainspring("rm", "u/none", code=1, **wrong))
            self.assertIn(next(iter(wrong)), self.mainspring("inspect", "-hf", "u/tales:F32", code=2, **wrong))
        self.assertIn("give one of them", self.mainspring("run", "-m", MODEL, "-hf", "u/tales", "x", code=2))
        error = self.mainspring("inspect", "-hf", "u/tales:F32", code=1, **nowhere)
        self.assertIn("cannot reach http://127.0.0.1:9", error)
        self.assertIn("Without a network there is\n  u/tales:Q8_0", error)

    def test_hf_fetches_what_is_not_here(self):
        self.add("u/tales", {"tales-Q8_0.gguf": MODEL.read_bytes()})
        self.assertIn("llama", self.mainspring("inspect", "-hf", "u/tales:Q8_0"))
        self.assertEqual(self.files(), {"u/tales/tales-Q8_0.gguf"})

    def test_every_command_that_takes_m_takes_hf(self):
        self.share_pipelines()
        self.add("u/tales", {"tales-Q8_0.gguf": MODEL.read_bytes()})
        self.mainspring("pull", "u/tales")
        tokens = "--tokens", "1,403,407", "--greedy", "4"
        self.assertEqual(self.mainspring("logits", "-hf", "u/tales", *tokens), self.mainspring("logits", "-m", MODEL, *tokens))
        self.mainspring("chat", "-hf", "u/tales")
        for command in ["bench"], ["chat"], ["run", "Once"], ["inspect"]:
            self.assertIn("no public model u/none", self.mainspring(*command, "-hf", "u/none", code=1))
        self.assertIn("give -m FILE, or -hf", self.mainspring("run", "Once", code=2))

    def test_a_terminal_shows_how_far_it_is(self):
        self.add("u/r", {"m.gguf": random_bytes(10_000_000, 1)}, pause=0.05)
        main, end = pty.openpty()
        process = subprocess.Popen([PROGRAM, "pull", "u/r"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end, env=self.environment())
        os.close(end)
        shown = b""
        try:
            while piece := os.read(main, 65536):
                shown += piece
        except OSError:  # so Linux says that the other end is closed
            pass
        os.close(main)
        self.assertEqual(process.wait(), 0)
        self.assertRegex(shown.decode(), r"fetching m\.gguf \[=+ +\] [1-9]\.\d MB of 10\.0 MB, \d[\d.]* MB/s, 0:\d\d left")
        self.assertTrue(shown.endswith(b"\r\x1b[K"))

    def test_the_token_goes_to_the_hub_alone(self):
        self.add("u/r", {"m.gguf": b"abc", "a/tokenizer.json": b"x"}, private=True, page=1)
        self.mainspring("pull", "u/r", HF_TOKEN=TOKEN)
        self.assertEqual([headers.get("Authorization") for _, headers in self.server.requests], [f"Bearer {TOKEN}"] * 3)
        self.assertEqual([headers.get("Authorization") for _, headers in self.storage.requests], [None])

    def test_a_broken_connection_goes_on_where_it_broke(self):
        data = random_bytes(98_362_432, 1)
        repository = self.add("u/r", {"m.gguf": data}, cuts=[30_000_000, 1_000_000, 50_000_001])
        path = self.mainspring("pull", "u/r").strip()
        self.assertEqual(hashlib.sha256(Path(path).read_bytes()).digest(), hashlib.sha256(data).digest())
        self.assertEqual(self.error.count("trying again"), 3)
        starts = [int(re.search(r"\d+", headers.get("Range", "0"))[0]) for _, headers in self.storage.requests]
        self.assertEqual(len(starts), 4)
        self.assertEqual(starts, sorted(set(starts)))  # each began behind the one before
        self.assertEqual(repository.cuts, [])

    def test_a_killed_download_goes_on(self):
        repository = self.add("u/r", {"m.gguf": random_bytes(20_000_000, 2)}, cuts=[9_000_000], stall=True)
        process = self.start("pull", "u/r")
        part = self.models / "u/r/m.gguf.part"
        while not part.exists() or part.stat().st_size < 8_000_000:
            time.sleep(0.01)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertRegex(self.mainspring("list"), r"u/r:m.gguf +[89]\.\d MB .*, not complete")
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.assertEqual(self.files(), {"u/r/m.gguf.part"})
        self.mainspring("pull", "u/r")
        self.assertEqual((self.models / "u/r/m.gguf").read_bytes(), repository.files["m.gguf"])
        self.assertRegex(self.storage.requests[-1][1]["Range"], r"bytes=[89]\d{6}-")
        self.assertEqual(self.files(), {"u/r/m.gguf"})

    def test_what_is_left_of_another_version_is_fetched_anew(self):
        self.add("u/r", {"m.gguf": random_bytes(3000, 3)})
        for left in random_bytes(1000, 4), random_bytes(3000, 4), random_bytes(5000, 4):
            part = self.models / "u/r/m.gguf.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(left)
            self.mainspring("pull", "u/r")
            self.assertEqual((self.models / "u/r/m.gguf").read_bytes(), random_bytes(3000, 3))
            (self.models / "u/r/m.gguf").unlink()

    def test_a_server_without_ranges_starts_again(self):
        data = random_bytes(5_000_000, 5)
        self.add("u/r", {"m.gguf": data}, ranges=False, cuts=[1_000_000, 2_000_000])
        path = self.mainspring("pull", "u/r").strip()
        self.assertEqual(Path(path).read_bytes(), data)

    def test_a_server_that_never_gets_further_is_given_up(self):
        self.add("u/r", {"m.gguf": random_bytes(500_000, 6)}, ranges=False, cuts=[200_000] * 50)
        error = self.mainspring("pull", "u/r", code=1)
        self.assertIn("broke", error)
        self.assertEqual(len(self.storage.requests), 6)

    def test_a_wrong_checksum_leaves_nothing(self):
        for name in "m.gguf", "config.json":
            files = {name: random_bytes(300_000, 7)} if name == "m.gguf" else {"model.safetensors": b"x", name: b'{"a": 1}'}
            self.add("u/r", files, damage=lambda data: data[:-1] + bytes([data[-1] ^ 1]) if len(data) > 1 else data)
            error = self.mainspring("pull", "u/r", code=1)
            self.assertIn(f"{name} arrived damaged", error)
            self.assertNotIn(f"u/r/{name}", self.files())
            self.assertNotIn(f"u/r/{name}.part", self.files())

    def test_statuses_say_what_to_do(self):
        self.assertIn("no public model u/none", self.mainspring("pull", "u/none", code=1))
        self.assertIn("set HF_TOKEN", self.mainspring("pull", "u/none", code=1))
        self.assertIn("HF_TOKEN is not one that may read it", self.mainspring("pull", "u/none", code=1, HF_TOKEN="other"))
        gated = self.add("u/gated", {"m.gguf": b"abc"}, headers={"X-Error-Code": "GatedRepo"})
        for status in 401, 403:
            gated.status = {"m.gguf": [status]}
            error = self.mainspring("pull", "u/gated", code=1)
            self.assertIn(f"accept its licence at {self.server.url}/u/gated", error)
        self.add("u/r", {"m-Q8_0.gguf": b"abc", "b/m-BF16-00001-of-00002.gguf": b"a", "b/m-BF16-00002-of-00002.gguf": b"b", "x.gguf": b"c"})
        error = self.mainspring("pull", "u/r:Q4_K_M", code=1)
        self.assertIn('u/r has no "Q4_K_M". It has\n  u/r:x.gguf\n  u/r:Q8_0\n  u/r:BF16\n', error)
        self.add("u/gone", {"m.gguf": b"abc"}, status={"m.gguf": [404]})
        self.assertIn("no file m.gguf of model u/gone", self.mainspring("pull", "u/gone", code=1))
        self.add("u/list", {"m.gguf": b"abc"}, status={"list": [404]})
        self.assertIn("no model u/list", self.mainspring("pull", "u/list", code=1))
        self.add("u/bin", {"pytorch_model.bin": b"abc", "config.json": b"{}"})
        self.assertIn("neither GGUF nor safetensors", self.mainspring("pull", "u/bin", code=1))
        self.add("u/part", {"m-00002-of-00002.gguf": b"abc"})
        self.assertIn("not complete", self.mainspring("pull", "u/part", code=1))
        for files in {"m.gguf": b""}, {"model.safetensors": b"", "config.json": b"{}"}:
            self.add("u/empty", files)
            self.assertIn(f"is empty: {next(iter(files))}", self.mainspring("pull", "u/empty", code=1))
        self.assertEqual(self.files(), set())
        self.assertFalse((self.models / "u/empty").exists())

    def test_a_busy_hub_is_asked_again_but_not_for_ever(self):
        wait = {"Retry-After": "0"}
        repository = self.add("u/r", {"m.gguf": b"abc"}, headers=wait, status={"list": [429, 500, 503], "m.gguf": [503, 502, 429]})
        self.mainspring("pull", "u/r")
        self.assertEqual(self.error.count("trying again"), 6)
        (self.models / "u/r/m.gguf").unlink()
        for status in 429, 500, 503:
            repository.status = {"list": [status] * 100}
            self.server.requests.clear()
            self.assertIn(f"status {status}: on purpose", self.mainspring("pull", "u/r", code=1).replace('{"error": "on purpose"}', "on purpose"))
            self.assertEqual(len(self.server.requests), 6)

    def test_a_silent_connection_counts_as_broken(self):
        data = random_bytes(3_000_000, 8)
        self.add("u/r", {"m.gguf": data}, cuts=[1_000_000], stall=True)
        path = self.mainspring("pull", "u/r", HF_HUB_DOWNLOAD_TIMEOUT="1").strip()
        self.assertEqual(Path(path).read_bytes(), data)
        self.assertIn("sent nothing for 1 seconds", self.error)

    def test_addresses_that_are_none(self):
        error = self.mainspring("pull", "u/r", code=1, HF_ENDPOINT="http://127.0.0.1:9")
        self.assertIn("cannot reach http://127.0.0.1:9", error)
        self.assertIn("cannot reach http://no-such-host.invalid:80", self.mainspring("pull", "u/r", code=1, HF_ENDPOINT="http://no-such-host.invalid"))
        for wrong in "hub", "ftp://127.0.0.1", "http://":
            self.assertIn("want a URL", self.mainspring("pull", "u/r", code=2, HF_ENDPOINT=wrong))
        for wrong in "0", "-1", "x", "99999999":
            self.assertIn("want seconds", self.mainspring("pull", "u/r", code=2, HF_HUB_DOWNLOAD_TIMEOUT=wrong))
        self.assertIn("HF_TOKEN", self.mainspring("pull", "u/r", code=2, HF_TOKEN="a\nHost: b"))
        for wrong in "r", "u/r/s", "../r", "u/..":
            self.assertIn("want USER/REPO", self.mainspring("pull", wrong, code=2))

    def test_redirects_that_lead_nowhere(self):
        self.add("u/loop", {"m.gguf": b"abc"}, to="itself")
        self.assertIn("redirects more than 10 times", self.mainspring("pull", "u/loop", code=1))
        self.add("u/file", {"m.gguf": b"abc"}, to="file:///etc/passwd")
        self.mainspring("pull", "u/file", code=1)
        self.assertEqual({f for f in self.files() if not f.endswith(".part")}, set())

    def test_a_listing_cannot_write_elsewhere(self):
        for path in "../../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf", "a\\evil.gguf", "a\n.gguf":
            self.add("u/r", {"m.gguf": b"abc", path: b"evil"})
            self.assertIn("leads out of a folder", self.mainspring("pull", "u/r", code=1))
            self.assertEqual(self.files(), set())
        for listing in b"", b"{}", b"<html>", b'[{"path": "m.gguf"}]':
            self.add("u/r", {}, listing=listing)
            self.assertIn("is HF_ENDPOINT a hub?", self.mainspring("pull", "u/r", code=1))
        deep = b"[" * 200_000 + b"]" * 200_000
        self.add("u/r", {}, listing=b'[{"path": "m.gguf", "size": 5, "type": %s}]' % deep)
        self.mainspring("pull", "u/r", code=1)

    def test_hidden_files_are_skipped(self):
        self.add("u/r", {"._a-Q8_0.gguf": b"x", ".cache/a.gguf": b"x", "a-mmproj-Q8_0.gguf": b"x", "a-Q8_0.gguf": b"abc"})
        self.mainspring("pull", "u/r")
        self.assertEqual(self.files(), {"u/r/a-Q8_0.gguf"})
        # So are those of the cache, and folders that no name leads to.
        for path in "u/r/.a-Q4_K_M.gguf", "u/r/._a.gguf.part", "u/.r/a.gguf", ".u/r/a.gguf", "_u/r/a.gguf":
            (self.models / path).parent.mkdir(parents=True, exist_ok=True)
            (self.models / path).write_bytes(b"x")
        self.assertRegex(self.mainspring("list"), r"\Amodel.*\nu/r:Q8_0 .*\n\Z")
        self.assertIn("a-Q8_0.gguf", self.mainspring("inspect", "-hf", "u/r", code=1))
        self.mainspring("rm", "u/r")
        self.assertFalse((self.models / "u/r").exists())

    def test_a_listing_may_have_many_pages(self):
        files = {f"m-{n}.gguf": b"%d" % n for n in range(10, 30)}
        self.add("u/r", files, page=3)
        self.assertTrue(self.mainspring("pull", "u/r:m-29.gguf").endswith("m-29.gguf\n"))
        self.assertEqual(len(self.server.requests), 8)  # 7 pages, the file

    def test_parts_come_together(self):
        files = {f"Q8_0/m-Q8_0-0000{n}-of-00003.gguf": random_bytes(1000, n) for n in (1, 2, 3)}
        repository = self.add("u/r", files, status={"Q8_0/m-Q8_0-00003-of-00003.gguf": [404]})
        self.mainspring("pull", "u/r", code=1)
        self.assertFalse(any(f.endswith(".gguf") for f in self.files()))
        repository.status = {}
        self.assertTrue(self.mainspring("pull", "u/r").endswith("m-Q8_0-00001-of-00003.gguf\n"))
        self.assertEqual(self.files(), {f"u/r/{f}" for f in files})
        self.assertEqual(len(self.mainspring("list").splitlines()), 2)
        # One of them lost: -hf fetches it again.
        (self.models / "u/r/Q8_0/m-Q8_0-00002-of-00003.gguf").unlink()
        self.mainspring("inspect", "-hf", "u/r", code=1)  # for what it holds is no model
        self.assertEqual(self.files(), {f"u/r/{f}" for f in files})

    def test_what_comes_in_several_files_runs(self):
        self.share_pipelines()
        tokens = "--tokens", "1,2,3,4", "--greedy", "8"
        folder = GOLDEN / "hf-qwen3"
        self.add("u/folder", {p.name: p.read_bytes() for p in folder.iterdir()})
        self.assertEqual(self.mainspring("logits", "-hf", "u/folder", *tokens), self.mainspring("logits", "-m", folder, *tokens))
        model = GOLDEN / "tiny-moe.gguf"
        with tempfile.TemporaryDirectory() as parts:
            reader = gguf.GGUFReader(model)
            writer = gguf.GGUFWriter(Path(parts) / "m-F32.gguf", reader.fields["general.architecture"].contents(), split_max_tensors=8)
            copy_with_new_metadata(reader, writer, {}, [])
            self.add("u/parts", {f"F32/{p.name}": p.read_bytes() for p in Path(parts).iterdir()})
        self.assertGreater(len(self.server.repositories["u/parts"].files), 2)
        self.assertEqual(self.mainspring("logits", "-hf", "u/parts", *tokens), self.mainspring("logits", "-m", model, *tokens))

    def test_safetensors_are_a_folder(self):
        files = {name: name.encode() for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                                  "model.safetensors.index.json", "config.json", "generation_config.json", "tokenizer.json",
                                                  "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt")}
        beside = {"README.md": b"x", "pytorch_model.bin": b"x", "onnx/model.safetensors": b"x", ".gitattributes": b"x"}
        repository = self.add("u/r", {**files, **beside})
        self.assertEqual(self.mainspring("pull", "u/r").strip(), str(self.models / "u/r"))
        self.assertEqual(self.files(), {f"u/r/{f}" for f in files})
        self.assertRegex(self.mainspring("list"), r"u/r +\d+ bytes")
        # A new version in one piece: what is left of the old one goes.
        repository.files = {"model.safetensors": b"new", **{f: b"new" for f in files if "safetensors" not in f}}
        self.mainspring("pull", "u/r")
        self.assertEqual(self.files(), {f"u/r/{f}" for f in repository.files})
        self.assertEqual((self.models / "u/r/config.json").read_bytes(), b"new")

    def test_pull_fetches_what_has_changed_only(self):
        repository = self.add("u/r", {"m-Q8_0.gguf": random_bytes(1000, 1), "m-F32.gguf": b"other"})
        path = Path(self.mainspring("pull", "u/r").strip())
        self.storage.requests.clear()
        self.mainspring("pull", "u/r")
        self.assertEqual(self.storage.requests, [])
        repository.files["m-Q8_0.gguf"] = random_bytes(1000, 2)  # as long as before
        self.mainspring("pull", "u/r")
        self.assertEqual(path.read_bytes(), random_bytes(1000, 2))
        # While the new one does not come, the old one stays.
        repository.files["m-Q8_0.gguf"] = random_bytes(1000, 3)
        repository.damage = lambda data: b"?" + data[1:]
        self.mainspring("pull", "u/r", code=1)
        self.assertEqual(path.read_bytes(), random_bytes(1000, 2))

    def test_processes_take_turns(self):
        data = random_bytes(30_000_000, 9)
        self.add("u/r", {"m.gguf": data}, cuts=[4_000_000] * 4)
        processes = [self.start("pull", "u/r") for _ in range(3)]
        for process in processes:
            out, error = process.communicate(timeout=600)
            self.assertEqual(process.returncode, 0, error)
            self.assertEqual(Path(out.strip()).read_bytes(), data)
        self.assertEqual(self.files(), {"u/r/m.gguf"})
        self.assertEqual(len(self.storage.requests), 5)  # fetched once

    def test_a_disk_without_room(self):
        entry = {"type": "file", "path": "m.gguf", "size": 1, "lfs": {"oid": "a" * 64, "size": 1 << 60}}
        self.add("u/big", {}, listing=json.dumps([entry]).encode())
        self.assertRegex(self.mainspring("pull", "u/big", code=1), r"takes \d+ more bytes, \d+ are free")
        self.add("u/r", {"m.gguf": random_bytes(3_000_000, 1)})

        def limit():  # a write beyond it fails, as one to a full disk does
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

        self.assertRegex(self.mainspring("pull", "u/r", code=1, preexec_fn=limit), r"cannot write .*m.gguf.part: File too large")
        self.assertEqual(self.files(), {"u/r/m.gguf.part"})

    def test_a_hub_that_contradicts_itself(self):
        repository = self.add("u/r", {"m.gguf": random_bytes(300_000, 1)}, etag="0" * 64)
        self.assertIn("has changed at the hub just now", self.mainspring("pull", "u/r", code=1))
        self.assertEqual(self.files(), set())
        repository.etag, repository.shift, repository.cuts = None, 1, [100_000]
        self.assertIn('on, the hub sends "bytes 100001-', self.mainspring("pull", "u/r", code=1))
        repository.shift = 0
        self.mainspring("pull", "u/r")

    def test_a_file_of_another_length_than_listed(self):
        entry = {"type": "file", "path": "m.gguf", "size": 2, "oid": git_oid(b"ab")}
        self.add("u/r", {"m.gguf": b"abc"}, large=(), listing=json.dumps([entry]).encode())
        self.assertIn("longer than the 2 bytes", self.mainspring("pull", "u/r", code=1))
        self.assertNotIn("u/r/m.gguf", self.files())

    def test_list_and_rm(self):
        self.assertIn("no model was pulled yet", self.mainspring("rm", "u/r", code=1))
        self.assertEqual(self.mainspring("list"), "")
        self.add("u/r", {"m-Q8_0.gguf": b"abc", "d/m-F32.gguf": b"defg"})
        self.add("v/s", {"plain.gguf": b"x"})
        for name in "u/r:Q8_0", "u/r:F32", "v/s":
            self.mainspring("pull", name)
        rows = [re.split("  +", row) for row in self.mainspring("list").splitlines()]
        self.assertEqual([row[:2] for row in rows], [["model", "size"], ["u/r:Q8_0", "3 bytes"], ["u/r:F32", "4 bytes"], ["v/s:plain.gguf", "1 bytes"]])
        for row in rows[1:]:
            self.assertLess(abs(time.time() - time.mktime(time.strptime(row[2], "%Y-%m-%d %H:%M"))), 600)
        self.server.requests.clear()
        error = self.mainspring("rm", "u/r:Q4_0", code=1)
        self.assertIn("There is\n  u/r:Q8_0\n  u/r:F32\n  v/s:plain.gguf\n", error)
        self.assertEqual(self.mainspring("rm", "u/r:F32"), f"removed {self.models}/u/r/d/m-F32.gguf\n")
        self.assertEqual(sorted(p.name for p in (self.models / "u/r").iterdir()), [".lock", "m-Q8_0.gguf"])
        self.assertEqual(self.mainspring("rm", "v/s"), f"removed {self.models}/v/s/plain.gguf\n")
        self.mainspring("rm", "u/r:Q8_0")
        self.assertEqual(list(self.models.iterdir()), [])
        self.assertEqual(self.server.requests, [])

    def test_links_are_removed_and_not_what_they_lead_to(self):
        mine = Path(self.folder.name) / "mine/sub"
        mine.mkdir(parents=True)
        kept = {mine / name for name in ("own-Q8_0.gguf", "keep.safetensors", "config.json")}
        for path in kept:
            path.write_bytes(b"mine")
        link = self.models / "u/r/d-Q8_0.gguf"
        for name in "u/r", "v/s", "u/r:Q8_0":
            (self.models / name[:3]).mkdir(parents=True, exist_ok=True)
            (self.models / name[:3] / ".lock").touch()
            if name == "v/s":
                continue
            link.symlink_to(mine / "own-Q8_0.gguf")
            self.assertRegex(self.mainspring("list"), r"u/r:Q8_0 +4 bytes")
            self.assertEqual(self.mainspring("rm", name), f"removed {link}\n")
            self.assertEqual(set(mine.iterdir()), kept)
            self.assertFalse((self.models / "u").exists())
        # Weights of an old version go when a new one comes.
        self.add("v/s", {"model.safetensors": b"new", "config.json": b"{}"})
        for old in "old.safetensors", "config.json":
            (self.models / "v/s" / old).symlink_to(mine / old.replace("old", "keep"))
        self.mainspring("pull", "v/s")
        self.assertEqual(self.files(), {"v/s/model.safetensors", "v/s/config.json"})
        # A repository's folder, and a user's, may be links.
        (self.models / "v/t").symlink_to(mine)
        (self.models / "w").symlink_to(self.models / "v")
        for name, link in ("v/t:Q8_0", "v/t"), ("w/s", "w"), ("w/t", "w/t"):
            self.assertIn(f"{name} is not removed, for {self.models}/{link} is a link", self.mainspring("rm", name, code=1))
        self.add("v/t", {"model.safetensors": b"new", "config.json": b"{}"})
        self.assertIn(f"{self.models}/v/t/keep.safetensors is not removed", self.mainspring("pull", "v/t", code=1))
        self.assertEqual(self.mainspring("rm", "v/t"), f"removed {self.models}/v/t\n")
        self.mainspring("rm", "v/s")
        self.assertEqual([p.name for p in self.models.iterdir()], ["w"])
        # So may they be links that lead nowhere.
        (self.models / "x").mkdir()
        self.add("x/s", {"m.gguf": b"new"})
        for to in "s", "none/such":
            (self.models / "x/s").symlink_to(to)
            self.assertIn(f"{self.models}/x/s is a link that leads nowhere", self.mainspring("pull", "x/s", code=1))
            self.assertEqual(self.mainspring("rm", "x/s"), f"removed {self.models}/x/s\n")
            (self.models / "x").mkdir()
        (self.models / "x").rmdir()
        (self.models / "x").symlink_to("none")
        self.assertIn(f"{self.models}/x is a link that leads nowhere", self.mainspring("pull", "x/s", code=1))
        self.assertLessEqual(kept, set(mine.iterdir()))

    def test_what_a_broken_download_left_has_a_name(self):
        self.add("u/r", {f"m-{which}.gguf": b"abc" for which in ("Q8_0", "F32")})
        self.mainspring("pull", "u/r:Q8_0")
        folder = self.models / "u/r"
        for name in "m-F32.gguf.part", "m-Q8_0.gguf.part":
            (folder / name).write_bytes(b"ab")
        rows = [re.split("  +", row) for row in self.mainspring("list").splitlines()[1:]]
        self.assertEqual([(name, size, "not complete" in when) for name, size, when in rows],
                         [("u/r:F32", "2 bytes", True), ("u/r:Q8_0", "3 bytes", False), ("u/r:Q8_0", "2 bytes", True)])
        self.assertEqual(self.mainspring("rm", "u/r:F32"), f"removed {folder}/m-F32.gguf.part\n")
        self.assertEqual(self.mainspring("rm", "u/r:Q8_0"), f"removed {folder}/m-Q8_0.gguf\nremoved {folder}/m-Q8_0.gguf.part\n")
        self.assertFalse(folder.exists())
        # Before there are any weights it can have the repository's name alone.
        folder.mkdir(parents=True)
        for name in ".lock", "generation_config.json.part":
            (folder / name).write_bytes(b"a")
        self.assertRegex(self.mainspring("list"), r"\nu/r +1 bytes .*not complete")
        self.mainspring("rm", "u/r")
        self.assertFalse(folder.exists())

    def test_folders_that_pull_did_not_make_are_none_of_its_own(self):
        folder = self.models / "mine/1_Pooling"
        folder.mkdir(parents=True)
        for name in "config.json", "model.safetensors":
            (folder / name).write_bytes(b"mine")
        self.assertIn("no model was pulled yet", self.mainspring("list") + self.error)
        self.assertIn("there is no mine/1_Pooling", self.mainspring("rm", "mine/1_Pooling", code=1))
        self.assertEqual(len(self.files()), 2)

    def test_what_stands_in_the_way_is_said_before_the_download(self):
        self.add("u/r", {f"d/m-0000{n}-of-00002.gguf": b"abc" for n in (1, 2)})
        folder = self.models / "u/r/d"
        (folder / "m-00002-of-00002.gguf/mine").mkdir(parents=True)
        (folder / "m-00002-of-00002.gguf/mine/file").touch()
        self.assertIn(f"{folder}/m-00002-of-00002.gguf is a folder", self.mainspring("pull", "u/r", code=1))
        folder.rename(self.models / "mine")
        (self.models / "elsewhere").mkdir()
        folder.symlink_to(self.models / "elsewhere")
        self.assertIn(f"{folder} is a link", self.mainspring("pull", "u/r", code=1))
        self.assertEqual(self.storage.requests, [])
        folder.unlink()
        folder.mkdir()
        os.mkfifo(folder / "m-00001-of-00002.gguf.part")
        self.assertIn("m-00001-of-00002.gguf.part is not a regular file", self.mainspring("pull", "u/r", code=1))

    def test_a_pull_that_fails_leaves_no_empty_folder(self):
        self.add("u/r", {"d/m.gguf": b"abc"}, status={"d/m.gguf": [404] * 2})
        self.mainspring("pull", "u/r", code=1)
        self.assertFalse((self.models / "u").exists())
        # What else is there stays.
        (self.models / "u/r").mkdir(parents=True)
        (self.models / "u/r/mine").symlink_to("none")
        self.mainspring("pull", "u/r", code=1)
        self.assertTrue((self.models / "u/r/mine").is_symlink())

    def test_a_cache_that_cannot_be_written(self):
        self.add("u/r", {"m.gguf": b"abc"})
        (Path(self.folder.name) / "mainspring").write_bytes(b"a file, where a folder should be")
        self.assertIn("cannot write to", self.mainspring("pull", "u/r", code=1))
        self.assertIn("set HOME", self.mainspring("pull", "u/r", code=2, XDG_CACHE_HOME="", HOME=""))


unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
