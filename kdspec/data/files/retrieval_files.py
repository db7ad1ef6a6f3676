"""Files of a retrieval set: texts with ids, and which documents are relevant to which query."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from kdspec.api.component import Strict
from kdspec.api.spec.file_fields import SpecFile
from kdspec.data.files.delimited import Columns, csv_columns, read_csv
from kdspec.data.files.file_text import FileMistake
from kdspec.data.files.json_rows import read_json
from kdspec.data.files.row_files import file_fault, path_of
from kdspec.data.numbers import described, number
from kdspec.diagnostics.diagnostic import excerpt

_PACKED = (".gz", ".bz2", ".xz")
_JSON = (".jsonl", ".json", ".ndjson")
_DELIMITERS = MappingProxyType({".csv": ",", ".tsv": "\t"})

_DOCUMENT_IDS = ("_id", "id", "corpus-id", "corpus_id", "document_id", "doc_id", "docid", "pid")
_DOCUMENTS = ("text", "document", "passage", "contents", "body")
_QUERY_IDS = ("_id", "id", "query-id", "query_id", "qid")
_QUERIES = ("text", "query", "question")
_TITLE = "title"
_BARE = ("_id", "text")
"""The columns of a table without a header."""
_PAIRED_QUERY = ("query-id", "query_id", "qid")
_PAIRED_DOCUMENT = ("corpus-id", "corpus_id", "document_id", "doc_id", "docid", "pid")
_RELEVANCE = ("score", "relevance", "rel", "label")
_ROWS = "rows are counted from 1, without the header"

Place = tuple[str | int, ...]


def _format(value: str) -> str:
    if _suffix(value) not in (*_JSON, *_DELIMITERS):
        message = (
            "the name ends in none of `.jsonl`, `.csv` and `.tsv`, which tell how to read the file; `.gz` may follow"
        )
        raise PydanticCustomError("wrong_value", message)
    return value


def _suffix(file: str) -> str:
    path = PurePath(file)
    return (PurePath(path.stem) if path.suffix.lower() in _PACKED else path).suffix.lower()


SpecTable = Annotated[SpecFile, AfterValidator(_format)]
"""A file of rows whose suffix tells its format: `.jsonl` (or `.json`), `.csv` or `.tsv`, also compressed (`.tsv.gz`)."""


RelevantFiles = Annotated[
    dict[Literal["validation", "test"], SpecTable],
    Field(min_length=1),
    BeforeValidator(
        lambda value: {"validation": value} if isinstance(value, str) else value,
        json_schema_input_type=str | dict[str, str],
    ),
]
"""A file of pairs for each split that is evaluated; one file is that of `validation`."""


@dataclass(frozen=True)
class RetrievalTexts:
    """A retrieval set that has been read."""

    documents: Mapping[str, str]
    """The text of each document by its id, in the order of the file."""
    queries: Mapping[str, str]
    """The text of each query with a relevant document."""
    relevant: Mapping[tuple[str, str], float]
    """The relevance of pairs of a query and a document, above 0."""


class RetrievalFiles(Strict):
    """Queries, the documents that are searched, and which of them are relevant: the form of BEIR and of most public sets.

    Each file is JSON Lines, CSV or TSV with a header, by its suffix. Names of columns are those of BEIR or plain ones; others are
    ignored. A TSV file of two columns may have no header: ids and texts. Ids are texts or integers. A query without a relevant document is left out; documents that no pair names count as not
    relevant.
    """

    corpus: SpecTable
    """The documents: `_id` (or `id`, `doc_id`, `pid`), `text` (or `document`, `passage`), and `title`, which is put before the text."""
    queries: SpecTable
    """The queries: `_id` (or `id`, `query_id`, `qid`) and `text` (or `query`, `question`)."""
    relevant: RelevantFiles
    """Pairs: `query-id` (or `query_id`, `qid`), `corpus-id` (or `doc_id`, `pid`), and `score` (or `relevance`), a number: 0 or less
    is not relevant. Without that column all pairs are relevant, with 1. One file is that of `validation`; files for both:
    `{validation: dev.tsv, test: test.tsv}`."""

    def has_split(self, split: str) -> bool:
        """Whether there is a file of pairs for a split."""
        return split in self.relevant

    def read(self, folder: Path, at: Place = ()) -> dict[str, RetrievalTexts]:
        """Read and compare the files: the set of each split.

        Args:
            folder: that of the spec.
            at: the path of this group among the parameters of its component, for faults.

        Raises:
            Fault: KD502 with file and row.
        """
        documents = read_documents(self.corpus, folder, (*at, "corpus"))
        queries = read_queries(self.queries, folder, (*at, "queries"))
        found: dict[str, RetrievalTexts] = {}
        for split, file in self.relevant.items():
            try:
                columns = _columns(file, folder, _PAIRED_QUERY, _PAIRED_DOCUMENT, _RELEVANCE)
                pairs = self._pairs(columns, queries, documents)
            except FileMistake as mistake:
                raise file_fault(mistake, file, (*at, "relevant", split)) from mistake
            asked = {query for query, _ in pairs}
            of_split = {name: text for name, text in queries.items() if name in asked}
            found[split] = RetrievalTexts(documents, of_split, pairs)
        return found

    def _pairs(
        self, columns: Columns, queries: Collection[str], documents: Collection[str]
    ) -> Mapping[tuple[str, str], float]:
        query_column, document_column = _one_of(columns, _PAIRED_QUERY), _one_of(columns, _PAIRED_DOCUMENT)
        relevance_column = next((name for name in _RELEVANCE if name in columns), None)
        first: dict[tuple[str, str], int] = {}
        found: dict[tuple[str, str], float] = {}
        for row, (one, other) in enumerate(zip(columns[query_column], columns[document_column], strict=True), 1):
            pair = _id(one, row, query_column), _id(other, row, document_column)
            for name, column, ids, file in zip(
                pair, (query_column, document_column), (queries, documents), (self.queries, self.corpus), strict=True
            ):
                if name not in ids:
                    raise _unknown(name, row, column, ids, file)
            if first.setdefault(pair, row) != row:
                message = f"row {row} has the query and the document of row {first[pair]}"
                raise FileMistake(message, help=f"a pair has one relevance; {_ROWS}")
            relevance = (
                1.0
                if relevance_column is None
                else _relevance(columns[relevance_column][row - 1], row, relevance_column)
            )
            if relevance > 0:
                found[pair] = relevance
        if not found:
            raise FileMistake(
                "no pair has a relevance above 0", help="no metric is defined without a relevant document"
            )
        return found


def read_documents(file: str, folder: Path, at: Place) -> Mapping[str, str]:
    """The text of each document by its id, in the order of the file; a title stands before its text.

    Raises:
        Fault: KD502 with file and row, at `at`.
    """
    return _texts(file, folder, at, _DOCUMENT_IDS, _DOCUMENTS, (_TITLE,))


def read_queries(file: str, folder: Path, at: Place) -> Mapping[str, str]:
    """The text of each query by its id, in the order of the file.

    Raises:
        Fault: KD502 with file and row, at `at`.
    """
    return _texts(file, folder, at, _QUERY_IDS, _QUERIES, ())


def _texts(
    file: str, folder: Path, at: Place, ids: Sequence[str], texts: Sequence[str], before: Sequence[str]
) -> Mapping[str, str]:
    try:
        columns = _columns(file, folder, ids, texts, before)
        id_column, text_column = _one_of(columns, ids), _one_of(columns, texts)
        parts = [*(columns[name] for name in before if name in columns), columns[text_column]]
        rows: dict[str, int] = {}
        found: dict[str, str] = {}
        for row, (name, *written) in enumerate(zip(columns[id_column], *parts, strict=True), 1):
            key = _id(name, row, id_column)
            if rows.setdefault(key, row) != row:
                raise FileMistake(
                    f"row {row} has the id of row {rows[key]}, `{excerpt(key)}`", help=f"an id is unique; {_ROWS}"
                )
            found[key] = " ".join(text for text in (_text(each, row) for each in written) if text)
            if not found[key]:
                raise FileMistake(
                    f"row {row}: `{text_column}` of `{excerpt(key)}` is empty", help=f"remove the row; {_ROWS}"
                )
    except FileMistake as mistake:
        raise file_fault(mistake, file, at) from mistake
    if not found:
        raise file_fault(FileMistake("the file has no rows"), file, at)
    return found


def _columns(file: str, folder: Path, *names: Sequence[str]) -> Columns:
    """The columns of a file, of which some names are read."""
    wanted = {name for some in names for name in some}
    path, suffix = path_of(folder, file), _suffix(file)
    if suffix in _JSON:
        return read_json(path, None, wanted.__contains__, wanted.__contains__)
    delimiter = _DELIMITERS[suffix]
    header = csv_columns(path, delimiter, quoting=None) if suffix == ".tsv" and "text" in wanted else None
    # MS MARCO's `collection.tsv`: an id and a text, without a header.
    bare = header is not None and len(header) == len(_BARE) and not wanted & {name.strip().lower() for name in header}
    return read_csv(path, delimiter, quoting=None, names=_BARE if bare else None)


def _one_of(columns: Columns, names: Sequence[str]) -> str:
    """The first of the names that the file has."""
    found = next((name for name in names if name in columns), None)
    if found is None:
        known = " or ".join(f"`{name}`" for name in names)
        raise FileMistake(
            f"no column `{names[0]}`", help=f"the file needs a column {known}; a table has them in its first line"
        )
    return found


def _id(value: Any, row: int, column: str) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    what = "empty" if value is None or isinstance(value, str) else f"{described(value)}, neither a text nor an integer"
    raise FileMistake(f"row {row}: `{column}` is {what}", help=_ROWS)


def _text(value: Any, row: int) -> str:
    if value is None or isinstance(value, str):
        return (value or "").strip()
    raise FileMistake(f"row {row}: {described(value)} in place of a text", help=_ROWS)


def _relevance(value: Any, row: int, column: str) -> float:
    if (found := number(value)) is None:
        what = "empty" if value is None or value == "" else f"{described(value)}, not a number"
        raise FileMistake(f"row {row}: `{column}` is {what}", help=_ROWS)
    return found


def _unknown(name: str, row: int, column: str, ids: Collection[str], file: str) -> FileMistake:
    shown = ", ".join(f"`{excerpt(each)}`" for each in islice(ids, 3))
    help_ = (
        f"`{file}` has {len(ids):,} id{'' if len(ids) == 1 else 's'}: {shown}{' …' if len(ids) > 3 else ''}; {_ROWS}"
    )
    return FileMistake(f"row {row}: `{column}` is `{excerpt(name)}`, an id that `{file}` does not have", help=help_)


def numbered(found: RetrievalTexts) -> Iterator[tuple[int, int, float]]:
    """The pairs with numbers for ids: the query, the document, and the relevance."""
    queries, documents = ({name: place for place, name in enumerate(ids)} for ids in (found.queries, found.documents))
    return ((queries[query], documents[document], value) for (query, document), value in found.relevant.items())
