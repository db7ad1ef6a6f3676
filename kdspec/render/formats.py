"""The output formats of diagnostics."""

from typing import Literal

Format = Literal["full", "concise", "json", "github"]
