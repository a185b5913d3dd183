"""chat_page_test: the page of mainspring serve in headless Chromium, with the built-in model behind it.

usage: chat_page_test PROGRAM MODEL [TEST…]      exit code 77: skipped for want of a browser
"""
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import chromium
from chromium import expect, sync_playwright

PROGRAM, MODEL = sys.argv[1:3]
KEY = "a-key-of-the-test"
BRIEF = {"temperature": 0, "max_tokens": 6}
# Greedy, the model repeats itself for ever: an answer that does not end while a test looks at it.
STORY = "Once upon a time there was a little fox who lived in the forest. One day"
ENDLESS = {"temperature": 0}
LAST = "#messages article:last-child"
expect.set_options(timeout=600_000)


class Server:
    def __init__(self, *arguments, port=0):
        environment = {k: v for k, v in os.environ.items() if not re.match(r"MAINSPRING_(?!DEVICE)", k)}
        command = [PROGRAM, "serve", "-m", MODEL, "-a", "tales", "--port", str(port), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        lines = [self.process.stdout.readline() for _ in range(2)]
        match = re.fullmatch(r"a page to chat in: (http://127\.0\.0\.1:(\d+)/)\n", lines[1])
        if not match:
            self.process.kill()
            raise AssertionError(lines)
        self.url, self.port = match[1], int(match[2])

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def figure(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(re.search(rf"(?m)^mainspring_{re.escape(name)} (\S+)$", text)[1])

    def until(self, name, value):
        end = time.monotonic() + 600
        while (now := self.figure(name)) != value:
            assert time.monotonic() < end, f"{name} stays {now}, want {value}"
            time.sleep(0.02)

    def begin_long(self):
        """A request that runs until its socket is closed."""
        body = json.dumps({"prompt": STORY, **ENDLESS, "n": 8, "max_tokens": 1000}).encode()
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=600)
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return connection


class ChatPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("-c", "16384")  # which no device fills while a test looks at it
        cls.addClassCleanup(cls.server.close)
        cls.playwright = sync_playwright().start()
        cls.addClassCleanup(cls.playwright.stop)
        cls.browser = cls.playwright.chromium.launch(executable_path=chromium.path, args=["--no-sandbox"])  # which refuses root
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.page = self.new_page()

    def new_page(self, **options):
        """A page of a browser that nobody has used. What a page asks for, it asks its own server; no script of it fails."""
        context = self.browser.new_context(**options)
        self.addCleanup(context.close)
        context.set_default_timeout(600_000)
        self.requests, errors = [], []
        context.on("request", lambda request: self.requests.append(request))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        self.addCleanup(lambda: self.assertEqual(errors, []))
        requests = self.requests
        self.addCleanup(lambda: self.assertEqual({r.url.split("/v1")[0] for r in requests if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127)", r.url)}, set()))
        return context.new_page()

    def serve(self, *arguments, **more):
        server = Server(*arguments, **more)
        self.addCleanup(server.close)
        return server

    def open(self, server=None, **sampling):
        self.page.goto((server or self.server).url)
        expect(self.page.locator("#model")).to_have_text("tales")
        self.set(**sampling)

    def set(self, system=None, **sampling):
        self.page.click("#settings")
        for name, value in {"system": system, **sampling}.items():
            if value is not None:
                self.page.fill(f"#{name}", str(value))
        self.page.click("text=Done")
        expect(self.page.locator("dialog[open]")).to_have_count(0)

    def send(self, text="Tell me of a fox.", wait=True):
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")
        if wait:
            self.wait()

    def wait(self):
        """Until the answer has ended."""
        expect(self.page.locator("#send")).to_be_visible()
        expect(self.page.locator(LAST + ".assistant")).to_be_visible()

    def begin_long(self, text=STORY):
        self.send(text, wait=False)
        expect(self.page.locator(LAST + ".assistant .markdown")).to_contain_text(re.compile(r"\w+ \w+"))
        self.assertTrue(self.page.is_visible("#stop"))

    def answer(self):
        return self.page.inner_text(LAST + " .markdown")

    def click(self, name, article=LAST):
        self.page.click(f"{article} .actions >> text={name}")

    def bodies(self):
        """What was asked of the model."""
        return [request.post_data_json for request in self.requests if request.url.endswith("/v1/chat/completions")]

    def fake(self, *pieces, thoughts=()):
        """Answers of these pieces, as the server would send them; thoughts that it tells apart come first."""
        deltas = [{"reasoning_content": thought} for thought in thoughts] + [{"content": piece} for piece in pieces]
        chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces), "prompt_tokens_details": {"cached_tokens": 4}}})
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        self.page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))

    def test_an_answer_comes_piece_by_piece(self):
        self.open(**ENDLESS, max_tokens=100)
        self.page.evaluate("""() => {
            window.seen = new Set();
            new MutationObserver(() => seen.add(document.querySelector("#messages article:last-child .markdown")?.textContent))
              .observe(document.getElementById("messages"), { subtree: true, childList: true, characterData: true });
        }""")
        self.send(STORY)
        seen = [text for text in self.page.evaluate("[...seen]") if text]
        self.assertGreater(len(seen), 1)
        for shorter, longer in zip(seen, seen[1:]):
            self.assertTrue(longer.startswith(shorter[:-1].rstrip()), (shorter, longer))
        figures = self.page.inner_text(LAST + " .figures")
        self.assertRegex(figures, r"^100 tokens · [\d.]+ tokens/s · first after [\d.]+ s · prompt \d+")
        self.assertIn("Cut off at 100 tokens", self.page.inner_text(LAST))
        prompt = int(re.search(r"prompt (\d+)", figures)[1])
        self.assertEqual(self.page.inner_text("#room"), f"{prompt + 100} of 16,384 tokens of context")
        self.assertEqual(self.page.inner_text("#title"), STORY[:59] + "…")
        (body,) = self.bodies()
        self.assertEqual((body["messages"], body["stream"]), ([{"role": "user", "content": STORY}], True))

    def test_stop_ends_the_servers_work(self):
        self.open(**ENDLESS)
        for n, how in enumerate(["Escape", "click"], 1):
            before = self.server.figure('generations_total{end="cancelled"}')
            self.begin_long()
            self.page.click("#stop") if how == "click" else self.page.keyboard.press(how)
            self.server.until('generations_total{end="cancelled"}', before + 1)
            self.assertEqual(self.server.figure("running"), 0)
            self.wait()
            self.assertIn("Stopped.", self.page.inner_text(LAST))
            self.assertRegex(self.page.inner_text(LAST + " .figures"), "^≈ ")
            self.assertTrue(self.answer())
            self.page.click("#new")

    def test_an_answer_goes_on_while_another_conversation_is_shown(self):
        self.open(**ENDLESS)
        self.begin_long()
        before = self.answer()
        self.page.click("#new")
        self.assertTrue(self.page.is_visible("#send"))
        self.assertFalse(self.page.is_visible("#messages"))
        self.page.keyboard.press("Escape")  # stops what is shown alone
        self.page.click("#list .running button")
        expect(self.page.locator(LAST + " .markdown")).to_have_text(re.compile(rf"[\s\S]{{{len(before) + 20},}}"))
        self.assertTrue(self.page.is_visible("#stop"))
        cancelled = self.server.figure('generations_total{end="cancelled"}')
        self.page.get_by_label("Delete").click()
        self.server.until('generations_total{end="cancelled"}', cancelled + 1)
        self.assertEqual(self.page.locator("#list li").count(), 0)
        self.page.click("#toast >> text=Undo")
        self.assertIn("Stopped.", self.page.inner_text(LAST))

    def test_retry_and_edit_keep_what_was_there(self):
        self.open(temperature=1, top_k=0, top_p=1, min_p=0, seed=1, max_tokens=12)
        self.send()
        first = self.answer()
        self.set(seed=2)
        self.click("Retry")
        self.wait()
        second = self.answer()
        self.assertNotEqual(first, second)
        versions = self.page.locator(LAST + " .versions")
        self.assertIn("2/2", versions.inner_text())
        versions.get_by_label("The version before").click()
        self.assertEqual(self.answer(), first)
        self.send("And then?")
        self.click("Edit", "#messages article:nth-child(3)")
        area = self.page.locator("#messages textarea")
        area.press("Escape")  # leaves all as it was
        self.assertEqual(self.page.locator("#messages article").count(), 4)
        self.click("Edit", "#messages article:nth-child(3)")
        area.fill("And where is it now?")
        area.press("Enter")
        expect(self.page.locator("#messages article:nth-child(3) .versions")).to_contain_text("2/2")
        self.wait()
        self.assertEqual(self.bodies()[-1]["messages"], [
            {"role": "user", "content": "Tell me of a fox."}, {"role": "assistant", "content": first}, {"role": "user", "content": "And where is it now?"}])
        self.click("Edit", "#messages article:nth-child(3)")
        area.press("Enter")  # asks the same again
        expect(self.page.locator(LAST + " .versions")).to_contain_text("2/2")
        self.wait()
        # Back to the second answer, behind which nothing was said.
        self.page.locator("#messages article:nth-child(2)").get_by_label("The next version").click()
        self.assertEqual((self.answer(), self.page.locator("#messages article").count()), (second, 2))

    def test_system_prompt_and_sampling_reach_the_server(self):
        self.open()
        sampling = {"temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.25, "max_tokens": 3, "seed": 4294967295}
        self.begin_long()
        self.page.keyboard.press("Escape")
        self.wait()
        self.set("Be brief.", **sampling)
        self.send("Again.")
        usual, body = self.bodies()
        self.assertEqual({name: usual.get(name) for name in sampling},
                         {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1, "max_tokens": None, "seed": None})
        self.assertNotIn("max_tokens", usual)
        self.assertEqual({name: body[name] for name in sampling}, sampling)
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        self.assertIn("3 tokens", self.page.inner_text(LAST + " .figures"))
        # What the server would refuse is not taken.
        self.page.click("#settings")
        for name, wrong in ("temperature", "2.5"), ("top_k", "1.5"), ("max_tokens", "0"), ("top_p", "-1"):
            self.page.fill(f"#{name}", wrong)
            self.assertFalse(self.page.eval_on_selector(f"#{name}", "input => input.validity.valid"), name)
        self.page.click("text=Done")
        self.assertTrue(self.page.is_visible("#options"))
        self.page.keyboard.press("Escape")
        self.page.click("#new")  # which begins with the same
        self.send()
        self.assertEqual({name: self.bodies()[-1][name] for name in sampling}, sampling)
        self.page.click("#settings")
        self.page.click("text=Reset")
        self.page.click("text=Done")
        self.set(max_tokens=3)
        self.send()
        self.assertEqual((self.bodies()[-1]["temperature"], self.bodies()[-1]["messages"][0]["role"]), (0.8, "user"))

    def test_conversations_are_kept(self):
        self.open(**BRIEF)
        self.send("Tell me of a fox.")
        answer = self.answer()
        self.page.click("#new")
        self.send("Tell me of a duck.")
        titles = self.page.locator("#list li button:first-child")
        self.assertEqual(titles.all_inner_texts(), ["Tell me of a duck.", "Tell me of a fox."])
        self.page.reload()
        self.assertEqual(self.page.inner_text("#title"), "Tell me of a duck.")
        titles.nth(1).click()
        self.assertEqual((self.page.inner_text("#title"), self.answer()), ("Tell me of a fox.", answer))
        self.page.get_by_label("Rename Tell me of a fox.").click()
        self.page.fill("#list input", "<b>Foxes</b>")
        self.page.press("#list input", "Enter")
        self.assertEqual(self.page.inner_text("#title"), "<b>Foxes</b>")
        # Another page of the same browser hears of it.
        other = self.page.context.new_page()
        other.goto(self.server.url)
        expect(other.locator("#list li")).to_have_count(2)
        self.page.hover("#list li >> text=duck")
        self.page.get_by_label("Delete Tell me of a duck.").click()
        expect(other.locator("#list li")).to_have_count(1)
        self.page.click("#toast >> text=Undo")
        expect(other.locator("#list li")).to_have_count(2)
        self.page.hover("#list li >> text=duck")
        self.page.get_by_label("Delete Tell me of a duck.").click()
        self.page.reload()
        self.assertEqual(titles.all_inner_texts(), ["<b>Foxes</b>"])

    def test_files_carry_conversations(self):
        self.open(**BRIEF, system="Be brief.")
        self.page.click("#export")
        self.assertIn("no conversation", self.page.inner_text("#toast"))
        self.send()
        answer = self.answer()
        with self.page.expect_download() as download:
            self.page.click("#export")
        file = download.value.path()

        def take(content):
            with tempfile.NamedTemporaryFile(suffix=".json") as other:
                other.write(content)
                other.flush()
                self.page.evaluate("document.getElementById('toast').replaceChildren()")
                self.page.set_input_files("#file", other.name)
                expect(self.page.locator("#toast")).not_to_be_empty()
                return self.page.inner_text("#toast")

        self.assertIn("0 conversations imported; 1 were here already", take(file.read_bytes()))
        self.page = self.new_page()
        self.open()
        self.assertIn("1 conversation imported.", take(file.read_bytes()))
        self.page.click("#list button")
        self.assertEqual(self.answer(), answer)
        self.send("And then?")
        self.assertEqual((self.bodies()[-1]["messages"][0]["content"], self.bodies()[-1]["max_tokens"]), ("Be brief.", 6))
        # What `mainspring chat` saves.
        saved = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "A hen?"}, {"role": "assistant", "content": "A **hen**."}],
                 "parameters": {"temp": 0, "predict": 4, "seed": -1}}
        self.assertIn("1 conversation imported", take(json.dumps(saved).encode()))
        self.page.click("#list >> text=A hen?")
        self.assertEqual(self.page.inner_text(LAST + " strong"), "hen")
        self.send("And then?")
        body = self.bodies()[-1]
        self.assertEqual((body["temperature"], body["max_tokens"], body.get("seed")), (0, 4, None))
        self.assertEqual([m["role"] for m in body["messages"]], ["system", "user", "assistant", "user"])
        node = {"parent": -1, "role": "user", "text": "x"}
        wrong = [b"", b"{", b"[]", b"null", b'{"conversations": 1}', b'{"messages": [1]}', b'{"messages": [{"role": "tool", "content": "x"}]}', b'{"conversations": [{}]}',
                 *(json.dumps({"conversations": [{"nodes": [{**node, **change}]}]}).encode() for change in ({"parent": 0}, {"parent": "x"}, {"role": "x"}, {"text": 1}))]
        before = self.page.locator("#list li").count()
        for content in wrong:
            with self.subTest(content=content):
                self.assertIn("cannot be imported: ", take(content))
        self.assertEqual(self.page.locator("#list li").count(), before)

    def test_storage_that_is_full(self):
        self.open(**BRIEF)
        self.page.evaluate("""() => {
            for (let size = 1 << 23; size >= 1; size >>= 1)
              try { for (let n = 0; ; ++n) localStorage.setItem(`filler.${size}.${n}`, "x".repeat(size)); } catch {}
        }""")
        self.send()
        self.assertTrue(self.answer())
        self.assertIn("storage is full", self.page.inner_text("#toast"))

    def test_dark_and_light(self):
        def luminance(color):
            parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
            return sum(w * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4) for w, p in zip((0.2126, 0.7152, 0.0722), parts))

        def color(name):
            return self.page.evaluate("""(name) => {
                const one = document.createElement("i");
                one.style.color = `var(--${name})`;
                document.body.append(one);
                const color = getComputedStyle(one).color;
                one.remove();
                return color;
            }""", name)

        def is_dark():
            for front, back in ("text", "back"), ("text", "panel"), ("soft", "back"), ("soft", "panel"), ("accent", "back"), ("on-accent", "accent"), ("bad", "bad-back"), ("bad", "back"):
                pair = sorted(luminance(color(name)) for name in (front, back))
                self.assertGreaterEqual((pair[1] + 0.05) / (pair[0] + 0.05), 4.5, (front, back))
            return luminance(color("back")) < 0.2

        self.open()
        for system in "light", "dark":
            self.page.emulate_media(color_scheme=system)
            self.assertEqual(is_dark(), system == "dark")
        self.assertEqual(self.page.get_attribute("#theme", "aria-label"), "Theme: system")
        self.page.click("#theme")
        self.assertFalse(is_dark())
        self.page.reload()
        self.assertEqual(self.page.get_attribute("#theme", "aria-label"), "Theme: light")
        self.assertFalse(is_dark())
        self.page.click("#theme")
        self.page.emulate_media(color_scheme="light")
        self.assertTrue(is_dark())
        self.page.click("#theme")
        self.assertFalse(is_dark())

    def test_markdown(self):
        self.open()
        text = """# Title
A *soft* and **strong** ***both*** `co<de>` ~~gone~~ 2 * 3 * 4 snake_case_name \\*plain\\*
second line with [a link](https://example.com/a_(b)?c=d "title") and https://example.com/x_y_z. <br>End

1. one
   - inner *item*
     more

   para
2. two
- [x] done
* other

> quoted
> > twice

| a | b\\|c |
|---|:-:|
| 1 | `x` |

```py
if a < b:
    print("<b>")
```
***
~~~
open"""
        self.fake(*re.findall(r"(?s).{1,7}", text))
        self.send("x")
        tree = self.page.evaluate("""() => {
            const tree = (node) => node.nodeType === 3 ? node.data : [node.localName, ...[...node.childNodes].map(tree)];
            return [...document.querySelector("#messages article:last-child .markdown").childNodes].map(tree);
        }""")
        code = lambda language, text: ["figure", ["figcaption", language, ["button", "Copy"]], ["pre", ["code", text]]]
        flat = lambda tree: tree if isinstance(tree, str) else [tree[0], *join([flat(t) for t in tree[1:]])]

        def join(children):  # text that lies side by side
            result = []
            for child in children:
                if result and isinstance(child, str) and isinstance(result[-1], str):
                    result[-1] += child
                else:
                    result.append(child)
            return result

        expected = [
            ["h3", "Title"],
            ["p", "A ", ["em", "soft"], " and ", ["strong", "strong"], " ", ["strong", ["em", "both"]], " ", ["code", "co<de>"], " ", ["del", "gone"],
             " 2 * 3 * 4 snake_case_name *plain*\nsecond line with ", ["a", "a link"], " and ", ["a", "https://example.com/x_y_z"], ". ", ["br"], "End"],
            ["ol", ["li", ["p", "one"], ["ul", ["li", ["p", "inner ", ["em", "item"], "\nmore"]]], ["p", "para"]], ["li", ["p", "two"]]],
            ["ul", ["li", ["p", "☑ done"]], ["li", ["p", "other"]]],
            ["blockquote", ["p", "quoted"], ["blockquote", ["p", "twice"]]],
            ["div", ["table", ["thead", ["tr", ["th", "a"], ["th", "b|c"]]], ["tbody", ["tr", ["td", "1"], ["td", ["code", "x"]]]]]],
            code("py", 'if a < b:\n    print("<b>")'),
            ["hr"],
            code("text", "open"),
        ]
        self.assertEqual([flat(t) for t in tree], expected)
        links = self.page.eval_on_selector_all(LAST + " a", "all => all.map((a) => [a.href, a.target, a.rel])")
        self.assertEqual([link[0] for link in links], ["https://example.com/a_(b)?c=d", "https://example.com/x_y_z"])
        for _, target, rel in links:
            self.assertEqual((target, rel), ("_blank", "noopener noreferrer"))

    def test_what_a_model_writes_is_never_markup(self):
        attacks = """<script>window.pwned = 1</script> <img src=x onerror="window.pwned = 2"> <svg onload=window.pwned=3>
![x](http://evil.example/pixel.png) [x](javascript:window.pwned=4) [x](JaVaScRiPt:window.pwned=5) [x](data:text/html,<script>window.pwned=6</script>)
[x](vbscript:x) [x](\x01javascript:alert(1)) <javascript:window.pwned=7> [a](https://e.example/"onmouseover="window.pwned=8) <iframe src="http://evil.example"></iframe>
[![x](http://evil.example/y.png)](javascript:window.pwned=9) `<b>` [x](/v1/models) <style>*{display:none}</style>

<form action=http://evil.example><button>Go</button></form>

```"><script>window.pwned = 10</script>
</code><script>window.pwned = 11</script>
```

| <img src=x onerror=window.pwned=12> |
|---|
| <script>window.pwned = 13</script> |

<think><img src=x onerror=window.pwned=14></think>"""
        self.open()
        self.fake(*re.findall(r"(?s).{1,40}", attacks))
        self.send(attacks)
        self.page.get_by_label("Rename").click()
        self.page.fill("#list input", "<img src=x onerror=window.pwned=15>")
        self.page.press("#list input", "Enter")
        self.page.reload()
        expect(self.page.locator(LAST)).to_be_visible()
        self.assertEqual(self.page.locator("script:not([src='chat.js']), img, iframe, style, object, #messages svg, #messages form").count(), 0)
        for link in self.page.eval_on_selector_all("#messages a", "all => all.map((a) => a.href)"):
            self.assertRegex(link, "^https?://")
        self.assertIsNone(self.page.evaluate("window.pwned ?? null"))
        self.assertEqual(self.page.eval_on_selector_all("*", "all => all.flatMap((one) => one.getAttributeNames().filter((name) => name.startsWith('on')))"), [])
        # And were it markup, the browser would not take it.
        self.assertTrue(self.page.evaluate("() => { try { document.body.innerHTML = '<b>'; return false; } catch { return true; } }"))
        self.assertIn("blocked", self.page.evaluate("""() => {
            const image = new Image();
            return new Promise((done) => { image.onerror = () => done("blocked"); image.onload = () => done("loaded"); image.src = "/health"; });
        }"""))

    def test_long_and_strange_texts_take_no_long_time(self):
        self.open()
        texts = ["*a " * 6000, "_a*" * 6000, "x" + "**" * 9000, "[" * 20000, "[a](" * 5000, "`" + "``` `` ` " * 4000, "> " * 9000 + "x", "- " * 9000 + "x", "|" * 20000 + "\n|-|",
                 "http://a" * 3000, "#" * 20000, "- a\n\n" * 4000, "  " * 9000 + "- x", "<" * 20000, "![" * 9000, "\\" * 20000, "(" * 9000, "a\n" * 9000, "| a |\n" * 4000]
        script = """async (texts) => {
            const { Markdown } = await import("/markdown.js");
            return texts.map((text) => {
              const root = document.createElement("div");
              const start = performance.now();
              new Markdown(root).show(text);
              return [root.textContent.length, performance.now() - start];
            });
        }"""
        for text, (length, took) in zip(texts, self.page.evaluate(script, texts)):
            self.assertGreater(length, 0, text[:20])
            self.assertLess(took, 20_000, text[:20])  # what takes quadratic time in something takes minutes

    def test_thoughts_are_apart(self):
        for pieces, thoughts in ((("<thi", "nk>Let me *see*.", "</think>", "\n\nIt is **so**."), ()),
                                 (("It is ", "**so**."), ("Let me ", "*see*."))):
            self.open()
            self.fake(*pieces, thoughts=thoughts)
            self.page.click("#new")
            self.send("x")
            self.assertEqual(self.answer(), "It is so.")
            self.page.click(LAST + " summary")
            self.assertEqual(self.page.inner_text(LAST + " .thought div"), "Let me *see*.")
            self.send("y")
            self.assertEqual(self.bodies()[-1]["messages"][1], {"role": "assistant", "content": "It is **so**."})

    def test_copy(self):
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for secure in True, False:
            if not secure:
                self.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
            self.open()
            self.fake("A **list**:\n```js\nlet a = 1 < 2;\n\tb();\n```\n")
            self.send("Copy *me*.")
            for selector, text in (LAST + " .actions >> text=Copy", "A **list**:\n```js\nlet a = 1 < 2;\n\tb();\n```\n"), (LAST + " .code button", "let a = 1 < 2;\n\tb();"), (
                    "article.user .actions >> text=Copy", "Copy *me*."):
                self.page.click(selector)
                expect(self.page.locator("#messages >> text=Copied").last).to_be_visible()
                self.page.fill("#input", "")
                self.page.focus("#input")
                self.page.keyboard.press("Control+V")
                self.assertEqual(self.page.input_value("#input"), text)
                expect(self.page.locator("#messages >> text=Copied")).to_have_count(0)
            self.page.fill("#input", "")

    def test_the_keyboard(self):
        self.open(**BRIEF)
        self.page.focus("#input")
        self.page.keyboard.type("one")
        self.page.keyboard.press("Shift+Enter")
        self.page.keyboard.type("two")
        self.assertEqual(self.bodies(), [])
        self.page.keyboard.press("Enter")
        self.wait()
        self.assertEqual(self.bodies()[-1]["messages"][0]["content"], "one\ntwo")
        self.page.keyboard.press("Enter")  # of nothing
        self.assertEqual(len(self.bodies()), 1)
        self.set(**ENDLESS, max_tokens="")
        self.begin_long()
        self.page.fill("#input", "not yet")
        self.page.press("#input", "Enter")  # waits for the end of the answer
        self.assertEqual((len(self.bodies()), self.page.input_value("#input")), (2, "not yet"))
        self.page.keyboard.press("Escape")
        self.wait()
        nameless = self.page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, [role=region], dialog")].filter((one) =>
            !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.getAttribute("aria-labelledby"))).map((one) => one.outerHTML)""")
        self.assertEqual(nameless, [])
        self.page.focus("#input")
        self.page.keyboard.press("Shift+Tab")
        outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        self.assertEqual(outline, "solid")

    def test_scrolling_leaves_the_reader_alone(self):
        self.page.set_viewport_size({"width": 800, "height": 420})
        self.open(**ENDLESS)
        self.begin_long("\n" * 40 + STORY)
        top = lambda: self.page.evaluate("document.getElementById('scroll').scrollTop")
        left = lambda: self.page.evaluate("() => { const s = document.getElementById('scroll'); return s.scrollHeight - s.scrollTop - s.clientHeight; }")

        def more():  # has come
            length = len(self.answer())
            expect(self.page.locator(LAST + " .markdown")).to_have_text(re.compile(rf"[\s\S]{{{length + 40},}}"))

        more()
        self.assertLess(left(), 40)
        self.page.mouse.move(400, 200)
        self.page.mouse.wheel(0, -300)
        expect(self.page.locator("#latest")).to_be_visible()
        before = top()
        more()
        self.assertEqual(top(), before)
        self.page.click("#latest")
        expect(self.page.locator("#latest")).not_to_be_visible()
        more()
        self.assertLess(left(), 40)
        self.page.keyboard.press("Escape")
        self.wait()

    def test_a_phone(self):
        self.page = self.new_page(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
        self.open()
        wide = "x" * 300
        self.fake(f"{wide}\n```\n{wide}\n```\n|{'|'.join(['column'] * 20)}|\n|{'|'.join(['-'] * 20)}|\n\n`{wide}` https://example.com/{wide}")
        self.page.fill("#input", wide)
        self.page.press("#input", "Enter")  # a line, as there is no Shift
        self.assertEqual(self.bodies(), [])
        self.page.tap("#send")
        self.wait()
        fits = "document.documentElement.scrollWidth <= 360 && document.getElementById('scroll').scrollWidth <= 360"
        self.assertTrue(self.page.evaluate(fits))
        self.assertFalse(self.page.is_visible("#list"))
        self.page.tap("#menu")
        expect(self.page.locator("#list li")).to_be_visible()
        self.page.tap("#new")
        expect(self.page.locator("#list")).not_to_be_visible()
        self.page.tap("#settings")
        box = self.page.locator("#options").bounding_box()
        self.assertTrue(0 <= box["x"] and box["x"] + box["width"] <= 360 and box["height"] <= 640, box)
        self.page.tap("text=Done")
        self.assertTrue(self.page.evaluate(fits))

    def test_a_server_that_dies_and_comes_again(self):
        server = self.serve()
        self.open(server, **ENDLESS)
        self.begin_long()
        server.close()
        trouble = self.page.locator(LAST + " .trouble")
        expect(trouble).to_contain_text("The connection broke off before the end of the answer.")
        self.assertTrue(self.answer())
        self.set(**BRIEF)
        trouble.get_by_role("button").click()
        expect(trouble).to_contain_text("The server does not answer. Is it running?")
        self.page.locator("#messages").get_by_label("The version before").click()
        expect(trouble).to_contain_text("broke off")
        self.serve(port=server.port)
        self.page.locator("#messages").get_by_label("The next version").click()
        trouble.get_by_role("button").click()
        expect(self.page.locator(LAST + " .figures")).to_contain_text("first after")
        self.wait()
        self.assertIn("2/2", self.page.inner_text(LAST))  # the one that had no word is replaced

    def test_a_page_that_was_closed(self):
        self.open(**ENDLESS)
        self.begin_long()
        self.page.reload()
        self.assertIn("The page was closed before the end of this answer.", self.page.inner_text(LAST))
        self.server.until("running", 0)
        self.assertTrue(self.answer())

    def test_a_key_is_asked_for(self):
        server = self.serve("--api-key", KEY)
        self.page.goto(server.url)
        why = self.page.locator("#key-why")
        expect(why).to_have_text("This server wants an API key.")
        self.page.fill("#key", "not the key")  # which has blanks
        self.page.click("text=Use it")
        self.assertTrue(self.page.is_visible("#key-dialog"))
        self.page.fill("#key", "wrong")
        self.page.press("#key", "Enter")
        expect(why).to_have_text("The server does not take this API key.")
        self.page.fill("#key", KEY)
        self.page.press("#key", "Enter")
        expect(self.page.locator("#model")).to_have_text("tales")
        self.assertFalse(self.page.is_visible("#server"))
        self.set(**BRIEF)
        self.send()
        self.assertTrue(self.answer())
        self.page.reload()
        expect(self.page.locator("#model")).to_have_text("tales")
        # Forgotten, and asked for again by what needs it, which then goes on.
        self.page.click("#change-key")
        self.page.fill("#key", "")
        self.page.press("#key", "Enter")
        expect(why).to_have_text("This server wants an API key.")
        self.page.click("text=Cancel")
        self.send("And then?", wait=False)
        expect(self.page.locator("#key-dialog")).to_be_visible()
        self.page.fill("#key", KEY)
        self.page.press("#key", "Enter")
        expect(self.page.locator(LAST + " .figures")).to_contain_text("first after")
        self.assertEqual(self.page.locator("#messages article").count(), 4)

    def test_a_server_that_is_busy(self):
        server = self.serve("--queue", "1")
        self.open(server, **BRIEF)
        running, waiting = server.begin_long(), server.begin_long()
        server.until("queue_length", 1)
        self.send(wait=False)
        trouble = self.page.locator(LAST + " .trouble")
        expect(trouble).to_contain_text("The server is busy: 1 requests are waiting, and no more may. Try again in 2 seconds.")
        running.close(), waiting.close()
        server.until("running", 0)
        trouble.get_by_role("button").click()
        expect(self.page.locator(LAST + " .figures")).to_contain_text("first after")
        self.assertEqual(self.page.locator("#messages article").count(), 2)

    def test_a_context_that_is_full(self):
        server = self.serve("-c", "64")
        self.open(server, **ENDLESS)
        self.send(STORY)
        self.assertIn("The context is full: prompt and answer have its 64 tokens.", self.page.inner_text(LAST))
        self.assertEqual(self.page.inner_text("#room"), "64 of 64 tokens of context")
        self.send("And then?")
        self.assertRegex(self.page.inner_text(LAST + " .trouble"), r"outgrown the model's context: messages has \d+ tokens, the context holds 64")
        # What follows an answer without a word is one message with it.
        self.page.click("#new")
        self.send("word " * 100)
        self.assertIn("outgrown", self.page.inner_text(LAST))
        self.send("More.")
        self.assertEqual([m["role"] for m in self.bodies()[-1]["messages"]], ["user"])


unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
