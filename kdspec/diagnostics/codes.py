"""The table of codes: each kind of mistake, its number, and what `kdspec explain` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Code:
    """A kind of mistake: its number is never used for another one."""

    code: str
    title: str
    text: str


_TABLE = (
    Code(
        "KD001",
        "not YAML",
        "The text breaks the grammar of YAML, so nothing after this place can be understood. The usual causes are a tab "
        "or a step of indentation that does not fit, a bracket or quote that is never closed, and an unquoted value "
        "that holds `: ` or begins with `*`, `&`, `%`, `@` or a backtick.",
    ),
    Code(
        "KD002",
        "duplicate key",
        "A mapping has the same key twice. YAML readers keep one of the values in silence; kdspec refuses, because it "
        "cannot know which of them is meant. Remove or rename one.",
    ),
    Code(
        "KD003",
        "unreadable file",
        "The file cannot be read: it is missing, is not a regular file, may not be read, or is not UTF-8 text.",
    ),
    Code(
        "KD004",
        "too large",
        "A spec may have 1 MiB of text, 64 levels of nesting, 20,000 keys and values (counted after aliases and merge "
        "keys are expanded), and integers of 64 bits. More than that is a mistake or an attack, and is refused before "
        "it costs time or memory.",
    ),
    Code(
        "KD005",
        "YAML feature not allowed",
        "A spec is plain data: one document of mappings, lists and scalars whose keys are texts or whole numbers. "
        "Tags other than the core ones (`!!str`, `!!int`, …), several documents, other keys, and aliases that contain "
        "themselves are refused.",
    ),
    Code(
        "KD006",
        "cannot extend",
        "`extends` names a file, or a list of files, relative to the file that has it. Each must exist, be a mapping, "
        "and not lead back to itself.",
    ),
    Code(
        "KD007",
        "environment variable not set",
        "`${NAME}` stands for an environment variable, which must be set; `${NAME:-default}` gives a value for when it "
        "is not set or empty. Write `$${` where the characters `${` are meant.",
    ),
    Code(
        "KD008",
        "bad --set",
        "`--set` takes `path=VALUE`: keys and list indices separated by dots, with quotes around a key that has a dot "
        "in it, then a value in YAML. The path has to fit what the spec already has.",
    ),
    Code(
        "KD009",
        "secret in a spec",
        "A text of the spec is an access token, a private key or a password, or a variable that holds one. A spec is shown, "
        "shared, and copied into the run folder, so that a secret in it would not stay one.",
    ),
    Code(
        "KD101",
        "unknown key",
        "The mapping has a key that means nothing in this place. No key is ignored, so that a misspelt setting cannot "
        "go unnoticed.",
    ),
    Code("KD102", "missing key", "The mapping lacks a key that has no default."),
    Code(
        "KD103",
        "wrong type",
        "The value is of another kind than the key takes. Texts are not turned into numbers, nor numbers into texts or "
        "booleans.",
    ),
    Code("KD104", "value out of range", "The value is of the right kind, but outside of what the key allows."),
    Code(
        "KD105",
        "not a component",
        "A component is written as its name (`loss: ce`), or as a mapping with one key, from its name to its "
        "parameters (`loss: {dkd: {alpha: 1}}`).",
    ),
    Code(
        "KD106",
        "bad field path",
        'A field path begins with `output`, `batch` or `modules["name"].input` or `.output`, and goes on with names, '
        "subscripts, slices, and at most one comparison: `output.hidden_states[1:]`, `batch.labels != -100`. Anything "
        "else of Python is refused.",
    ),
    Code(
        "KD107",
        "keys that exclude each other",
        "Of these keys only one may be written, since they decide the same thing.",
    ),
    Code(
        "KD201",
        "unknown component",
        "No plugin provides a component of this kind and name. `kdspec list` shows those that are there; the package "
        "that has this one may be missing, or may have failed to load (`kdspec plugins`).",
    ),
    Code(
        "KD202",
        "ambiguous component",
        "Several packages provide a component of this kind and name. Write `<distribution>/<name>` to choose one.",
    ),
    Code(
        "KD203",
        "plugin failed to load",
        "An installed plugin raised when it was loaded, was made for another version of kdspec, or hands over something "
        "that is not a component. Only specs that use it are affected.",
    ),
    Code(
        "KD204",
        "unknown reference",
        "The spec refers to a model, task, adaptor or stage by a name that it does not define, or to a metric that the "
        "task does not have.",
    ),
    Code(
        "KD301",
        "layer out of range",
        "The model has fewer layers than the number says. Hidden states are counted from 0, the output of the "
        "embeddings; attentions from 0, the first layer; negative numbers count from the end.",
    ),
    Code(
        "KD302",
        "widths differ",
        "The two features differ in width, and this loss compares them element by element. A projection from the "
        "student's to the teacher's width closes the gap.",
    ),
    Code(
        "KD303",
        "feature without an adaptor",
        "A term reads a feature which the adaptor of that model does not give. Add it to `adaptors`, as a field path "
        "into the model's output.",
    ),
    Code(
        "KD304",
        "wrong arity",
        "A loss on pairs of layers needs two layers on each side, and a loss on single layers one. A feature with one "
        "tensor a layer needs `layers` or `pairs`; a feature that is one tensor is compared as a whole and has neither.",
    ),
    Code(
        "KD305",
        "setting without effect",
        "Nothing that runs reads this setting, so it may be a mistake. Remove it, or turn on what it belongs to.",
    ),
    Code(
        "KD306",
        "nothing to learn",
        "Every term has the weight 0, or no parameter is trained, so the stage would change nothing.",
    ),
    Code(
        "KD307",
        "models refer to each other in a circle",
        "Each of these models takes its configuration or its weights from another of them, so that none can be made "
        "first.",
    ),
    Code(
        "KD308",
        "name not allowed",
        "Names become parts of file names: they have 1 to 100 letters, digits, `.`, `_` or `-`, and are not made of "
        "dots alone.",
    ),
    Code(
        "KD309",
        "head counts differ",
        "The two attentions have different numbers of heads, and this loss compares them head by head.",
    ),
    Code(
        "KD310",
        "file or folder not found",
        "A path of the spec leads nowhere. Paths are relative to the file in which they are written.",
    ),
    Code(
        "KD311",
        "initialisation does not fit",
        "The student cannot take the weights of these layers: the numbers of layers or the shapes of the parameters "
        "differ.",
    ),
    Code(
        "KD312",
        "no column or label",
        "The data has no column of this name, or a column has a label that the task does not know.",
    ),
    Code(
        "KD313",
        "loss does not fit the feature",
        "The loss is made for another kind of feature, such as hidden states where the match has attention.",
    ),
    Code(
        "KD314",
        "no head for a task",
        "The student of several tasks has a head for each of them, and this kind of model has none for this kind of task.",
    ),
    Code(
        "KD320",
        "gradient may depend on cuts",
        "The spec has batches cut into micro-batches of similar length, and a part of the stage may take the rows of a "
        "batch together, so that the gradient may not be that of the whole batch.",
    ),
    Code(
        "KD401",
        "not rehearsed",
        "A part of the training step could not be tried out before the run, because what it does depends on the weights "
        "or the data. Nothing is wrong with the spec for that; its shapes are checked at the first batch.",
    ),
    Code(
        "KD402",
        "lengths differ",
        "The features that a match compares have different numbers of tokens, or of rows. Layers can be matched only where "
        "both models see the same tokens, and so can answers that are positions among them.",
    ),
    Code(
        "KD403",
        "classes differ",
        "The logits of student and teacher have different numbers of classes, so that one cannot follow the other; or "
        "teachers whose answers are joined have different classes, or the same in another order.",
    ),
    Code(
        "KD404",
        "mask does not fit",
        "A mask has one number for each token, `(batch, length)`: `inputs_mask` for each token of the features that are "
        "matched, `logits_mask` for each token that has logits.",
    ),
    Code(
        "KD405",
        "rows longer than the model allows",
        "The task gives rows of more tokens than the model has positions for. A row that is really as long stops the run.",
    ),
    Code(
        "KD501",
        "loss not finite",
        "A loss became infinite or NaN. The run stops before the weights are touched, and names the term.",
    ),
    Code(
        "KD502",
        "data does not fit the task",
        "A row of the data cannot be turned into an example of the task.",
    ),
    Code(
        "KD503",
        "model cannot be loaded",
        "The model's files are missing, damaged, or of a kind that is not loaded, such as pickles and remote code.",
    ),
    Code(
        "KD504",
        "checkpoint damaged",
        "A checkpoint lacks files, or their contents differ from their checksums. The newest one that is whole is used "
        "in its place; nothing is deleted.",
    ),
    Code(
        "KD505",
        "run folder in use",
        "Another process writes to this run folder. Wait for its end, or give the run another name.",
    ),
    Code(
        "KD506",
        "plugin raised",
        "A component or an observer of a plugin raised an exception. The message names the package, whose authors can "
        "help.",
    ),
    Code(
        "KD507",
        "shapes differ at the first batch",
        "The tensors that a term compares have different shapes, which shows only with real data.",
    ),
    Code(
        "KD508",
        "cannot write",
        "The run folder cannot be written to: the disk is full, or permission is missing. What was written before is "
        "whole.",
    ),
    Code(
        "KD509",
        "spec changed since the run began",
        "The run folder belongs to another spec, so that going on would mix two experiments. Give the run another name, "
        "or go back to the spec that it began with.",
    ),
    Code(
        "KD510",
        "parameter left out of the optimizer",
        "A parameter that the loss depends on would never be changed, because no group of the optimizer has it.",
    ),
    Code(
        "KD511",
        "out of memory",
        "The device's memory does not hold one micro-batch. A smaller `batch_size` with a larger `accumulate` computes "
        "the same gradient, and `gradient_checkpointing` trades time for memory.",
    ),
    Code(
        "KD512",
        "teacher cannot be cached",
        "The spec asks for a teacher cache with `on`, and what the teacher says of a row cannot be kept: its rows are drawn "
        "anew in each epoch, the strategy makes its own batches, or a feature is not of rows and tokens.",
    ),
    Code(
        "KD513",
        "processes that do not go together",
        "`torchrun` tells each process its number and where all of them meet. Either some of that is missing, so that the "
        "processes would train alone and overwrite each other, or what they are asked to do cannot be done by so many of "
        "them.",
    ),
    Code(
        "KD514",
        "another process has ended",
        "Of several processes that train together one has failed, was killed, or does not answer any more. The others "
        "cannot go on without it. The same command goes on from the last checkpoint.",
    ),
    Code(
        "KD515",
        "not to be trained by Accelerate",
        "`--backend accelerate` needs the package `accelerate`, and trains with copies of the model. What "
        "else a configuration of Accelerate asks for is refused, so that nothing in it is without effect.",
    ),
    Code(
        "KD601",
        "not a configuration of TextBrewer",
        "`kdspec import-textbrewer` reads JSON, and of Python files the literals that TextBrewer's classes are called with. "
        "Nothing of them is run, so that a value which a file computes is told of and left to you.",
    ),
)

CODES: Mapping[str, Code] = MappingProxyType({code.code: code for code in _TABLE})
