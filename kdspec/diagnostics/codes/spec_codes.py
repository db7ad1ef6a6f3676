"""The codes of what is read: the file, its keys and values, and the components that it names."""

from __future__ import annotations

from kdspec.diagnostics.codes.code import Code

SPEC_CODES = (
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
)
