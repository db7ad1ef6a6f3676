"""The table of diagnostic codes, by number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kdspec.diagnostics.codes.code import Code
from kdspec.diagnostics.codes.plan_codes import PLAN_CODES
from kdspec.diagnostics.codes.run_codes import RUN_CODES
from kdspec.diagnostics.codes.spec_codes import SPEC_CODES

CODES: Mapping[str, Code] = MappingProxyType({code.code: code for code in (*SPEC_CODES, *PLAN_CODES, *RUN_CODES)})
