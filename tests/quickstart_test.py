"""quickstart_test: docs/quickstart.md, each command of it typed on a terminal, and what it prints compared.

usage: quickstart_test PROGRAM MODEL DOCUMENT      MODEL is a small GGUF file, which a hub of the test's own has under the document's name

In blocks of `console`, a line that begins with "$ " is typed into one shell, lines with ">>> " into a conversation; the others are what is
shown. There "…" stands for anything within a line, alone on a line for any lines, and one blank for several; a command must succeed. A block of `python` is written to
ask.py.
"""
import os
import pty
import re
import select
import socket
import sys
import tempfile
import time
from pathlib import Path

from hub_server import Repository, Server

PROGRAM, MODEL, DOCUMENT = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
NAME, FILE = "ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf"
PROMPT = r"\[ready, \d+\] "


class Shell:
    """A shell on a terminal of its own."""

    def __init__(self, folder, environment):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        self.shown = ""
        self.type(r"stty -echo cols 200; PS2=; PS1='[ready, $?] '")
        self.until(PROMPT)

    def type(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def until(self, pattern, seconds=600):
        """What is shown before a match that ends it, and the match; as a terminal without colours or motions would show it."""
        end = time.monotonic() + seconds
        raw = b""
        while True:
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", raw.decode(errors="replace")).replace("\r\n", "\n")
            text = re.sub(r"[^\n]*\r", "", text)  # a line of progress that the next one takes the place of
            found = re.search(f"(?:{pattern})\\Z", self.shown + text)
            if found:
                shown, self.shown = (self.shown + text)[: found.start()], ""
                return shown, found[0]
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise SystemExit(f"no {pattern!r} in {text!r}")
            try:
                raw += os.read(self.fd, 65536)
            except OSError:
                raise SystemExit(f"the shell ended: {text!r}")

    def close(self):
        os.close(self.fd)  # hangs up: what runs in it ends
        os.waitpid(self.pid, 0)


def pattern_of(lines):
    if lines == ["…"]:
        return r"(?:[^\n]*\n)+"
    text = ""
    for line in lines:
        if line.strip() == "…":
            text += r"(?:[^\n]*\n)*?"
        else:
            words = re.escape(line).replace("…", ".*")
            text += re.sub(r"(\\ )+", "[ \\\\t]+", words) + "\n"
    return text


def steps_of(block):
    """(what is typed, the lines that follow) in turn."""
    steps = []
    for line in block.splitlines():
        if steps and steps[-1][0].endswith("\\"):
            steps[-1] = (steps[-1][0] + "\n" + line, [])
        elif line.startswith(("$ ", ">>> ")):
            steps.append((line, []))
        else:
            steps[-1][1].append(line)
    return steps


def run_block(shell, block):
    for typed, lines in steps_of(block):
        prompt, command = typed.split(" ", 1)
        shell.type(command)
        talks = command != "/bye" if prompt == ">>>" else " chat " in command
        shown, end = shell.until(">>> " if talks else PROMPT)
        shown = re.sub(r"^\[\d+\]\+ .*\n", "", shown, flags=re.M)  # the shell's word that a job has ended
        if prompt == ">>>":
            lines = [command, *lines]  # the conversation's own editor shows what is typed
        if command.endswith("&"):  # the shell's own line, and then the program's as they come
            shell.until(pattern_of(lines[1:]))
            lines = lines[:1]
        if shown and not shown.endswith("\n"):
            shown += "\n"
        if not talks and end != "[ready, 0] ":
            raise SystemExit(f"{DOCUMENT.name}: {command}\nfails: {end}\n{shown}")
        if not re.fullmatch(pattern_of(lines), shown):
            raise SystemExit(f"{DOCUMENT.name}: {command}\nshows\n{shown}\nand not\n" + "\n".join(lines))
        print("ok:", command.splitlines()[0], flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def environment_in(home, hub, port):
    cache = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    pipelines = cache / "mainspring/pipelines"  # what was compiled already is not compiled again
    pipelines.mkdir(parents=True, exist_ok=True)
    (home / ".cache/mainspring").mkdir(parents=True)
    (home / ".cache/mainspring/pipelines").symlink_to(pipelines)
    (home / "bin").mkdir()
    (home / "bin/mainspring").symlink_to(PROGRAM)
    kept = {k: v for k, v in os.environ.items() if not re.match(r"MAINSPRING_(?!DEVICE)|HF_|XDG_|.*_proxy$", k, re.I)}
    path = os.pathsep.join([str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    # Another port than the document's may be the one that is free; and answers are short.
    ours = {"MAINSPRING_PORT": str(port), "MAINSPRING_PREDICT": "12", "HF_ENDPOINT": hub, "MESA_SHADER_CACHE_DIR": str(cache)}
    return {**kept, **ours, "HOME": str(home), "PATH": path, "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


def main():
    hub = Server()
    hub.storage = Server(hub)
    hub.repositories[NAME] = Repository({"README.md": b"A model.", FILE: MODEL.read_bytes()})
    port = free_port()
    document = DOCUMENT.read_text().replace("8080", str(port))
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(folder, environment_in(Path(folder), hub.url, port))
        try:
            for kind, block in re.findall(r"^```(console|python)\n(.*?)^```$", document, re.S | re.M):
                if kind == "python":
                    (Path(folder) / "ask.py").write_text(block)
                else:
                    run_block(shell, block)
        finally:
            shell.close()


main()
