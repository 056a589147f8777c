"""AWS as moto plays it: a process of its own that boto3 talks to over HTTP."""

from __future__ import annotations

import subprocess
import sys

import requests

from tests.installations import free_port, wait_until

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}


class MotoServer:
    """`environment` is what makes boto3 go there."""

    def __init__(self) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._answers, seconds=60, what="moto's server")
        self.environment = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": self.address, **CREDENTIALS}

    def _answers(self) -> bool:
        assert self._process.poll() is None, "moto's server ended"
        try:
            return requests.get(f"{self.address}/moto-api/data.json", timeout=5).ok
        except requests.ConnectionError:
            return False

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
