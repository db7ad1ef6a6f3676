"""The table of diagnostic codes: the number, title and explanation of each kind of error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Code:
    """A kind of error. Its number is never reused for another kind."""

    code: str
    title: str
    text: str


_TABLE = (
    Code(
        "KD001",
        "not YAML",
        "The text is not valid YAML, so nothing after this place can be parsed. The usual causes are a tab or wrong "
        "indentation, a bracket or quote that is never closed, and an unquoted value that contains `: ` or begins "
        "with `*`, `&`, `%`, `@` or a backtick.",
    ),
    Code(
        "KD002",
        "duplicate key",
        "A mapping has the same key twice. Other YAML readers silently keep one of the values; kdspec cannot know which "
        "one is meant. Remove or rename one.",
    ),
    Code(
        "KD003",
        "unreadable file",
        "The file cannot be read: it is missing, is not a regular file, has no read permission, or is not UTF-8 text.",
    ),
    Code(
        "KD004",
        "too large",
        "A spec may have 1 MiB of text, 64 levels of nesting, 20,000 keys and values (counted after aliases and merge "
        "keys are expanded), and integers of 64 bits. A larger spec is a mistake or an attack; it is refused before it "
        "costs time or memory.",
    ),
    Code(
        "KD005",
        "YAML feature not allowed",
        "A spec is plain data: one document of mappings, lists and scalars. Keys are strings or integers. Other keys, tags "
        "other than the core ones (`!!str`, `!!int`, …), several documents, and aliases that contain themselves are refused.",
    ),
    Code(
        "KD006",
        "cannot extend",
        "`extends` names a file or a list of files, relative to the file that contains it. Each must exist and be a "
        "mapping, and no file may extend itself through others.",
    ),
    Code(
        "KD007",
        "environment variable not set",
        "`${NAME}` is replaced by an environment variable, which must be set. `${NAME:-default}` has a default for a "
        "variable that is unset or empty. Write `$${` for the characters `${`.",
    ),
    Code(
        "KD008",
        "bad --set",
        "`--set` takes `path=VALUE`. The path is keys and list indices separated by dots, with quotes around a key that "
        "contains a dot; the value is YAML. The path must fit the spec.",
    ),
    Code(
        "KD009",
        "secret in a spec",
        "A text or a key of the spec has an access token, a private key or a password in it. Specs are printed, shared, and "
        "copied into the run folder, so a secret in one would leak. A value that `${NAME}` inserts would not: the name is "
        "written and shown in its place.",
    ),
    Code(
        "KD101",
        "unknown key",
        "The mapping has a key that is not a setting here. kdspec ignores no key, so that a misspelt setting is never "
        "silently dropped.",
    ),
    Code("KD102", "missing key", "The mapping lacks a key that has no default."),
    Code(
        "KD103",
        "wrong type",
        "The value has another type than the key takes. Strings are not converted to numbers, nor numbers to strings or "
        "booleans.",
    ),
    Code("KD104", "value out of range", "The value has the right type, but is outside the range that the key allows."),
    Code(
        "KD105",
        "not a component",
        "A component is written as its name (`loss: ce`), or as a mapping with one key, from its name to its "
        "parameters (`loss: {dkd: {alpha: 1}}`).",
    ),
    Code(
        "KD106",
        "bad field path",
        'A field path begins with `output`, `batch`, `modules["name"].input` or `modules["name"].output`. Names, '
        "subscripts, slices and at most one comparison follow: `output.hidden_states[1:]`, `batch.labels != -100`. "
        "Other Python is refused.",
    ),
    Code(
        "KD107",
        "keys that exclude each other",
        "These keys set the same thing, so only one of them may be given.",
    ),
    Code(
        "KD201",
        "unknown component",
        "No plugin provides a component of this kind and name. `kdspec list` shows the available ones. The package that "
        "provides it may be missing or may have failed to load (`kdspec plugins`).",
    ),
    Code(
        "KD202",
        "ambiguous component",
        "Several packages provide a component of this kind and name. Write `<distribution>/<name>` to choose one.",
    ),
    Code(
        "KD203",
        "plugin failed to load",
        "An installed plugin raised an exception when it was loaded, was made for another version of kdspec, or returned "
        "something that is not a component. Only specs that use it are affected.",
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
        "The model has no layer of this index. Hidden state 0 is the output of the embeddings; attention 0 is that of "
        "the first layer; negative numbers count from the end.",
    ),
    Code(
        "KD302",
        "widths differ",
        "The two features differ in width, and this loss compares them element by element. A projection from the "
        "student's to the teacher's width makes them comparable.",
    ),
    Code(
        "KD303",
        "feature without an adaptor",
        "A term reads a feature that the adaptor of that model does not provide. Add it to `adaptors`, as a field path "
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
        "The setting is unused, which may be a mistake. Remove it, or enable the feature that it configures.",
    ),
    Code(
        "KD306",
        "nothing to learn",
        "Every term has weight 0 or no parameter is trained, so the stage would change nothing.",
    ),
    Code(
        "KD307",
        "models refer to each other in a circle",
        "Each of these models takes its configuration or its weights from another one of them, so none can be built first.",
    ),
    Code(
        "KD308",
        "name not allowed",
        "Names become parts of file names. They have 1 to 100 letters and digits of any script, `.`, `_` or `-`, and do not "
        "begin with `.` or `-`. Names that differ only in case, and names of devices such as `con`, are refused, because some "
        "file systems cannot have them. Accents are written as composed characters (NFC).",
    ),
    Code(
        "KD309",
        "head counts differ",
        "The two attentions have different numbers of heads, and this loss compares them head by head.",
    ),
    Code(
        "KD310",
        "file or folder not found",
        "A path in the spec does not exist, or must not be read: devices, pipes and files of `/proc` and `/sys`, and with "
        "`--untrusted` all that is not below the folder of the spec. Paths are relative to the file in which they are written.",
    ),
    Code(
        "KD311",
        "initialisation does not fit",
        "The student cannot be initialised from these layers: the numbers of layers or the shapes of the parameters differ.",
    ),
    Code(
        "KD312",
        "no column or label",
        "The data has no column of this name, or a column contains a label that the task does not list.",
    ),
    Code(
        "KD313",
        "loss does not fit the feature",
        "The loss is made for another kind of feature, such as hidden states where the match has attention. As a warning: "
        "the student's attention cannot be read before dropout, and the loss compares it with a teacher's without dropout.",
    ),
    Code(
        "KD314",
        "no head for a task",
        "A student of several tasks has one head for each task, and this kind of model has no head for this kind of task. A model "
        "that answers prompts has classes alone.",
    ),
    Code(
        "KD315",
        "too few logits are cached",
        "`top_k` of the teacher cache keeps the largest logits, and the probability of all others as one number for each "
        "temperature of the soft labels. Divergences such as `kl` and `ce` at a constant temperature need no more. Other "
        "losses, temperatures that depend on the logits, and averages over several teachers need all logits.",
    ),
    Code(
        "KD316",
        "rows that look wrong",
        "The rows can be read, but something in them is probably not what was meant: one class in two spellings, a mark for "
        '"no label" that counts as a class, a class that no row has, numbers that get their names from a model. This is a '
        "warning: the run goes on.",
    ),
    Code(
        "KD317",
        "a loaded head has other classes than the task",
        "The head in the files of a model is matched to the task by the names of its classes, which are the same but for "
        "case, blanks, `_` and `-`, or by the mapping `labels` of the model, which may merge classes of a teacher. Another order, another number of classes, "
        "other names, or a head of another kind would compare each class with another one. A head that a stage trains is "
        "re-initialised instead; one whose predictions are read as it was loaded is an error.",
    ),
    Code(
        "KD319",
        "a model that cannot search texts",
        "Searching a corpus, and finding hard negatives in it, takes a vector for each text, which a model that reads a query "
        "and a document together does not give: it ranks given candidates alone. Hard negatives are found before the first "
        "stage, by a model as it is in its files. As a warning: metrics of the search are left out for this model.",
    ),
    Code(
        "KD320",
        "splitting may change the gradient",
        "The spec splits batches into micro-batches of similar length, and a part of the stage is not row-wise: it may "
        "compare or average the rows of a batch. The gradient may then differ from that of the whole batch.",
    ),
    Code("KD321", "nothing to calibrate", "Calibration takes classes, validation labels and a linear last layer."),
    Code(
        "KD401",
        "not rehearsed",
        "A part of the training step could not be rehearsed before the run, because it depends on the values of weights "
        "or data. The spec may be right; the shapes are checked at the first batch.",
    ),
    Code(
        "KD402",
        "lengths differ",
        "The features that a match compares have different numbers of tokens or rows. Hidden layers, and logits over "
        "token positions, can be matched only if both models see the same tokens.",
    ),
    Code(
        "KD403",
        "classes differ",
        "The logits of student and teacher have different numbers of classes and cannot be compared; or the teachers of "
        "an ensemble have different classes, or the same classes in different orders.",
    ),
    Code(
        "KD404",
        "mask does not fit",
        "A mask has one number for each token, `(batch, length)`: `inputs_mask` for each token of the matched features, "
        "`logits_mask` for each token with logits.",
    ),
    Code(
        "KD405",
        "rows longer than the model allows",
        "The task allows rows with more tokens than the model has positions. A row of that length stops the run.",
    ),
    Code(
        "KD501",
        "loss not finite",
        "A loss is infinite or NaN. The run stops before the weights change, and the message names the term.",
    ),
    Code(
        "KD502",
        "data does not fit the task",
        "A row of the data cannot be encoded as an example of the task.",
    ),
    Code(
        "KD503",
        "model cannot be loaded",
        "The model's files are missing or damaged, or have a format that kdspec does not load, such as pickles and remote code.",
    ),
    Code(
        "KD504",
        "checkpoint damaged",
        "A checkpoint lacks files, or a checksum does not match. The newest intact checkpoint is used instead; nothing "
        "is deleted.",
    ),
    Code(
        "KD505",
        "run folder in use",
        "Another process writes to this run folder. Wait until it ends, or give the run another name.",
    ),
    Code(
        "KD506",
        "plugin raised",
        "A component or an observer of a plugin raised an exception. The message names the package; report it to its authors.",
    ),
    Code(
        "KD507",
        "shapes differ at the first batch",
        "The tensors that a term compares have different shapes. This was found only with real data.",
    ),
    Code(
        "KD508",
        "cannot write",
        "The run folder cannot be written: the disk is full, or permission is missing. Files that were written before "
        "are intact.",
    ),
    Code(
        "KD509",
        "spec, data or models changed since the run began",
        "The run folder belongs to another spec, or to other rows, weights, tokenizers or plugins; resuming would mix two "
        "experiments. Give the run another name, or use what it began with.",
    ),
    Code(
        "KD510",
        "parameter left out of the optimizer",
        "A parameter that receives a gradient would never be updated, because it is in no parameter group of the optimizer.",
    ),
    Code(
        "KD511",
        "out of memory",
        "Memory is exhausted; the message names what asked for it and, outside of training, what the run was doing. If a "
        "micro-batch does not fit, a smaller `batch_size` with a larger `accumulate` (gradient accumulation) computes the "
        "same gradient; `gradient_checkpointing` trades time for memory.",
    ),
    Code(
        "KD512",
        "teacher cannot be cached",
        "The spec requires a teacher cache with `on`, but the outputs of this teacher cannot be cached: its rows are "
        "re-sampled in each epoch, the strategy builds its own batches, or a feature has no row or token dimension.",
    ),
    Code(
        "KD513",
        "processes that do not fit together",
        "`torchrun` gives each process its rank and the address of the first one. Either some of these variables are "
        "missing, so that the processes would train separately and overwrite each other, or the spec cannot be run by "
        "this many processes.",
    ),
    Code(
        "KD514",
        "another process has ended",
        "One of several training processes has failed, was killed, or does not respond, so the others stop. The same "
        "command resumes from the last checkpoint.",
    ),
    Code(
        "KD515",
        "not supported with Accelerate",
        "`--backend accelerate` needs the package `accelerate`, and supports data-parallel training only. Other settings "
        "of a configuration of Accelerate are refused, so that none is silently ignored.",
    ),
    Code(
        "KD516",
        "no loss over a whole step",
        "A loss that compares the rows of a whole optimizer step runs the student twice, with the same random numbers, which "
        "this setting does not allow. Only losses of matches have the scope `step`; a projection does not.",
    ),
    Code(
        "KD517",
        "answers depend on the batch",
        "A model gives another answer for a short row beside a long one than for the row alone, by more than rounding: it "
        "reads padding. Its metrics and what it teaches would depend on which rows come together.",
    ),
    Code(
        "KD518",
        "a teacher is no better than chance",
        "Before a loaded teacher teaches, it answers labelled rows, and is right no more often than by guessing among the "
        "classes, or nearly always right in another order of the classes. A student would learn these answers.",
    ),
    Code(
        "KD519",
        "rows or a teacher that look wrong",
        "Preflight has found something that may be a mistake: test texts that stand in `train`, many rows "
        "that are cut, classes without rows, about as many classes as rows, or a teacher that is worse than the most "
        "frequent class.",
    ),
    Code(
        "KD520",
        "a frozen model has changed",
        "A strategy changes the weights of a teacher that it has not declared: a run that stops and resumes would begin with "
        "other weights. `Needs(changing=...)` names such teachers; they are saved and restored with the student.",
    ),
    Code(
        "KD601",
        "not a configuration of TextBrewer",
        "`kdspec import-textbrewer` reads JSON, and from Python files the literal arguments of TextBrewer's classes. "
        "It runs no code; values that a file computes are reported, and you fill them in.",
    ),
)

CODES: Mapping[str, Code] = MappingProxyType({code.code: code for code in _TABLE})
