"""The one reader of files that others may have changed."""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

import pytest
from cpu_seconds import cpu_seconds
from hypothesis import given
from hypothesis import strategies as st

from kdspec.source import read_back
from kdspec.source.read_back import Count, Damage, Form, PathText, Seconds


@dataclass(frozen=True)
class Row:
    name: str
    rows: Count
    seconds: Seconds = 0.0
    place: PathText = ""


ROWS: Form[tuple[Row, ...]] = Form(tuple[Row, ...])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not JSON: line 1, column 1: expecting value"),
        ('{"a": 1,\n}', "it is not JSON: line 2, column 1"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "it has the key `c` twice"),
        ("[" * 65 + "]" * 65, "it is nested more than 64 levels deep"),
        ("[" * 1_000_000, "it is nested more than 64 levels deep"),
        ('{"a":' * 200_000, "it is nested more than 64 levels deep"),
        ("[" * 64 + '"' + "]" * 10, "it is not JSON"),
        ("9" * 65, "it has an integer of 65 digits"),
        ('{"a": [-' + "9" * 5000 + "]}", "it has an integer of 5,001 digits"),
        ("[" + "[]," * 600_000 + "1]", "it has more than 1,000,000 values"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
        (b'{"a":\n "\xff"}', "it is not UTF-8 text: line 2"),
        ('{"a": 1}'.encode("utf-16"), "it is not UTF-8 text"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_plain_json_is_damage_with_its_place(text, reason):
    with pytest.raises(Damage) as caught:
        read_back.parse(text)
    assert str(caught.value).startswith(reason)


def test_what_python_writes_is_read():
    data = {"a": [1, -2.5, 1e300, True, None, 'ü\n"\\[[[[', 10**40], "b": {"c": {}}, "n": float("inf")}
    assert read_back.parse(json.dumps(data)) == data
    assert read_back.parse(json.dumps(data, ensure_ascii=False).encode()) == data
    assert read_back.parse("[" * 64 + "]" * 64)


def test_brackets_in_a_text_are_no_levels():
    assert read_back.parse(json.dumps(["[" * 10_000, '"' + "{" * 10_000])) == ["[" * 10_000, '"' + "{" * 10_000]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"\ud800x"', "\ufffdx"),
        (r'"x\uDFFF"', "x\ufffd"),
        (r'{"\udc80": ["\ud83d\ude00"]}', {"\ufffd": ["\U0001f600"]}),
    ],
)
def test_half_of_a_surrogate_pair_is_replaced_so_that_it_can_be_written(written, read):
    found = read_back.parse(written)
    assert found == read
    json.dumps(found, ensure_ascii=False).encode()


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20))  # fmt: skip
def test_any_data_is_read_as_json_reads_it(data):
    written = json.dumps(data)
    assert read_back.parse(written) == json.loads(written)


@given(st.binary(max_size=200) | st.text('[]{}",:\\u0d8 1e-', max_size=200).map(str.encode))
def test_any_bytes_are_data_or_damage(content):
    with suppress(Damage):
        read_back.parse(content)


@pytest.mark.parametrize("text", ['"' + '\\"' * 2_000_000, "[" * 65 + '"\\' * 1_000_000, '{"' * 1_000_000])
def test_the_time_is_linear(text):
    def work():
        with pytest.raises(Damage):
            read_back.parse(text)

    assert cpu_seconds(work) < 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "input should be a valid"),
        ([1], "`0` (`1`): input should be a"),
        ([{"rows": 1}], "`0.name` is missing"),
        ([{"name": 1, "rows": 1}], "`0.name` (`1`): input should be a valid string"),
        ([{"name": "a", "rows": "1"}], "`0.rows` (`1`): input should be a valid integer"),
        ([{"name": "a", "rows": True}], "`0.rows` (`True`): input should be a valid integer"),
        ([{"name": "a", "rows": -1}], "`0.rows` (`-1`): input should be greater than or equal to 0"),
        ([{"name": "a", "rows": 2**63}], "`0.rows`"),
        ([{"name": "a", "rows": 10**60}], "`0.rows`"),
        ([{"name": "a", "rows": 1, "seconds": float("nan")}], "`0.seconds`"),
        ([{"name": "a", "rows": 1, "seconds": 1e300}], "`0.seconds`"),
        ([{"name": "a", "rows": 1, "place": "a\0b"}], "`0.place`"),
        ([{"name": "a", "rows": 1}, {"name": "b", "rows": []}], "`1.rows`"),
    ],
    ids=str,
)
def test_another_form_is_damage_with_its_place(tmp_path, data, reason):
    (tmp_path / "rows.json").write_text(json.dumps(data))
    with pytest.raises(Damage) as caught:
        read_back.read(tmp_path / "rows.json", ROWS)
    assert str(caught.value).startswith(reason)


def test_a_file_of_its_form_is_read(tmp_path):
    (tmp_path / "rows.json").write_text('[{"name": "a", "rows": 3, "of a later version": {}}]')
    assert read_back.read(tmp_path / "rows.json", ROWS) == (Row("a", 3),)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    """A pipe would be waited for."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "folder": "it is a folder",
        "pipe": "it is no regular file",
        "sparse": "it has 1,099,511,627,776 bytes, more than 16,777,216",
        "link": "it is no regular file",
        "loop": "it cannot be read: too many levels of symbolic links",
        "a" * 300: "it cannot be read: file name too long",
        "a\0b": "it is no name of a file",
    }
    for name, reason in reasons.items():
        for reader in (read_back.content, read_back.text, read_back.mapping, read_back.tensor_header):
            with pytest.raises(Damage) as caught:
                reader(tmp_path / name)
            if name != "sparse" or reader is not read_back.tensor_header:
                assert str(caught.value) == reason
    for name in ("absent", "absent/too", "pipe/inside"):
        with pytest.raises(FileNotFoundError):
            read_back.content(tmp_path / name)


def header(data, length=None, body=b""):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no header of safetensors"),
        (b"\xff" * 64, "it has no header of safetensors"),
        (header({}, 2**62), "it has no header of safetensors"),
        (header(b"[]"), "its header is no JSON object"),
        (header(b"{" * 4), "its header is not JSON"),
        (header(b'{"a":' * 1000), "its header is nested more than 64 levels deep"),
        (header({"a": {}}), "`a.dtype` is missing"),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}), "`a.shape.0`"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}), "`a.data_offsets.1` is missing"),
        (header({"__metadata__": {"rows": 1}}), "`rows` (`1`): input should be a valid string"),
        (header(b" " * 10_000_001 + b"{}"), "its header has 10,000,003 bytes, more than 10,000,000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_damaged_header_of_tensors_is_damage(tmp_path, content, reason):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Damage) as caught:
        read_back.tensor_header(tmp_path / "model.safetensors")
    assert str(caught.value).startswith(reason)


def test_a_header_of_tensors_is_read(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    content = header({"__metadata__": {"format": "pt"}, "weight": entry}, body=b"\0" * 8)
    (tmp_path / "model.safetensors").write_bytes(content)
    found = read_back.tensor_header(tmp_path / "model.safetensors")
    assert (found.tensors["weight"].shape, found.metadata, found.bytes) == ([2], {"format": "pt"}, len(content))
