"""A real S3-protocol server over HTTP on this machine (moto's, in a process of its own), and corpora uploaded to it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BUCKET = "corpora"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The environment in which boto3 and streaming find the server; it has one empty bucket."""
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environment = {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        _wait_for(server, port)
        _client(environment).create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        server.kill()
        server.wait()


def upload(environment: Mapping[str, str], folder: Path, prefix: str) -> str:
    """Upload every file below `folder`; returns the address of what was uploaded."""
    client = _client(environment)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")
    return f"s3://{BUCKET}/{prefix}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert server.poll() is None, f"the S3 server ended with {server.returncode}"
            assert time.monotonic() < end, "the S3 server did not begin to listen"
            time.sleep(0.05)


def _client(environment: Mapping[str, str]):  # boto3's clients have no static type
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
