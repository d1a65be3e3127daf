"""Real servers for data that is somewhere else: S3 by moto, the web by http.server."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ACCESS_KEY, SECRET_KEY = "AKIDMOTOTEST", "do-not-tell-this-secret"


@dataclass(frozen=True)
class S3:
    """A running S3 server, and its credentials in a file as `aws configure` writes it."""

    endpoint: str
    home: Path

    @property
    def client(self) -> Any:
        """boto3's client."""
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """What a user of it has in the shell: no secret."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_PROFILE": "moto", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "credentials"),
            "AWS_CONFIG_FILE": str(self.home / "config"),
        }  # fmt: skip

    def bucket(self, name: str, objects: Mapping[str, bytes] = {}) -> str:
        """Make a bucket that holds *objects*; its name."""
        self.client.create_bucket(Bucket=name)
        for key, data in objects.items():
            self.client.put_object(Bucket=name, Key=key, Body=data)
        return name

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of one object."""
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def keys(self, bucket: str) -> list[str]:
        """The keys of all objects."""
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One server for the whole run."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    home = tmp_path_factory.mktemp("aws")
    (home / "credentials").write_text(
        f"[moto]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    (home / "config").write_text("[profile moto]\nregion = us-east-1\n")
    host, port = server.get_host_and_port()
    yield S3(f"http://{host}:{port}", home)
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, with the shell of a user who has a profile for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class Web:
    """A running web server of the files below `folder`."""

    address: str
    folder: Path


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A server that lists its folders, as http.server does."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Web(f"http://127.0.0.1:{server.server_address[1]}", folder)
    server.shutdown()
    server.server_close()
    thread.join()
