"""The built-in tasks without kdspec: how their texts are tokenised, and the lines of NumPy that make answers of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from kdspec.api.working.standalone import Standalone
from kdspec.data import texts
from kdspec.data.word_tokens import UNSPACED, needs_spaces

Compares = Literal["cos", "dot", "maxsim"]

_CLASSES = (
    'for row, logits in zip(rows, outputs["logits"]):',
    "    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    '    print(config["labels"][shares.argmax()], f"{shares.max():.4f}", row)',
)
_LABELS = (
    'for row, logits in zip(rows, outputs["logits"]):',
    '    print([name for name, logit in zip(config["labels"], logits) if logit > config["limit"]], row)',
)
_NUMBERS = (
    'for row, numbers in zip(rows, outputs["logits"]):',
    '    print(dict(zip(config["labels"], map(float, numbers))), row)',
)
_TAGS = (
    "tags = {}  # of the first token of each word",
    'for (row, start, _), read, logits in zip(parts, encoded, outputs["logits"]):',
    "    for place, word in reversed([*enumerate(read.word_ids)]):",
    "        if word is not None:",
    '            tags[row, start + word] = config["labels"][logits[place].argmax()]',
    "for row, words in enumerate(rows):",
    "    print([(word, tags.get((row, number))) for number, word in enumerate(words)])",
    "    if untagged := [word for number, word in enumerate(words) if (row, number) not in tags]:",
    '        print(f"sentence {row + 1}: no tag for {untagged}", file=sys.stderr)',
)
_SPANS = (
    "best = {}  # the best answer of all windows of a text",
    'for row, read, start, end in zip(of, encoded, outputs["start_logits"], outputs["end_logits"]):',
    "    inside = np.array([side == 1 for side in read.sequence_ids])",
    '    allowed = np.triu(np.tril(np.outer(inside, inside), config["max_answer_length"] - 1))',
    "    scores = np.where(allowed, start[:, None] + end, -np.inf)",
    "    first, last = np.unravel_index(scores.argmax(), scores.shape)",
    "    answer = rows[row][1][read.offsets[first][0] : read.offsets[last][1]]",
    "    best[row] = max(best.get(row, (-np.inf, answer)), (float(scores.max()), answer))",
    "for row, (score, answer) in best.items():",
    '    print(answer, f"{score:.4f}", rows[row][0])',
)
_NO_ANSWER = (
    "nothing = {}  # the score of no answer, which wins if it is larger by more than the threshold",
    'for row, read, start, end in zip(of, encoded, outputs["start_logits"], outputs["end_logits"]):',
    '    place = read.ids.index(config["no_answer"]) if config["no_answer"] in read.ids else 0',
    "    nothing[row] = min(nothing.get(row, np.inf), float(start[place] + end[place]))",
    'best = {n: (nothing[n], "") if nothing[n] - b[0] > config["threshold"] else b for n, b in best.items()}',
)
_TOKENS = (
    'for read, logits in zip(encoded, outputs["logits"]):',
    '    for place in np.flatnonzero(np.array(read.tokens) == config["mask"]):',
    "        print([tokenizer.id_to_token(int(token)) for token in logits[place].argsort()[::-1][:5]])",
)
_VECTORS = (
    'vectors = outputs["embedding"] / np.linalg.norm(outputs["embedding"], axis=1, keepdims=True)',
    "for row, cosines in zip(rows, vectors @ vectors.T):",
    "    print(cosines.round(4).tolist(), row)",
)
_SCORES = (
    'for row, score in zip(rows, outputs["answers"]):',
    '    print(f"{score:.4f}", row)',
)
_COMPARED = (
    'vectors = outputs["answers"]  # the first text is the query',
    "{vectors}",
    "for row, score in zip(rows[1:], {scores}):",
    '    print(f"{{score:.4f}}", row)',
)
_LENGTH_1 = "vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)"
_TOKEN_PAIRS = (
    "products = np.einsum('id,njd->nij', vectors[0][np.array(encoded[0].attention_mask) == 1], vectors[1:])",
    "tokens = np.array([read.attention_mask for read in encoded[1:]])[:, None] == 1",
)


def of_texts(
    what: Literal["classes", "labels", "numbers"], tokenizer: Any, columns: int, max_length: int | None, **about: Any
) -> Standalone:
    """A task on whole texts: a class, labels or numbers for each.

    Args:
        what: the logits.
        tokenizer: of the model.
        columns: 1 for texts, 2 for pairs.
        max_length: the limit of the task.
        about: what the lines read beside `labels`.
    """
    return Standalone(
        reads="pair" if columns == 2 else "text",
        max_length=texts.limit(tokenizer, max_length, pair=columns == 2),
        answers={"classes": _CLASSES, "labels": _LABELS, "numbers": _NUMBERS}[what],
        about=about,
    )


def of_tags(tokenizer: Any, max_length: int | None, *, splits: bool) -> Standalone:
    """A tag for each word, that of its first token; the script names the words that have none.

    Args:
        tokenizer: of the model.
        max_length: the limit of the task.
        splits: whether a long sentence is split between words; otherwise it is truncated.
    """
    return Standalone(
        reads="words", max_length=texts.limit(tokenizer, max_length), splits=splits, answers=_TAGS,
        prompts=("", " ") if needs_spaces(tokenizer) else (), bare=UNSPACED.pattern,
    )  # fmt: skip


def of_spans(tokenizer: Any, limit: int | None, stride: int, longest: int, threshold: float | None) -> Standalone:
    """The answer to a question in a text, which is read in windows.

    Args:
        tokenizer: of the model.
        limit: tokens of a window.
        stride: tokens that two windows share.
        longest: tokens of the longest answer.
        threshold: by how much the score of no answer has to be larger; None: every question has an answer.
    """
    about: dict[str, Any] = {"max_answer_length": longest}
    lines: tuple[str, ...] = _SPANS
    if threshold is not None:
        about |= {"threshold": threshold, "no_answer": tokenizer.cls_token_id}
        lines = (*_SPANS[:-2], *_NO_ANSWER, *_SPANS[-2:])
    return Standalone(reads="pair", max_length=limit, stride=stride, answers=lines, about=about)


def of_masks(tokenizer: Any, max_length: int | None) -> Standalone:
    """The tokens in the place of masks."""
    return Standalone(
        reads="text", max_length=texts.limit(tokenizer, max_length), answers=_TOKENS,
        example=('f"some {config[\'mask\']} text"',), about={"mask": tokenizer.mask_token},
    )  # fmt: skip


def of_vectors(tokenizer: Any, max_length: int | None, prompt: str, **about: Any) -> Standalone:
    """A vector for each text, and the cosines between them."""
    return Standalone(
        reads="text", max_length=texts.limit(tokenizer, max_length), answers=_VECTORS,
        prompts=(prompt, prompt) if prompt else (), about=about,
    )  # fmt: skip


def of_pairs(tokenizer: Any, max_length: int | None) -> Standalone:
    """A score for each pair of a query and a document, which are read together."""
    return Standalone(reads="pair", max_length=texts.limit(tokenizer, max_length, pair=True), answers=_SCORES)


def of_compared(
    tokenizer: Any, limits: Sequence[int | None], compares: Compares, prompts: tuple[str, str]
) -> Standalone:
    """The scores of documents for a query, each text read alone.

    Args:
        tokenizer: of the model.
        limits: of the tokens of a query and of a document.
        compares: how two texts are compared.
        prompts: what is written before a query, and before a document.
    """
    query, document = (texts.limit(tokenizer, limit) for limit in limits)
    lengths = {"cos": _LENGTH_1, "dot": "", "maxsim": "\n".join(_TOKEN_PAIRS)}[compares]
    scores = "vectors[1:] @ vectors[0]"
    if compares == "maxsim":
        scores = "np.where(tokens, products, -np.inf).max(2).sum(1)"
    lines = "\n".join(_COMPARED).format(vectors=lengths, scores=scores).splitlines()
    return Standalone(
        reads="text", max_length=document, answers=tuple(line for line in lines if line),
        prompts=prompts if any(prompts) else (), about={"similarity": compares, "max_length_of_a_query": query},
    )  # fmt: skip
