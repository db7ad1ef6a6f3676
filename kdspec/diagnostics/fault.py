"""A mistake that a component finds when it is built, told relative to the component's place in the spec."""

from __future__ import annotations


class Fault(Exception):  # noqa: N818 - the user's mistake, not an error of the program
    """Raised in `build` for what only the data or the weights can show; the engine adds the place in the spec.

    Args:
        code: a diagnostic code, such as `KD502`.
        message: lower case, without a full stop, names in backticks.
        at: keys of the component's parameters that lead to the value at fault; empty for the component itself.
        help: what to do.
        notes: context.
        key: the mistake is the last key of `at`, and not its value.
        fix: the word at fault and the one to put in its place, for `kdspec validate --fix`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        at: tuple[str | int, ...] = (),
        *,
        help: str | None = None,  # noqa: A002 - the word of the diagnostics
        notes: tuple[str, ...] = (),
        key: bool = False,
        fix: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.at, self.help, self.notes = code, message, at, help, notes
        self.key, self.fix = key, fix


class Within(Exception):  # noqa: N818 - where another error comes from, not one of its own
    """Says of an error which part of a component raised it, for code that runs parts of which each can go wrong.

    Raised `from` the error.

    Args:
        what: the part, for example "the loss `mmd`".
        at: keys of the component's parameters that lead to the part.
        notes: context, such as the shapes that the part was given.
    """

    def __init__(self, what: str, at: tuple[str | int, ...], notes: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what, self.at, self.notes = what, at, notes
