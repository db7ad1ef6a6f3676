"""The parameters of a language model that answers prompts, and what they say of the classes of a task."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Literal

from kdspec.api.kinds.model import Model, ModelContext
from kdspec.api.spec.file_fields import SpecText, names_file
from kdspec.data import class_match
from kdspec.data.class_match import shown
from kdspec.data.prompted.prompt_tokenizer import FORM
from kdspec.data.prompted.question import MOST_LISTED, ClassQuestion, orders
from kdspec.data.prompted.template import OPTIONS, Template, TemplateError
from kdspec.diagnostics.diagnostic import closest, listed
from kdspec.diagnostics.fault import Fault

_BESIDE = "a brace that is no field is written twice: `{{`"


class PromptedModel(Model):
    """The base class of models that answer prompts."""

    prompt: SpecText
    """What it is asked: a text, or a file whose name ends with `.txt`. In braces are the columns of the task's texts, and
    `{options}`, the list of the options with a letter each. With this list its answer is a letter, without it the text of an
    option; it should stand behind the texts, where the orders of the options have more in common."""
    options: dict[str, str] = {}
    """For each class of the task the text of its option. Default: the names of the classes."""
    permute: bool | None = None
    """With `{options}`: whether the answers are averaged over the orders of the options, since models prefer some places.
    All orders of up to 4 options; of more, each option once at each place. False: in the order of `options`, or else of the
    classes. Default: true."""
    prior: Literal["none", "contextual"] = "none"
    """`contextual`: what it answers to texts without content, `N/A`, `[MASK]` and nothing, is taken off its answers, since
    models prefer some options whatever the text (Zhao et al. 2021, https://arxiv.org/abs/2102.09690)."""
    chat: bool | None = None
    """Whether the prompt is what a user says in the chat template of the tokenizer, and the answer begins what the assistant
    says. Default: if the tokenizer has a template."""

    def form(self, context: ModelContext) -> str:
        """As a prompt."""
        del context
        return FORM

    def prompt_file(self, context: ModelContext) -> Path | None:
        """The file with the prompt; None where the spec has it."""
        return context.folder / os.path.expanduser(self.prompt) if names_file(self.prompt) else None  # noqa: PTH111 - raises nothing

    def template(self, context: ModelContext) -> Template:
        """The prompt.

        Raises:
            Fault: KD003 for a file that is not a text, KD104 for a single brace.
        """
        file, written = self.prompt_file(context), str(self.prompt)
        if file is not None:
            try:
                written = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise Fault("KD003", f"`{self.prompt}` cannot be read as UTF-8 text", ("prompt",)) from error
        try:
            return Template.parse(written)
        except TemplateError as error:
            raise Fault("KD104", str(error), ("prompt",), help=_BESIDE) from error

    def wrong_question(self, context: ModelContext) -> Iterator[Fault]:
        """The faults of the prompt and its options, whatever the task."""
        try:
            template = self.template(context)
        except Fault as fault:
            yield fault
            return
        if not template.lists_options and not self.options:
            message = f"`prompt` has no `{{{OPTIONS}}}`, and no `options` say what the answers are"
            help_ = f"write `{{{OPTIONS}}}` where the list of the options stands, or the answers in `options`"
            yield Fault("KD104", message, ("prompt",), help=help_)
        if not template.columns:
            message = "`prompt` names no column of the rows, so that all of them would have the same answer"
            yield Fault("KD104", message, ("prompt",), help="write the column of the text in braces, such as `{text}`")
        if not template.lists_options and self.permute:
            message = f"`permute` has no effect: `prompt` has no `{{{OPTIONS}}}` that could be in another order"
            yield Fault("KD305", message, ("permute",), key=True)
        yield from self._wrong_texts(template)

    def _wrong_texts(self, template: Template) -> Iterator[Fault]:
        known: dict[str, str] = {}
        for name, text in self.options.items():
            written = text.strip()
            if not written:
                yield Fault("KD104", f"the option of {shown(name)} has no text", ("options", name))
            elif written in known:
                message = f"{shown(known[written])} and {shown(name)} have the same option {shown(written)}"
                yield Fault(
                    "KD104", message, ("options", name), help="write an option for each class by which it is known"
                )
            elif not template.lists_options:
                begun = next((each for each in known if each.startswith(written) or written.startswith(each)), None)
                if begun is not None:
                    short, long = sorted((begun, written), key=len)
                    message = (
                        f"the answer {shown(short)} begins the answer {shown(long)}, so the two cannot be distinguished"
                    )
                    yield Fault("KD104", message, ("options", name), help="write answers of which none begins another")
            known.setdefault(written, name)

    def unfit(self, template: Template, classes: Sequence[str], task: str) -> Iterator[Fault]:
        """The faults of the options for the classes of a task."""
        if template.lists_options and len(classes) > MOST_LISTED:
            message = f"task `{task}` has {len(classes)} classes, and a list of options has {MOST_LISTED} letters"
            help_ = f"leave `{{{OPTIONS}}}` out: the answers are then the texts of the options"
            yield Fault("KD104", message, ("prompt",), help=help_)
        if not self.options:
            return
        found = class_match.match(tuple(self.options), classes)
        notes = (f"`options`: {listed(tuple(self.options))}", f"task `{task}`: {listed(classes)}")
        lacking = list(found.lacking)
        for name in found.unknown:
            if guess := closest(name, lacking):
                lacking.remove(guess)
            yield Fault(
                "KD312", f"{shown(name)} is not a class of task `{task}`", ("options", name), key=True, notes=notes,
                help=f"did you mean `{guess}`?" if guess else None, fix=(name, guess) if guess else None,
            )  # fmt: skip
        if lacking:
            message = f"`options` has none for {listed(lacking)} of task `{task}`"
            yield Fault("KD102", message, ("options",), key=True, notes=notes, help="write an option for each class")

    def no_columns(self, template: Template, columns: Collection[str], task: str) -> Iterator[Fault]:
        """The faults of fields that are no columns of the task's texts."""
        for name in template.columns:
            if name not in columns:
                guess = closest(name, [*columns, OPTIONS])
                has = listed([*columns, OPTIONS])
                help_ = f"did you mean `{{{guess}}}`?" if guess else _BESIDE
                message = f"`{{{name}}}` in `prompt` is no column of the texts of task `{task}`"
                yield Fault("KD312", message, ("prompt",), notes=(f"fields here: {has}",), help=help_)

    def asked(self, context: ModelContext) -> str:
        """A checksum of all that the tokens of a prompt depend on besides the row and the tokenizer."""
        classes = () if context.head is None else context.head.labels
        parts = [
            astuple(self.template(context)),
            list(self.options.items()),
            self.permute is not False,
            self.chat,
            classes,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def question(self, context: ModelContext, *, chat: bool) -> ClassQuestion:
        """What is asked, for the classes of the context's head.

        Raises:
            Fault: if the options are not those of the classes; see `unfit`.
        """
        classes = () if context.head is None else context.head.labels
        template = self.template(context)
        for fault in self.unfit(template, classes, next(iter(context.heads), "")):
            raise fault
        given = class_match.match(tuple(self.options), classes)
        own = {name: number for name, number in zip(classes, given.order, strict=True) if number is not None}
        written = list(self.options.values())
        texts = tuple(written[own[name]] if name in own else name for name in classes)
        texts = tuple(text.strip() if template.lists_options else text for text in texts)
        in_order = sorted(classes, key=own.__getitem__) if own else classes
        listed_ = orders(classes, in_order, permute=self.permute is not False and template.lists_options)
        return ClassQuestion(template, tuple(classes), texts, listed_, chat)
