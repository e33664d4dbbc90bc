"""Imported for what it leaves behind: a client of boto3 imports half of itself, and reads megabytes, when it is made.

Here once, for all processes that are forked from here: else each kill would be followed by seconds of that.
"""

from functools import cache
from typing import Any

import boto3
import botocore.loaders
import streaming.base.storage.download  # noqa: F401

_load = botocore.loaders.JSONFileLoader().load_file


@cache
def _load_once(path: str) -> Any:
    return _load(path)


botocore.loaders.JSONFileLoader.load_file = lambda self, path: _load_once(path)
boto3.client("s3", region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nothing")
