"""Names, digests and canonical bytes. Pure functions; randomness and time come in as arguments where tests need
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any

JOB_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9])?\Z")


def new_job_name(now_s: float | None = None, random: bytes | None = None) -> str:
    """A job name that sorts by time of creation and that nobody else has: `b20261123-101530-k3x9q2`."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() if now_s is None else now_s))
    noise = os.urandom(6) if random is None else random
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return f"b{stamp}-" + "".join(letters[byte % len(letters)] for byte in noise)


def is_job_name(text: str) -> bool:
    """Whether *text* may name a job: one path component, inert for shells and for sbatch."""
    return bool(JOB_NAME.match(text)) and ".." not in text


def canonical(document: Any) -> bytes:
    """The one JSON spelling of *document* that digests are taken of."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of *data*."""
    return hashlib.sha256(data).hexdigest()
