"""YAML text -> a tree of nodes with spans, under caps that hold before anything is expanded."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import yaml

from kdspec.diagnostics import Code, Diagnostic, DiagnosticError, Label, Span, excerpt
