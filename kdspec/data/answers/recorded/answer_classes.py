"""Which class of the task each name in recorded answers is: by a mapping in the spec, or by the rule for all names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kdspec.data.answers.recorded.cells import AnswerCell
from kdspec.data.class_match import folded, mapping_line, match, renamed, shown, uncased
from kdspec.diagnostics.diagnostic import closest, listed
from kdspec.diagnostics.fault import Fault

CODE = "KD403"


@dataclass(frozen=True, kw_only=True)
class ClassNames:
    """The classes of a task, by their names in recorded answers. Several of theirs may be one of ours."""

    ours: tuple[str, ...]
    """In the order of the logits."""
    of: Mapping[str, int]
    """The place of the class that each of their names is; names of no class are left out."""
    labels: Mapping[str, str]
    """The mapping in the spec."""
    task: str
    known: bool = True
    """Whether the classes are those of the task; else they are the names in the answers, of which each may lack some."""

    def place(self, name: str) -> int:
        """The place of the class that one of their names is, or one of ours in a list without names."""
        return self.of[name] if name in self.of else self.ours.index(name)

    def merged(self, names: Collection[str]) -> tuple[str, str] | None:
        """Two of these names for one class of the task; None if there are none."""
        first: dict[int, str] = {}
        for name in names:
            if name in self.of and (other := first.setdefault(self.of[name], name)) != name:
                return other, name
        return None

    def unknown(self, name: str, cell: AnswerCell, theirs: Collection[str]) -> Fault:
        """The error of an answer with a name that is no class."""
        near = closest(name, [each for each in self.ours if each not in theirs]) or closest(name, self.ours)
        wanted = near if near is not None else next((each for each in self.ours if each not in theirs), self.ours[0])
        question = f"did you mean {shown(near)}? " if near is not None else ""
        written = mapping_line("labels", {**self.labels, name: wanted})
        message = f"has the class {shown(name)} in {cell.shown}, which is not among those of task `{self.task}`"
        notes = (f"recorded: {listed(sorted(theirs))}", f"task `{self.task}`: {listed(self.ours)}")
        return cell.fault(message, f"{question}write `{written}` in the model", code=CODE, notes=notes)

    def lacking(self, given: Collection[int]) -> list[str]:
        """The classes of the task that are not among those given."""
        return [name for place, name in enumerate(self.ours) if place not in given]


def class_names(ours: Sequence[str], theirs: Collection[str], labels: Mapping[str, str], task: str) -> ClassNames:
    """Find the class of each name: that of `labels`, else the one with the same name but for case, blanks, `_` and `-`.

    Args:
        ours: the classes of the task in the order of the logits; empty if they are not known, so that they are theirs.
        theirs: the names in the recorded answers.
        labels: the name in the task for some of theirs.
        task: the name of the task.

    Raises:
        Fault: KD403 for a name in `labels` that is not one of the task.
    """
    known = bool(ours)
    if not known:
        ours = list(dict.fromkeys(labels.get(name, name) for name in (*labels, *theirs)))
    of: dict[str, int] = {}
    for name, target in labels.items():
        place = _place(target, ours)
        if place is None:
            near = closest(target, ours)
            help_ = f"did you mean {shown(near)}?" if near is not None else f"write one of {listed(ours)}"
            message = f"`labels` has {shown(target)} for {shown(name)}, which is not a class of task `{task}`"
            raise Fault(CODE, message, ("labels", name), help=help_, notes=(f"task `{task}`: {listed(ours)}",))
        of[name] = place
    every = list(theirs)
    given = zip(every, renamed(every, labels), strict=True)
    of |= {name: place for name, target in given if target != name and (place := _place(target, ours)) is not None}
    rest = [name for name in every if name not in of]
    found = match(rest, ours)
    of |= {rest[number]: place for place, number in enumerate(found.order) if number is not None}
    # Two spellings of one class, as of two annotators, are both this class.
    of |= {name: place for name in rest if name not in of and (place := _place(name, ours)) is not None}
    return ClassNames(ours=tuple(ours), of=of, labels=labels, task=task, known=known)


def _place(name: str, ours: Sequence[str]) -> int | None:
    """The class of this name alone."""
    for key in (str, uncased, folded):
        same = [place for place, each in enumerate(ours) if key(each) == key(name)]
        if len(same) == 1:
            return same[0]
    return None
