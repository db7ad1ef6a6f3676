"""The codes of the plan: models, layers, losses and columns that do not fit together."""

from __future__ import annotations

from kdspec.diagnostics.codes.code import Code

PLAN_CODES = (
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
)
