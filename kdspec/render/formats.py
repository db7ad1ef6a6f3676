"""The ways in which diagnostics can be printed."""

from typing import Literal

Format = Literal["full", "concise", "json", "github"]
