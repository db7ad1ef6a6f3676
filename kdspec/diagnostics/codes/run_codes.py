"""The codes of a run: models and rows as they are, training, and what is written."""

from __future__ import annotations

from kdspec.diagnostics.codes.code import Code

RUN_CODES = (
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
        "KD530",
        "package for a command missing",
        "The command needs packages that are an extra of kdspec and are not installed. Nothing was loaded or written.",
    ),
    Code(
        "KD531",
        "model cannot be exported",
        "torch's exporter or onnxruntime cannot make an ONNX file of the model, or the task reads something that is not among "
        "its outputs.",
    ),
    Code(
        "KD532",
        "exported model differs",
        "The ONNX file or the tokenizer beside it gives something else for rows of the run than the model itself, by more than "
        "rounding. The folder was not written.",
    ),
    Code(
        "KD601",
        "not a configuration of TextBrewer",
        "`kdspec import-textbrewer` reads JSON, and from Python files the literal arguments of TextBrewer's classes. "
        "It runs no code; values that a file computes are reported, and you fill them in.",
    ),
    Code(
        "KD701",
        "the hub refuses an upload",
        "`kdspec push` has no login for the Hugging Face hub, the login may not write to the repository, or the hub cannot be "
        "reached. Nothing of the run is changed; the same command uploads it later.",
    ),
)
