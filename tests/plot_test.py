"""plot_test.py PLOT: tools/plot draws what bench -o json prints, and says what is wrong with a file."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

plot = sys.argv[1]
folder = Path(tempfile.mkdtemp())


def run(*arguments):
    return subprocess.run([plot, *map(str, arguments)], capture_output=True, text=True)


def write(name, tests):
    path = folder / name
    path.write_text(json.dumps([{"model_type": "m", "gpu_info": "a <GPU>", "n_gen": 0, "n_prompt": 0, "n_depth": 0,
                                 "n_parallel": 1, **test} for test in tests]))
    return path


def texts(ran):
    assert ran.returncode == 0, ran.stderr
    return [e.text for e in ElementTree.fromstring(ran.stdout).iter() if e.text and e.text.strip()]


both = write("both.json", [{"n_gen": 8, "n_depth": d, "avg_ts": 400 - d / 100} for d in (0, 512, 4096)] +
             [{"n_prompt": n, "avg_ts": 10.0 * n} for n in (16, 512)] +
             [{"n_gen": 8, "n_parallel": n, "n_depth": 512, "avg_ts": 100.0 * n} for n in (2, 4)])
for kind, places in [("decode", ["0", "512", "4,096"]), ("prompt", ["16", "512"]), ("parallel", ["2", "4"])]:
    shown = texts(run(kind, both))
    assert all(place in shown for place in places) and "both" in shown, (kind, shown)
    assert "a <GPU>" in shown[0], shown
one = write("one.json", [{"n_gen": 8, "avg_ts": 400}])
assert {"both", "one"} <= set(texts(run("decode", both, one)))

step = write("step.json", [{"n_gen": 8, "dispatches": [
    {"kernel": "rmsnorm", "weights": "", "count": 3, "us": 6.0, "bytes": 10, "gb_per_s": 1.0},
    {"kernel": "matmul", "weights": "attn_q", "count": 2, "us": 60.0, "bytes": 2e6, "gb_per_s": 33.0}]}])
shown = texts(run("step", step))
assert "rmsnorm x 3" in shown and "matmul attn_q x 2" in shown and "60 us, 33 GB/s" in shown, shown

(folder / "none.json").write_text("{")
for arguments, complaint in [(("decode", folder / "missing"), "No such file"), (("decode", folder / "none.json"), "no JSON"),
                             (("prompt", one), "has no test for prompt"), (("step", one), "has no dispatches"),
                             (("step", step, step), "one file"), (("circle", one), "tools/plot decode")]:
    ran = run(*arguments)
    assert ran.returncode == 1 and complaint in ran.stderr and not ran.stdout, (arguments, ran)
