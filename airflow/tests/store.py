"""Where the work folders of the test lie: a folder, or a bucket of a loopback server; and how two of them are compared.

It is not a store of mellama: it reads what is there, after the fact, and never writes into a work folder.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ports

BUCKET = "mellama-test"
TEMPORARY = ".mellama-tmp/"
# Records name the process and the time of their attempt, and are sealed over it; all else in them is of the plan.
RECORDS = ("plan.json", "commits/", "manifests/", "_SUCCESS")
OWN_TO_AN_ATTEMPT = ("attempt", "seal")


class Store(Protocol):
    def exists(self, key: str) -> bool: ...

    def objects(self) -> dict[str, bytes]: ...


@dataclass(frozen=True)
class Folder:
    root: Path

    def exists(self, key: str) -> bool:
        return (self.root / key).exists()

    def objects(self) -> dict[str, bytes]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        named = {path.relative_to(self.root).as_posix(): path for path in files}
        return {key: path.read_bytes() for key, path in named.items() if not key.startswith(TEMPORARY)}


@dataclass(frozen=True)
class Bucket:
    name: str
    prefix: str

    def exists(self, key: str) -> bool:
        listed = client().list_objects_v2(Bucket=self.name, Prefix=f"{self.prefix}/{key}", MaxKeys=1)
        return listed["KeyCount"] > 0

    def objects(self) -> dict[str, bytes]:
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{self.prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        bodies = {key: client().get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}
        named = {key.removeprefix(f"{self.prefix}/"): body for key, body in bodies.items()}
        return {key: body for key, body in named.items() if not key.startswith(TEMPORARY)}


def store_at(uri: str) -> Store:
    if uri.startswith("s3://"):
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return Bucket(bucket, prefix)
    return Folder(Path(uri))


_CLIENTS: list[Any] = []


def client() -> Any:
    """The client of this process; made when it is wanted, for it takes half a second."""
    if not _CLIENTS:
        import boto3

        _CLIENTS.append(boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"]))
    return _CLIENTS[0]


class Server:
    """An S3 server on the loopback interface with one bucket; children of the test find it by the environment."""

    def __init__(self, log: Path, secret: str) -> None:
        port = ports.free()
        os.environ.update(
            AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{port}",
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ACCESS_KEY_ID=secrets.token_hex(8),
            AWS_SECRET_ACCESS_KEY=secret,
        )
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT)
        ports.wait_for(port, self.process)
        client().create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def differences(one: Store, other: Store) -> list[str]:
    """Keys that only one has, and objects that differ; but for what tells how long training took."""
    first, second = [{key: body for key, body in store.objects().items() if not is_timed(key)} for store in (one, other)]
    missing = [f"{key}: only in one of them" for key in sorted(first.keys() ^ second.keys())]
    common = sorted(first.keys() & second.keys())
    return missing + [f"{key}: differs" for key in common if content(key, first[key]) != content(key, second[key])]


def is_timed(key: str) -> bool:
    return key.startswith("metrics/") and (".timed-" in key or "/tensorboard/" in key)


def content(key: str, body: bytes) -> Any:
    if not key.startswith(RECORDS):
        return body
    return {name: value for name, value in json.loads(body).items() if name not in OWN_TO_AN_ATTEMPT}


def published(store: Store) -> dict[str, str]:
    """Digest of what each stage published, from `_SUCCESS`."""
    return json.loads(store.objects()["_SUCCESS"])["published"]
