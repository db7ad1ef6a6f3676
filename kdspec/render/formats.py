"""The output formats of diagnostics, and how much of the progress is printed."""

from typing import Literal

Format = Literal["full", "concise", "json", "github"]

Detail = Literal["quiet", "normal", "verbose"]
"""How much of the progress of a command is printed."""
