"""An S3 server on loopback in a process of its own: `python server.py FOLDER`; ends when its input ends.

Uploads every file of the folder into one bucket, then prints the endpoint.
"""

import logging
import os
import sys
from pathlib import Path

BUCKET = "corpora"
ENVIRONMENT = {  # of whoever speaks to it
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def main(folder: Path) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    os.environ.update(ENVIRONMENT)
    s3 = boto3.client("s3", endpoint_url=endpoint)
    s3.create_bucket(Bucket=BUCKET)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                s3.put_object(Bucket=BUCKET, Key=str(path.relative_to(folder)), Body=file)
    print(endpoint, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
