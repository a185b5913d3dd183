"""chat_test: mainspring chat on a terminal and in a pipe.

usage: chat_test PROGRAM MODEL MODEL_WITHOUT_TEMPLATE [TEST…]
"""
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

PROGRAM, MODEL, WITHOUT_TEMPLATE = sys.argv[1:4]
GREEDY = ["--temp", "0", "-n", "12"]
PROMPT = r">>> \Z"
LIMIT = 600  # seconds, beyond which it hangs


def environment():
    kept = {k: v for k, v in os.environ.items() if not re.match(r"MAINSPRING_(?!DEVICE)|EDITRC", k)}
    return {**kept, "TERM": "xterm", "HOME": "/nonexistent", "LC_ALL": "C", "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))}


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, "chat", "-m", MODEL, *arguments], environment())
        self.all = ""
        self.greeting = self.until(PROMPT)

    def until(self, pattern):
        """What comes until that, as a terminal without colours or motions would show it."""
        text, end = b"", time.monotonic() + LIMIT
        while True:
            shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x08 \x08", "", text.decode(errors="replace")).replace("\r", "")
            if re.search(pattern, shown):
                self.all += shown
                return shown
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern!r} in {shown!r}")
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                piece = b""  # so Linux says that the other end is closed
            if not piece:
                raise AssertionError(f"no {pattern!r} to the end: {shown!r}")
            text += piece

    def type(self, text):
        os.write(self.fd, text.encode())

    def send(self, line, pattern=PROMPT):
        """What is shown between a line and the next prompt."""
        self.type(line + "\n")
        return self.until(pattern).removesuffix(">>> ")

    def code(self):
        """The exit code."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    time.sleep(0.01)
        raise AssertionError("it does not end")

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Chat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def terminal(self, *arguments):
        terminal = Terminal(*arguments)
        self.addCleanup(terminal.close)
        return terminal

    def saved(self, terminal, name="now.json"):
        """The conversation, as /save writes it."""
        # A prompt of before may be drawn anew, or a Ctrl-C have come behind an answer.
        terminal.send(f"/save {self.folder / name}", r"Saved (?s:.*?)" + PROMPT)
        return json.loads((self.folder / name).read_text())

    def messages(self, terminal):
        return [(m["role"], m["content"]) for m in self.saved(terminal)["messages"]]

    def pipe(self, text, *arguments, code=0):
        done = subprocess.run([PROGRAM, "chat", *arguments], input=text, capture_output=True, text=True, errors="replace", timeout=LIMIT, env=environment())
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr

    def test_a_conversation_on_a_terminal(self):
        terminal = self.terminal(*GREEDY)
        self.assertRegex(terminal.greeting, r"a context of 1024 tokens. /help lists the commands")
        shown = terminal.send("Tell me of a fox.")
        (_, question), (_, answer) = self.messages(terminal)
        self.assertEqual(question, "Tell me of a fox.")
        self.assertTrue(answer.strip())
        self.assertIn(answer.strip().splitlines()[0], shown)
        # It goes on from what was evaluated, and forgets nothing.
        terminal.send("And then?")
        self.assertEqual(len(self.messages(terminal)), 4)
        stats = terminal.send("/stats")
        evaluated, cached = map(int, re.search(r"prompt: +(\d+) tokens.*, (\d+) cached", stats).groups())
        self.assertGreater(cached, 12)
        self.assertLess(evaluated, 12)
        self.assertRegex(stats, r"all: +2 answers, \d+ tokens")
        # The same question after /clear has the same answer.
        self.assertEqual(terminal.send("/clear").splitlines(), ["/clear", "Forgot 4 messages."])
        self.assertEqual(self.messages(terminal), [])
        terminal.send("Tell me of a fox.")
        self.assertEqual(self.messages(terminal), [("user", question), ("assistant", answer)])
        terminal.send("/retry")
        self.assertEqual(self.messages(terminal), [("user", question), ("assistant", answer)])
        terminal.type("/bye\n")
        self.assertEqual(terminal.code(), 0)

    def test_commands_say_what_they_do_and_what_is_wrong(self):
        terminal = self.terminal(*GREEDY)
        help = terminal.send("/help")
        for command in "/help", "/system TEXT", "/set PARAM VALUE", "/show", "/save FILE", "/load FILE", "/retry", "/clear", "/stats", "/bye":
            self.assertIn(command + " ", help)
            self.assertIn(command.split()[0], terminal.send("/nothing"))
        self.assertEqual(terminal.send("/?").splitlines()[1:], help.splitlines()[1:])
        self.assertIn("there is no command /nothing", terminal.send("/nothing else"))
        self.assertIn("no message to answer again", terminal.send("/retry"))
        self.assertIn("no answer yet", terminal.send("/stats"))
        for command in "/help", "/show", "/retry", "/clear", "/stats", "/bye":
            self.assertIn(f"{command} takes nothing behind it", terminal.send(f"{command} x"))
        self.assertIn("which file?", terminal.send("/save"))
        self.assertIn("which file?", terminal.send("/load"))
        self.assertIn("want /set PARAM VALUE", terminal.send("/set temp"))
        for line, message in {
            "/set nothing 1": 'no parameter "nothing"; there are temp, top-k',
            "/set temp hot": 'temp is "hot", want a number',
            "/set temp -1": "temperature is -1",
            "/set top-k 1.5": "top-k is 1.5, want a whole number",
            "/set top-k -1": "top-k is -1, want one of the range",
            "/set top-k 4294967296": "want one of the range",
            "/set top_p 0": "top-p is 0",
            "/set seed -2": "seed is -2",
            "/set predict -2": "predict is -2",
            "/set stop [1]": "stop is [1], want texts",
        }.items():
            self.assertIn(message, terminal.send(line))
        for line, message in {
            "/set top_k 7": "top-k is 7.",
            "/set parameter temperature 0.25": "temp is 0.25.",
            "/set stop fox": 'stop is ["fox"].',
            "/set seed 5": "seed is 5.",
            "/set num_predict 3": "predict is 3.",
            "/system Be brief.": "The system message is set.",
            "/clear": "Forgot 0 messages; the system message stays.",
        }.items():
            self.assertEqual(terminal.send(line).splitlines(), [line, message])
        shown = terminal.send("/show")
        for row in r"context +1024 tokens, \d+ of them used", r"temp +0.25\n", r"top-k +7\n", r'stop +\["fox"\]', r"predict +3\n", r"system +Be brief.", r"top-p +0.95\n":
            self.assertRegex(shown, row)
        self.assertEqual(self.messages(terminal), [("system", "Be brief.")])
        self.assertIn("Saved 1 message to ", terminal.send(f"/save {self.folder}/one.json"))
        terminal.send("/clear")
        self.assertEqual(self.messages(terminal), [("system", "Be brief.")])
        self.assertIn("There is no system message.", terminal.send("/system"))
        self.assertEqual(self.messages(terminal), [])
        self.assertIn("Saved 2 messages", terminal.send("hello") and terminal.send(f"/save {self.folder}/b.json"))
        self.assertLessEqual(json.loads((self.folder / "b.json").read_text())["parameters"].items() & {("predict", 3), ("seed", 5)}, {("predict", 3), ("seed", 5)})

    def test_ctrl_c_ends_the_answer_and_not_the_program(self):
        terminal = self.terminal("--temp", "0", "--ignore-eos")
        terminal.type("Tell me a long tale.\n")
        words = r"(?:\w+\W ?){9}"  # no line of progress has as many
        terminal.until(r"tale\.\n(?s:.*?)" + words)
        terminal.type("\x03")
        terminal.until(PROMPT)
        (_, _), (role, answer) = self.messages(terminal)
        self.assertEqual(role, "assistant")
        self.assertGreater(len(answer), 20)
        self.assertLess(len(answer), 3000)
        # What comes next is as if the answer had ended there.
        terminal.send("/set predict 8")
        terminal.send("And then?")
        interrupted = self.saved(terminal)
        first = {**interrupted, "messages": interrupted["messages"][:2]}
        (self.folder / "first.json").write_text(json.dumps(first))
        other = self.terminal("--ignore-eos")
        other.send(f"/load {self.folder}/first.json")
        other.send("And then?")
        self.assertEqual(self.messages(other), [(m["role"], m["content"]) for m in interrupted["messages"]])
        # A line that is begun is dropped; at an empty one it says how to leave; so does a second.
        terminal.type("half a li")
        terminal.until("half a li")
        terminal.type("\x03")
        self.assertNotIn("leaves", terminal.until(PROMPT))
        for _ in range(2):
            terminal.type("\x03")
            terminal.until(r"Ctrl-D or /bye leaves\.(?s:.*?)" + PROMPT)  # the line may be drawn anew before
        self.assertEqual(len(self.messages(terminal)), 4)
        # Two at once while it answers.
        terminal.type("/set predict -1\nGo on.\n")
        terminal.until(r"Go on\.\n(?s:.*?)" + words)
        terminal.type("\x03\x03")
        terminal.until(PROMPT)
        self.assertEqual(len(self.messages(terminal)), 6)
        terminal.type("\x04")
        self.assertEqual(terminal.code(), 0)
        other.type("/exit\n")
        self.assertEqual(other.code(), 0)

    def test_lines_are_edited_and_messages_may_have_many(self):
        terminal = self.terminal(*GREEDY)
        terminal.send("Grüße, \u65e5\u672cx\x7f!")  # and a backspace
        for number in signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH:
            os.kill(terminal.pid, number)
        terminal.type("\x10")  # the line before
        terminal.until(r"\u65e5\u672c!\Z")  # the prompt alone may be drawn anew
        terminal.send("")
        terminal.send("  /bye is a message here")
        terminal.send("a\tb")
        terminal.type('"""one\n')
        terminal.until(r"\.\.\. \Z")
        terminal.type("\t/two\t2\n")
        terminal.until(r"\.\.\. \Z")
        terminal.send('three"""')
        terminal.send('"""/bye"""')
        terminal.type('"""\n')
        terminal.until(r"\.\.\. \Z")
        terminal.type("\x03")
        terminal.until(PROMPT)
        terminal.send("")
        users = [content for role, content in self.messages(terminal) if role == "user"]
        self.assertEqual(users, ["Grüße, \u65e5\u672c!"] * 2 + ["  /bye is a message here", "a\tb", "one\n\t/two\t2\nthree", "/bye"])

    def test_a_saved_conversation_goes_on_after_a_restart(self):
        terminal = self.terminal("--temp", "0", "--ignore-eos", "-n", "24", "--system", "You tell tales.")
        terminal.send("Once there was a fox who")
        terminal.send("Then a bear")
        saved = self.saved(terminal, "fox.json")
        self.assertEqual(saved["messages"][0], {"role": "system", "content": "You tell tales."})
        terminal.send("In the end")
        expected = self.messages(terminal)
        other = self.terminal("--ignore-eos", "-s", "3")
        self.assertIn("Loaded 5 messages", other.send(f"/load {self.folder}/fox.json"))
        self.assertEqual(self.saved(other), saved)
        other.send("In the end")
        self.assertEqual(self.messages(other), expected)

    def test_a_file_that_is_no_conversation_changes_nothing(self):
        terminal = self.terminal(*GREEDY)
        terminal.send("Hello")
        before = self.saved(terminal)
        good = {"messages": [], "parameters": {"temp": 1}}
        user, assistant, system = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))
        wrong = {
            "": "is no JSON object",
            "[]": "is no JSON object",
            '{"messages": []': "is no JSON object",
            '{"messages": []}': "is no JSON object",
            json.dumps({**good, "messages": 1}): "is no array",
            json.dumps({**good, "messages": [1]}): "message 1 has no",
            json.dumps({**good, "messages": [user, {"role": "assistant"}]}): "message 2 has no",
            json.dumps({**good, "messages": [user]}): "the last message has no answer",
            json.dumps({**good, "messages": [assistant, user]}): 'message 1 is of "assistant"',
            json.dumps({**good, "messages": [user, assistant, system]}): 'message 3 is of "system"',
            json.dumps({**good, "messages": [{**user, "role": "tool"}]}): 'message 1 is of "tool"',
            json.dumps({**good, "parameters": {"temp": 0.5, "heat": 1}}): 'no parameter "heat"',
            json.dumps({**good, "parameters": {"top-k": 3, "temp": "hot"}}): "want a number",
            json.dumps({**good, "parameters": {"temp": -1}}): "temperature is -1",
            "[" * 100_000: "is no JSON object",
            '{"messages": [], "parameters": {"temp": %s}}' % ("[" * 200_000 + "]" * 200_000): "want a number",
            '{"messages": %s, "parameters": {}}' % ("[" * 200_000 + "]" * 200_000): "message 1 has no",
        }
        file = self.folder / "wrong.json"
        for text, message in wrong.items():
            file.write_text(text)
            self.assertRegex(terminal.send(f"/load {file}").replace("\n", ""), re.escape(message))
            self.assertIn("is left as it is", terminal.send(f"/save {file}").replace("\n", ""))
            self.assertEqual(file.read_text(), text)
        self.assertIn("none.json: No such file", terminal.send(f"/load {self.folder}/none.json"))
        self.assertIn("is a directory", terminal.send(f"/load {self.folder}"))
        self.assertIn("cannot write", terminal.send(f"/save {self.folder}/none/such.json"))
        self.assertEqual(self.saved(terminal), before)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["now.json", "wrong.json"])

    def test_a_file_that_cannot_be_written_leaves_the_conversation(self):
        loop = self.folder / "loop.json"
        loop.symlink_to(loop.name)
        good = self.folder / "good.json"
        lines = [f"/save {self.folder}/{'x' * 300}", f"/save {loop}", f"/load {loop}", f"/save {good}"]
        error = self.pipe("\n".join(["Hello", *lines]), "-m", MODEL, *GREEDY, code=1)[1].splitlines()
        self.assertEqual([line.split(": ")[-1] for line in error], ["File name too long"] + ["Too many levels of symbolic links"] * 2)
        self.assertIn("cannot write", error[1])
        self.assertEqual(len(json.loads(good.read_text())["messages"]), 2)
        good.unlink()
        # What is no UTF-8 is no text of JSON.
        for arguments in ["--system", b"caf\xe9"], ["--stop", b"\xff"]:
            out, error = self.pipe(f"/show\n/save {good}\n/system\n/set stop x\n/save {good}\n", "-m", MODEL, *arguments, code=1)
            self.assertEqual(error, f"mainspring: cannot write {good}: a message or a parameter is not UTF-8\n")
            self.assertIn("Saved 0 messages", out)
            good.unlink()
            self.assertEqual(list(self.folder.iterdir()), [loop])

    def test_save_writes_one_file_and_what_a_link_names(self):
        names = {"one.json": "one.json", "link.json": "more/two.json", "other.json": "link.json"}
        (self.folder / "more").mkdir()
        for link in "link.json", "other.json":
            (self.folder / link).symlink_to(names[link])
        for turn, name in enumerate(["one.json", *names, "link.json"]):
            self.assertIn("Saved", self.pipe(f"/system {turn}\n/save {self.folder / name}\n", "-m", MODEL)[0])
            self.assertEqual(json.loads((self.folder / name).read_text())["messages"][0]["content"], str(turn))
        self.assertEqual([os.readlink(self.folder / link) for link in ("link.json", "other.json")], ["more/two.json", "link.json"])
        self.assertEqual(len(list(self.folder.rglob("*"))), 5)

    def test_save_takes_any_name_that_a_file_may_have(self):
        (self.folder / "mainspring.part1").write_text("mine")
        file = self.folder / ("x" * 255)
        self.assertIn("Saved", self.pipe(f"/save {file}\n", "-m", MODEL)[0])
        self.assertEqual(sorted(self.folder.iterdir()), [self.folder / "mainspring.part1", file])
        self.assertEqual((self.folder / "mainspring.part1").read_text(), "mine")

    def test_save_keeps_a_files_permissions(self):
        file = self.folder / "mine.json"
        for _ in range(2):
            self.assertIn("Saved", self.pipe(f"/save {file}\n", "-m", MODEL)[0])
            file.chmod(0o600)
        self.pipe(f"/save {file}\n", "-m", MODEL)
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_of_a_long_conversation_what_fits_is_found_at_once(self):
        turn = [{"role": "user", "content": "Tell me a tale of a fox."}, {"role": "assistant", "content": "There was a fox. " * 20}]
        file = self.folder / "long.json"
        file.write_text(json.dumps({"messages": turn * 500, "parameters": {}}))
        out, error = self.pipe(f"/load {file}\nAnd then?\n/save {file}\n", "-m", MODEL, "-c", "256", "--temp", "0", "-n", "4")
        self.assertRegex(error, r"the oldest \d+ turns were dropped")
        messages = json.loads(file.read_text())["messages"]
        self.assertIn(len(messages) // 2, range(2, 20))
        self.assertEqual(messages[:-2], (turn * 20)[: len(messages) - 2])

    def test_a_full_context_drops_the_oldest_turns(self):
        lines = [f"This is message number {n} of a long conversation." for n in range(30)]
        file = self.folder / "long.json"
        arguments = ["-m", MODEL, "-c", "256", "--temp", "0", "--ignore-eos", "-n", "20", "--system", "You tell tales.", "--verbose"]
        out, error = self.pipe("\n".join([*lines, f"/save {file}"]) + "\n", *arguments)
        self.assertRegex(error, r"the context of 256 tokens is full: the oldest \d+ turns were dropped")
        messages = json.loads(file.read_text())["messages"]
        self.assertEqual(messages[0], {"role": "system", "content": "You tell tales."})
        self.assertLess(len(messages), 30)
        self.assertEqual([m["content"] for m in messages if m["role"] == "user"], lines[30 - len(messages) // 2 :])
        self.assertEqual(error.count("generation: 20 tokens"), 30)
        # Between two droppings each turn evaluates its own message alone.
        evaluated = [int(n) for n in re.findall(r"prompt: +(\d+) tokens", error)]
        self.assertLess(sorted(evaluated)[len(evaluated) // 2], 40)
        self.assertLess(error.count("dropped"), 10)
        # One that does not fit at all is taken back, and costs nothing; an answer that fills the context ends there.
        long = "word " * 400
        out, error = self.pipe(f"{long}\nTell me.\n{long}\n/save {file}\n", "-m", MODEL, "-c", "128", "--temp", "0", "--ignore-eos", code=1)
        self.assertRegex(error, r"the message has \d+ tokens, the context holds 128")
        self.assertEqual(error.count("the context holds 128"), 2)
        self.assertNotIn("dropped", error)
        self.assertIn("is full, so the answer ends here", error)
        (question, answer) = json.loads(file.read_text())["messages"]
        self.assertEqual((question["content"], answer["role"]), ("Tell me.", "assistant"))

    def test_retry_asks_again_what_got_no_answer(self):
        file = self.folder / "now.json"
        def questions(*lines):
            error = self.pipe("\n".join([*lines, f"/save {file}"]) + "\n", "-m", MODEL, "-c", "128", "--temp", "0", "-n", "4", code=1)[1]
            return error.count("the context holds 128"), [m["content"] for m in json.loads(file.read_text())["messages"][::2]]
        long = "word " * 400
        self.assertEqual(questions("One.", long, "/retry"), (2, ["One."]))
        self.assertEqual(questions("One.", f"/system {long}", "Two.", "/system", "/retry", "/retry"), (1, ["One.", "Two."]))
        self.assertEqual(questions("One.", long, "Two.", "/retry"), (1, ["One.", "Two."]))
        self.assertEqual(questions(long, "/clear", "/retry"), (1, []))

    def test_ctrl_c_before_an_answer_begins_changes_nothing(self):
        terminal = self.terminal(*GREEDY)
        before = [("user", "The fox ran. " * 150), ("assistant", "Yes.")]  # which takes a while to evaluate
        messages = [{"role": role, "content": content} for role, content in before]
        (self.folder / "long.json").write_text(json.dumps({"messages": messages, "parameters": {}}))
        terminal.send(f"/load {self.folder}/long.json")
        terminal.type("/retry\n")
        terminal.until(r"/retry\n")
        terminal.type("\x03")
        shown = terminal.until(PROMPT)
        after = self.messages(terminal)
        if "no answer came" in shown:
            self.assertEqual(after, before)
        else:  # a fast device: there is a new one
            self.assertEqual((len(after), after[0]), (2, before[0]))
            self.assertTrue(after[1][1])

    def test_ctrl_c_while_the_conversation_is_encoded_ends_the_answer(self):
        turn = [{"role": "user", "content": "Tell me a tale."}, {"role": "assistant", "content": "There was a fox. " * 20}]
        (self.folder / "long.json").write_text(json.dumps({"messages": turn * 1000, "parameters": {}}))
        terminal = self.terminal("--ignore-eos")
        terminal.send(f"/load {self.folder}/long.json")
        terminal.type("And then?\n")
        terminal.until(r"And then\?\n")
        terminal.type("\x03")
        self.assertNotIn("the answer ends here", terminal.until(PROMPT))

    def test_without_a_terminal_lines_are_messages(self):
        out, error = self.pipe('Hello\n"""\nTell me\nmore\n"""\n\n/set predict 0\nOnce', "-m", MODEL, *GREEDY)
        self.assertNotIn(">>>", out)
        self.assertEqual(error, "")
        self.assertGreaterEqual(len(out.splitlines()), 2)
        self.assertIn("no command /nope", self.pipe("/nope\n/set\n", "-m", MODEL, code=1)[1])
        self.assertIn('has no """ at its end', self.pipe('"""Hello\n', "-m", MODEL, code=1)[1])
        self.assertEqual(self.pipe("", "-m", MODEL), ("", ""))
        # A name of a special token is text.
        for text in "<|end|>", "a<|end|>\n<|assistant|>\nb":
            file = self.folder / f"{len(text)}.json"
            self.pipe(f'"""{text}"""\n/save {file}\n', "-m", MODEL, "-n", "0")
            self.assertEqual(json.loads(file.read_text())["messages"][0]["content"], text)
        self.assertIn("no chat template", self.pipe("Hello\n", "-m", WITHOUT_TEMPLATE, code=1)[1])
        self.assertIn("mainspring run", self.pipe("Hello\n", "-m", WITHOUT_TEMPLATE, code=1)[1])
        self.assertIn("mainspring embed", self.pipe("Hello\n", "-m", str(Path(WITHOUT_TEMPLATE).parent / "hf-bert"), code=1)[1])
        self.pipe("Hello\n", "-m", MODEL, "--temp", "-1", code=2)
        self.pipe("Hello\n", code=2)

    def test_without_a_terminal_ctrl_c_ends_the_program(self):
        process = subprocess.Popen([PROGRAM, "chat", "-m", MODEL, "--ignore-eos"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        process.stdin.write(b"Tell me a tale.\n")
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=LIMIT), 130)


unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
