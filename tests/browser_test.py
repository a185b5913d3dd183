"""browser_test: the kernels for JavaScript in headless Chromium: every exported case, the page that runs them, the package.

usage: browser_test DIR VERSION      DIR is what tools/make-dist made; exit code 77: skipped for want of a browser
"""
import functools
import http.server
import json
import math
import os
import re
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import chromium
from chromium import sync_playwright

DIST, VERSION = Path(sys.argv[1]), sys.argv[2]
FLAGS = ["--enable-unsafe-webgpu", "--no-sandbox"]  # the sandbox refuses root
KERNELS = json.loads((DIST / "kernels/kernels.json").read_text())
# Cases are of kernels that WebGPU's default limits allow: 8 storage buffers.
WITH_CASES = [name for name, info in KERNELS.items() if sum("storage" in b["access"] for b in info["bindings"]) <= 8]


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, *_):
        pass


def cases(kernel):
    return json.loads((DIST / f"kernels/cases/{kernel}.json").read_text())


class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=DIST))
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_port}/"
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=chromium.path, args=FLAGS)

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.playwright.stop()
        cls.server.shutdown()

    def setUp(self):
        self.page = self.browser.new_page()
        self.page.set_default_timeout(60_000)
        self.addCleanup(self.page.close)

    def open(self):
        self.page.goto(self.url)
        self.page.wait_for_selector("#run:enabled")

    def run_cases(self, filter="", amount="all cases"):
        """Runs the cases that a filter leaves, and gives the downloaded report."""
        self.page.select_option("#amount", label=amount)
        self.page.fill("#filter", filter)
        self.page.click("#run")
        self.page.wait_for_function("document.getElementById('run').textContent === 'Run'", timeout=1_000_000 if "MAINSPRING_FULL" in os.environ else 300_000)
        return self.download()

    def download(self):
        with self.page.expect_download() as download:
            self.page.click("#download")
        return json.loads(Path(download.value.path()).read_text())

    def change(self, path, change):
        """Serves a file changed."""
        text = (DIST / path).read_bytes()
        self.page.route(f"**/{path}", lambda route: route.fulfill(body=change(text)))

    def evaluate(self, script):
        """Runs the body of an async function against the package alone."""
        self.page.goto(self.url + "kernels/package.json")
        return self.page.evaluate("async () => {" + script.replace('"mainspring-kernels"', '"/kernels/index.js"') + "}")

    def test_the_cases_of_every_kernel_pass(self):
        self.open()
        full = "MAINSPRING_FULL" in os.environ  # attention and matmul take seconds each to compile in software
        report = self.run_cases(amount="all cases" if full else "a few of each kernel")
        self.assertEqual(self.page.inner_text("#error"), "")
        wrong = [r for r in report["results"] if r["status"] == "failed"]
        self.assertEqual(wrong, [], f"{len(wrong)} failed")
        if full:
            self.assertEqual(len(report["results"]), sum(len(cases(kernel)) for kernel in KERNELS))
        self.assertEqual(report["package"], f"mainspring-kernels {VERSION}")
        for skipped in (r for r in report["results"] if r["status"] == "skipped"):
            self.assertRegex(skipped["message"], "has no subgroups|for subgroups of 8")
        for kernel in WITH_CASES:
            passed = [r for r in report["results"] if r["kernel"] == kernel and r["status"] == "passed"]
            self.assertGreaterEqual(len(passed), 4, kernel)
            self.assertIn("portable", {r["variant"] for r in passed}, kernel)

        # Compared with itself, and with one in which a case failed.
        for differ in 0, 1:
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(report, file)
                file.flush()
                self.page.set_input_files("#other", file.name)
                self.page.wait_for_selector(f"text={differ} of {len(report['results'])} differ from the other report")
            report["results"][0]["status"] = "failed"

    def test_every_value_of_an_override_has_a_case(self):
        self.assertEqual(set(KERNELS) - set(WITH_CASES), {"fused_layer"})
        for kernel in WITH_CASES:
            for override in KERNELS[kernel]["overrides"]:
                shown = {case["overrides"][override["name"]] for case in cases(kernel)}
                self.assertLessEqual(set(override["tested"]), shown, f"{kernel} {override['name']}")

    def test_every_kernel_says_what_it_takes(self):
        for kernel, info in KERNELS.items():
            usual, widest = info["tolerance"]["usual"], info["tolerance"]["widest"]
            for part in "abs", "rel":
                self.assertLessEqual(usual[part], widest[part], kernel)
            for case in cases(kernel):
                for override in info["overrides"]:
                    self.assertIn(case["overrides"][override["name"]], override["values"], f"{kernel} {override['name']}")
            for override in info["overrides"]:
                self.assertLessEqual({override["default"], *override["tested"]}, set(override["values"]), kernel)
                if not override["sizing"]:
                    self.assertEqual(override["values"], override["tested"], kernel)

    def test_a_wrong_result_is_reported_with_its_element(self):
        case = cases("rmsnorm")[0]
        at = case["bindings"]["y"]["after"][0] + 4 * 3 + 2  # the upper half of element 3
        self.change("kernels/cases/rmsnorm.bin", lambda data: data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
        self.open()
        results = self.run_cases("rmsnorm")["results"]
        failed = [r for r in results if r["status"] == "failed"]
        self.assertIn(case["overrides"], [r["overrides"] for r in failed])
        self.assertLess(len(failed), len(results))
        self.assertRegex(failed[0]["message"], r"^y: 1 wrong\nelement 3: got .*, want ")
        self.assertGreater(failed[0]["worst"], 1)
        self.assertIn("element 3", self.page.inner_text("#cases"))

    def test_a_write_beyond_the_shape_is_reported(self):
        def shorten(text):
            data = [case for case in json.loads(text) if math.prod(case["bindings"]["y"]["shape"]) > 1]
            for case in data:  # rows of the kernel are as many as before
                case["bindings"]["y"]["shape"] = [1]
                case["bindings"]["y"]["after"] = case["bindings"]["y"]["before"]
            return json.dumps(data)

        self.change("kernels/cases/rmsnorm.json", shorten)
        self.open()
        results = self.run_cases("rmsnorm portable")["results"]  # and those of fused_matmul_rmsnorm
        self.assertEqual({r["status"] for r in results if r["kernel"] == "rmsnorm"}, {"failed"})

    def test_a_compile_error_shows_the_compilers_message(self):
        self.change("kernels/wgsl/portable/scale.wgsl", lambda text: text.replace(b"fn main(", b"fn main(missing: Nothing, "))
        self.open()
        results = self.run_cases("scale portable")["results"]
        self.assertEqual({r["status"] for r in results}, {"failed"})
        self.assertRegex(results[0]["message"], r"scale does not compile for portable: line \d+: unresolved type 'Nothing'")

    def test_the_source_is_shown_specialised(self):
        self.open()
        self.page.click("tr:has-text('rmsnorm'):has-text('CACHE_INPUT=true') >> text=WGSL")
        self.page.wait_for_selector("dialog[open]")
        source = self.page.inner_text("dialog pre")
        self.assertIn("const CACHE_INPUT: bool = true;", source)
        self.assertNotRegex(source, r"(?m)^override ")

    def test_a_lost_device_is_told(self):
        self.page.add_init_script("""
            const request = GPUAdapter.prototype.requestDevice;
            GPUAdapter.prototype.requestDevice = async function (...a) { return (window.taken = await request.apply(this, a)); };
        """)
        self.open()
        self.page.evaluate("window.taken.destroy()")
        self.page.wait_for_function("document.getElementById('error').textContent.includes('lost')")
        self.assertIn("passed", {r["status"] for r in self.run_cases("rmsnorm portable")["results"]})  # on a new one

    def test_the_readmes_example_runs_as_it_stands(self):
        readme = (DIST / "kernels/README.md").read_text()
        example = re.search(r"```js\n(.*?)```", readme, re.S)[1]
        example = re.sub(r'import (\{.*?\}) from (".*?");', r"const \1 = await import(\2);", example)
        y = self.evaluate(example + "return [...y];")
        self.assertEqual(len(y), 8)
        for row in ([1, 2, 3, 4], [5, 6, 7, 8]):
            scale = (sum(v * v for v in row) / 4 + 1e-6) ** -0.5
            for v in row:
                self.assertAlmostEqual(y.pop(0), v * scale, places=5)

    def test_pipelines_refuse_what_they_do_not_know(self):
        messages = self.evaluate("""
            const { loadKernels } = await import("mainspring-kernels");
            const device = await (await navigator.gpu.requestAdapter()).requestDevice();
            const kernels = await loadKernels(device);
            const norm = await kernels.pipeline("rmsnorm");
            const message = async (make) => { try { await make(); return "accepted"; } catch (e) { return e.message; } };
            return [
              await message(() => kernels.pipeline("none")),
              await message(() => kernels.pipeline("rmsnorm", { NONE: 1 })),
              await message(() => kernels.pipeline("rmsnorm", { SMALL_SIZE: true, CACHE_INPUT: true })),
              await message(() => kernels.pipeline("rmsnorm", { WORKGROUP_SIZE: 96 })),
              await message(() => kernels.pipeline("rmsnorm", { WORKGROUP_SIZE: 128 })),
              await message(() => kernels.pipeline("rmsnorm", { SMALL_SIZE: 1 })),
              await message(() => kernels.pipeline("matmul_gemv", { WEIGHT_TYPE: 16 })),
              await message(() => kernels.pipeline("matmul_gemv", { USE_SUBGROUPS: true })),
              await message(() => norm.pack({ rows: 1 })),
              await message(() => norm.pack({ rows: 1, cols: 1, eps: 0, has_residual: 0, output_prenorm: 0, none: 0 })),
              await message(() => norm.bind({ rows: 1, cols: 1, eps: 0, has_residual: 0, output_prenorm: 0 }, { z: null })),
            ];""")
        for message, part in zip(messages, ["no kernel", "no override NONE", "nothing to cache",
                                            "WORKGROUP_SIZE is 96; it may be 64, 128, 256", "accepted", "SMALL_SIZE is 1; it may be false, true",
                                            "WEIGHT_TYPE is 16", "without the feature", "cols is missing", "no parameter none", "no binding z"], strict=True):
            self.assertIn(part, message)


unittest.main(argv=sys.argv[:1], verbosity=2)
