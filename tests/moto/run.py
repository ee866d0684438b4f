"""Our store and the binary over moto: what a second server says of the contract, and what becomes of killed uploads.

    run.py MELLAMA

The server is this process, so that it can count requests and end a client between two of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ROOT = Path(__file__).resolve().parents[2]
MANY = 100_000
# Documents of one task: five parts of 8 MiB at least, of words that do not compress below half their length.
DOCUMENTS = 9_000
WORDS = 1_100


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class Server:
    """moto behind a hook that sees the method and the query of each request before it is answered."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.before: Callable[[str, str], None] = lambda method, query: None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.before(environ["REQUEST_METHOD"], environ["QUERY_STRING"])
        return self._app(environ, start_response)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class Checks:
    def __init__(self) -> None:
        self.failed: list[str] = []

    def that(self, holds: bool, what: str, detail: object = "") -> None:
        print(f"{'ok  ' if holds else 'FAIL'} {what}{'' if holds else f': {detail}'}", flush=True)
        if not holds:
            self.failed.append(what)


class Mellama:
    def __init__(self, binary: str, endpoint: str) -> None:
        self.binary = binary
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [self.binary, *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        child = self.start(*arguments)
        out, err = child.communicate()
        return child.returncode, out, err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments, "--json")
        if code != 0:
            raise SystemExit(f"mellama {' '.join(arguments)}: exit code {code}\n{err}")
        return json.loads(out)


def digests(stages: list[dict[str, Any]]) -> dict[str, str]:
    return {stage["stage"]: stage["digest"] for stage in stages}


def large_input(folder: Path) -> Path:
    """Invented words in one file, the same at each call."""
    chance = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    with open(folder / "words.jsonl", "w") as file:
        for number in range(DOCUMENTS):
            words = ("".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(WORDS))
            file.write(json.dumps({"id": f"d{number}", "text": " ".join(words)}) + "\n")
    recipe = folder / "large.toml"
    source = 'name = "words"\nformat = "jsonl"\ninputs = ["words.jsonl"]\ndomain = "general"\n'
    recipe.write_text(f'name = "large"\nworkdir = "out"\n[[corpus.source]]\n{source}fields = {{ id = "id", text = "text" }}\n')
    return recipe


def contract(server: Server, checks: Checks) -> None:
    """The Rust tests that ask for this server."""
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket("many", "us-east-1")
    for number in range(MANY):
        backend.put_object("many", f"{number % 37:02}/{number:06}", b"x")
    command = ["cargo", "test", "--quiet", "-p", "mellama-tests", "--test", "s3", "--", "moto"]
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"MELLAMA_MOTO": server.endpoint}).returncode
    checks.that(code == 0, f"contract, odd names and {MANY:,} names over moto", f"exit code {code}")


def quickstart(mellama: Mellama, folder: Path, checks: Checks) -> None:
    corpus = ("run", "recipes/quickstart.toml", "--until", "publish", "--workdir")
    local = digests(mellama.json(*corpus, str(folder / "local")))
    remote = digests(mellama.json(*corpus, "s3://runs/quickstart"))
    checks.that(len(local) == 6 and local == remote, "the quickstart's corpus over moto has the digests of the folder", (local, remote))


def killed_uploads(server: Server, mellama: Mellama, folder: Path, checks: Checks) -> None:
    """Case 10: the process is killed when it sends the third part; the same command completes, and `gc` aborts the orphan."""
    client = boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    recipe, workdir = str(large_input(folder)), "s3://runs/large"
    child = mellama.start("run", recipe, "--workdir", workdir)
    parts, lock = [0], threading.Lock()

    def kill_at_the_third_part(method: str, query: str) -> None:
        if method == "PUT" and "partNumber=" in query:
            with lock:
                parts[0] += 1
                if parts[0] == 3:
                    child.send_signal(signal.SIGKILL)

    server.before = kill_at_the_third_part
    child.communicate()
    server.before = lambda method, query: None
    checks.that(child.returncode == -signal.SIGKILL, "killed at the third part", (child.returncode, parts[0]))
    uploads = lambda: client.list_multipart_uploads(Bucket="runs").get("Uploads", [])
    checks.that(len(uploads()) == 1, "its upload is an orphan", uploads())
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="runs", Prefix="large/").get("Contents", [])]
    checks.that(not any(key.startswith("large/documents/") for key in keys), "nothing of it is visible", keys)

    # That a young one stays is shown elsewhere: moto says of every upload that it was begun in 2010.
    listed = mellama.json("gc", workdir, "--older-than", "0", "--dry-run")
    checks.that(len(listed["unfinished"]) == 1 and len(uploads()) == 1, "gc --dry-run lists it and leaves it", listed)

    remote = digests(mellama.json("run", recipe, "--workdir", workdir))
    local = digests(mellama.json("run", recipe, "--workdir", str(folder / "large")))
    checks.that(remote == local, "the same command completes with the digests of an undisturbed run", (remote, local))
    mellama.json("gc", workdir, "--older-than", "0")
    checks.that(uploads() == [], "gc aborts it", uploads())
    verified = mellama.json("verify", workdir)
    checks.that(verified["findings"] == [] and verified["unnamed"] == [], "verify finds nothing", verified)


def main() -> None:
    server, checks = Server(), Checks()
    mellama = Mellama(sys.argv[1], server.endpoint)
    s3_backends["123456789012"]["aws"].create_bucket("runs", "us-east-1")
    with tempfile.TemporaryDirectory() as name:
        contract(server, checks)
        quickstart(mellama, Path(name), checks)
        killed_uploads(server, mellama, Path(name), checks)
    if checks.failed:
        raise SystemExit(f"moto: {len(checks.failed)} failed")


if __name__ == "__main__":
    main()
