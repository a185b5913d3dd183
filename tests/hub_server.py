"""hub_server: a server that answers as a hub of models does, well and badly; for tests."""
import hashlib
import http.server
import json
import re
import sys
import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "a-token-of-the-test"


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repository:
    """Files, and what goes wrong when they are fetched."""

    def __init__(self, files, large=(".gguf", ".safetensors"), **faults):
        self.files, self.large = dict(files), large
        self.page = 1000
        self.status = {}  # of a path, or "list": a list of statuses that come before the right answer
        self.headers = {}  # of such answers
        self.cuts = []  # bytes after which connections to the other host break, in turn
        self.damage = None  # what becomes of the bytes of a file
        self.ranges = True
        self.etag = None  # instead of the checksum's
        self.shift = 0  # of the range that is sent
        self.pause = 0  # seconds before each of 20 pieces
        self.stall = False
        self.to = "storage"  # where a large file's request is sent on
        self.private = False  # asks for the token
        self.listing = None  # instead of the right one
        for name, value in faults.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def entries(self):
        for path, data in self.files.items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
            if path.endswith(self.large):
                entry["oid"] = git_oid(b"a pointer")
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            yield entry


class Server(http.server.ThreadingHTTPServer):
    """A hub, or where its large files lie. Keeps the requests that came: (path, headers)."""

    daemon_threads = True

    def __init__(self, hub=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.requests, self.repositories = hub, [], {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        url = urlsplit(self.path)
        if self.server.hub:
            _, user, name, file = unquote(url.path).split("/", 3)
            return self.send_file(self.server.hub.repositories[f"{user}/{name}"], file)
        match = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)/(tree|resolve)/main/?(.*)", url.path)
        repository = match and self.server.repositories.get(match[1])
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not repository or (repository.private and not authorized):
            return self.answer(401, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")
        path = "list" if match[2] == "tree" else unquote(match[3])
        if repository.status.get(path):
            status = repository.status[path].pop(0)
            return self.answer(status, b'{"error": "on purpose"}', **repository.headers)
        if path == "list":
            return self.send_list(repository, match[1], url)
        if path not in repository.files:
            return self.answer(404, b"Entry not found", X_Error_Code="EntryNotFound")
        if not path.endswith(repository.large):
            return self.send_file(repository, path)
        to = {"storage": f"{self.server.storage.url}/{match[1]}/{match[3]}?signature=x", "itself": self.path}.get(repository.to, repository.to)
        digest = repository.etag or hashlib.sha256(repository.files[path]).hexdigest()
        self.answer(302, b"Found. Redirecting", Location=to, X_Linked_Etag=f'"{digest}"', X_Repo_Commit="0" * 40)

    def send_list(self, repository, name, url):
        if repository.listing is not None:
            return self.answer(200, repository.listing)
        entries = list(repository.entries())
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        end, headers = start + repository.page, {}
        if end < len(entries):
            headers["Link"] = f'<{self.server.url}/api/models/{name}/tree/main?recursive=true&cursor={end}>; rel="next"'
        self.answer(200, json.dumps(entries[start:end]).encode(), **headers)

    def send_file(self, repository, path):
        data = repository.files[path]
        size = len(data)
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and repository.ranges else 0
        if start >= size and start > 0:
            return self.answer(416, Content_Range=f"bytes */{size}")
        if repository.damage:
            data = repository.damage(data)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + repository.shift}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = size
        if repository.cuts and path.endswith(repository.large):
            end = min(size, start + repository.cuts.pop(0))
        step = (end - start) // 20 if repository.pause else max(1, end - start)
        for at in range(start, end, step):
            time.sleep(repository.pause)
            self.wfile.write(data[at : min(at + step, end)])
        if end < size:
            self.wfile.flush()
            if repository.stall:
                time.sleep(60)
            self.connection.shutdown(2)
