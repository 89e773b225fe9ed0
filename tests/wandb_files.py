"""Reading back what Weights & Biases wrote, and a stand-in for its server: both without a line of the code under test.

The stand-in knows as much of the server's language as one run needs, and listens on this machine only.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def read_history(path: Path) -> list[dict[str, float]]:
    """Logged rows of an offline file."""
    histories = [record.history for record in read_offline(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in h.item} for h in histories]


def read_offline(path: Path) -> list[Any]:
    """Records of an offline file: protocol buffers in the record format of LevelDB's log, behind seven bytes."""
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(data) for data in leveldb_records(path.read_bytes(), start=7)]


def leveldb_records(data: bytes, start: int) -> Iterator[bytes]:
    """Records are cut into pieces that do not cross blocks of 32 KiB; a piece is checksum, length, kind, content."""
    block, position, parts = 32768, start, []
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or last piece
            yield b"".join(parts)
            parts = []


class Server:
    """What a server of wandb would know: each run's rows in the order of their arrival, and how its parts ended."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, float]]] = {}
        self.ends: dict[str, list[int | str]] = {}
        self.url = ""

    @property
    def environment(self) -> dict[str, str]:
        """Makes wandb talk to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": 40 * "a", "WANDB_ERROR_REPORTING": "false"}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        """Take in what a run sends while it goes on."""
        self.rows.setdefault(run, [])
        history = (body.get("files") or {}).get("wandb-history.jsonl")
        if history is not None:
            self.rows[run][history["offset"] :] = [json.loads(line) for line in history["content"]]
        ends = self.ends.setdefault(run, [])
        ends.extend(["preempting"] if body.get("preempting") else [])
        ends.extend([body["exitcode"]] if body.get("complete") else [])

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL query."""
        entity = {"id": "e", "name": "team"}
        match operation:
            case "RunResumeStatus":
                return {"model": {"id": "m", "name": "p", "entity": entity, "bucket": self._resumed(asked["name"])}}
            case "UpsertBucket":
                self.rows.setdefault(asked["name"], [])
                project = {"id": "p", "name": asked["project"], "entity": entity}
                bucket = {"id": "b", "name": asked["name"], "displayName": "", "config": "{}", "project": project}
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in asked["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
            case "Viewer":
                viewer = {"id": "u", "entity": "team", "username": "team", "teams": {"edges": []}, "flags": "{}"}
                return {"viewer": viewer, "serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}}
            case _:
                return {}

    def _resumed(self, run: str) -> dict[str, Any] | None:
        if run not in self.rows:
            return None
        rows = self.rows[run]
        return {
            "name": run,
            "displayName": "",
            "config": "{}",
            "wandbConfig": '{"t": 1}',
            "tags": [],
            "summaryMetrics": "{}",
            "historyLineCount": len(rows),
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "logLineCount": 0,
        }


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs in a thread of this process."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({})

        def do_PUT(self) -> None:
            self.body()
            self.reply({})

        def do_POST(self) -> None:
            body = self.body()
            if self.path.startswith("/files/"):
                server.stream(self.path.split("/")[4], json.loads(body))
                self.reply({"limits": {}})
            elif self.path == "/graphql":
                asked = json.loads(body)
                named = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                self.reply({"data": server.answer(named[1] if named else "", asked.get("variables", {}))})
            else:
                self.reply({})

        def body(self) -> bytes:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

        def reply(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: tests are quiet."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Nothing: who is killed raise_if_stopped a request is what is tested."""

    http = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
