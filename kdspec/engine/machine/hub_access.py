"""Whether the hub can be reached: one HEAD request with a short limit, or none where the environment asks for no network."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_USUAL = "https://huggingface.co"
_SECONDS = 2.0
_TRUE = frozenset({"1", "true", "yes", "on"})


def state(environ: Mapping[str, str] = os.environ) -> str:
    """`reachable`, `offline: ...` or `not reachable: ...`. Takes at most about two seconds."""
    asked = next((name for name in OFFLINE if environ.get(name, "").lower() in _TRUE), None)
    if asked is not None:
        return f"offline: {asked} is set"
    address = environ.get("HF_ENDPOINT") or _USUAL
    answers: list[str] = []
    # In a thread, for nothing limits how long the system looks for the name of a host.
    thread = threading.Thread(target=lambda: answers.append(_ask(address)), daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return answers[0] if answers else f"not reachable: {address} has not answered in {_SECONDS:g} seconds"


def _ask(address: str) -> str:
    where = urlsplit(address)
    make = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    try:
        connection = make(where.netloc, timeout=_SECONDS)
        try:
            connection.request("HEAD", where.path or "/")
            connection.getresponse()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"not reachable: {address}: {error}"
    return "reachable"
