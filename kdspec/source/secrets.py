"""Secrets: detecting them, since a spec must have none, and masking them in quoted text."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"""
    \bhf_[A-Za-z0-9]{30,} | \bgh[pousr]_[A-Za-z0-9]{36,} | \bgithub_pat_\w{22,} | \bglpat-[\w-]{20,}
    | \bsk-[\w-]{32,} | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b | \bxox[abeprs]-[\w-]{10,}
    | \beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}
    | -----BEGIN\ [A-Z\ ]{0,30}PRIVATE\ KEY-----
    | (?<=://)[^\s/:@]{1,100}:[^\s/@]{3,100}(?=@)
    """,
    re.VERBOSE,
)
"""Access tokens of hubs and clouds, private keys, and passwords in URLs."""

_NAME = re.compile(
    r"""
    (?:^|_)(?:
        password | passwd | passphrase | secret | credentials? | (?:api|access|private|secret)_?key
        | (?:hf|hub|hugging_?face(?:_hub)?|gh|github|gitlab|api|access|auth|bearer|session)_token
    )$
    """,
    re.VERBOSE | re.IGNORECASE,
)

_SHOWN = 3


def has_secret(text: str) -> bool:
    """Whether the text contains an access token, a private key or a password."""
    return _SECRET.search(text) is not None


def is_secret(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _NAME.search(variable) is not None


def covered(text: str) -> str:
    """The text with its secrets replaced by asterisks; its length is unchanged."""
    return _SECRET.sub(lambda match: match[0][:_SHOWN] + "*" * (len(match[0]) - _SHOWN), text)
