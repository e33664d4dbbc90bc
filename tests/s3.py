"""A real S3-protocol server over HTTP on this machine (moto's), and corpora uploaded to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BUCKET = "corpora"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """The environment in which boto3 and streaming find the server; it has one empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        _client(environment).create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        server.stop()


def upload(environment: Mapping[str, str], folder: Path, prefix: str) -> str:
    """Upload every file below `folder`; returns the address of what was uploaded."""
    client = _client(environment)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder).as_posix()}")
    return f"s3://{BUCKET}/{prefix}"


def _client(environment: Mapping[str, str]):  # boto3's clients have no static type
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["S3_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
