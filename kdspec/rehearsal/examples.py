"""A batch that is made up for a rehearsal: its inputs as a task tells them, for each form in which models read rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdspec.api.kinds.context import ExampleContext, Input
from kdspec.api.plan.plan import Plan, StagePlan
from kdspec.api.working.batch import Batch
from kdspec.api.working.task import ANSWERS, Head, Reader
from kdspec.data.answers.recorded import answered_task
from kdspec.data.prompted.prompt_tokenizer import FORM, PromptTokenizer, prompt_example
from kdspec.engine.forward.error_context import error_context

Examples = Mapping[str, Mapping[str, Input]]
"""The tensors of a batch for models of each form (`Reader.form`)."""


def form_of(plan: Plan, model: str) -> str:
    """How a model reads the texts of a row."""
    return plan.spec.models[model].form(plan.context(model))


def examples(
    plan: Plan,
    stage: StagePlan,
    rows: int,
    longest: int | None,
    heads: Mapping[str, Head],
    reader: Callable[[str], Reader],
) -> Examples | None:
    """A batch of rows of the maximum length for each form of the models of a stage with one task; None if it is not known.

    Args:
        plan: the plan.
        stage: the stage.
        rows: number of rows.
        longest: the largest number of tokens; None for no other limit than that of the task.
        heads: the head of each task.
        reader: gives the reader of a model.

    Raises:
        FindingError: as the task does.
    """
    (name,) = stage.tasks
    task, found = plan.spec.tasks[name], dict[str, Mapping[str, Input]]()
    with error_context(("tasks", name, task.name), f"task `{name}`"):
        for model in stage.models:
            if (form := form_of(plan, model)) in found:
                continue
            context = ExampleContext(folder=plan.source.folder, seed=plan.spec.seed, form=form)
            example = task.example(context, rows, longest)
            if example is None:
                return None
            if form == FORM and (tokens := tokens_of(example)):
                with error_context(("models", model), f"the prompt of model `{model}`"):
                    prompts = reader(model).tokenizer
                    assert isinstance(prompts, PromptTokenizer), "it reads prompts"
                    example = {**example, **prompt_example(example, prompts.row_tokens(tokens))}
            if form.startswith(ANSWERS) and task.answered is not None:
                classes = len(heads[name].labels) if name in heads else 0
                example = answered_task.example(example, classes, by_word=task.answered == "word")
            found[form] = example
    return found


def tokens_of(inputs: Mapping[str, Input]) -> int | None:
    """The length of the rows, or of the longest field of them; None if they have no tokens."""
    tokens = (given.shape for name, given in inputs.items() if name.rpartition(".")[2] == "input_ids")
    return max((shape[1] for shape in tokens if len(shape) == 2), default=None)


def made_up(inputs: Mapping[str, Input]) -> Batch:
    """A batch of these inputs and labels; each tensor is constant."""
    made = {name: _tensor(given) for name, given in inputs.items()}
    targets = {name: tensor for name, tensor in made.items() if inputs[name].target}
    fields: dict[str, dict[str, Tensor]] = {"": {}}
    for name, tensor in made.items():
        field, _, key = name.rpartition(".")
        if name not in targets:
            fields.setdefault(field, {})[key] = tensor
    return Batch(inputs=fields, targets=targets, rows=range(_rows(inputs)))


def _rows(inputs: Mapping[str, Input]) -> int:
    """The number of rows: what a row has several of, such as pairs of texts, is a longer axis."""
    return min((given.shape[0] for given in inputs.values() if given.shape), default=0)


def _tensor(given: Input) -> Tensor:
    return torch.full(given.shape, given.value, dtype=getattr(torch, given.dtype))
