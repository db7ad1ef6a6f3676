from __future__ import annotations

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from kdspec.diagnostics.finding import FindingError
from kdspec.engine.run.checkpoint import CheckpointStore
from kdspec.engine.run.manifest import FileRecord, Manifest, ManifestDamage

RECORD = {"sha256": "0" * 64, "bytes": 1, "aliases": {}}


def seal(body):
    """A manifest made by somebody who knows how to: the checksum guards against accidents, not against people."""
    body = (body if isinstance(body, str) else json.dumps(body)).encode()[:-1]
    return body + b',"checksum":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def manifest(**changes):
    return {"format": 1, "step": 5, "files": {"model.safetensors": RECORD}, "meta": {}} | changes


def without(key):
    return {name: value for name, value in manifest().items() if name != key}


def test_a_sealed_manifest_is_read(tmp_path):
    written = Manifest(5, {"model.safetensors": FileRecord("a" * 64, 3, {"head": "embedding"})}, {"é": [1, None, 0.1]})
    (tmp_path / "manifest.json").write_bytes(written.seal())
    assert Manifest.read(tmp_path / "manifest.json") == written


def test_a_manifest_is_plain_json(tmp_path):
    data = json.loads(Manifest(5, {}, {"lr": 0.1}).seal())
    assert (data["format"], data["step"], data["meta"]) == (1, 5, {"lr": 0.1})


def test_the_test_can_write_a_good_one(tmp_path):
    """Or the next test would pass for the wrong reason."""
    (tmp_path / "manifest.json").write_bytes(seal(manifest()))
    assert Manifest.read(tmp_path / "manifest.json").step == 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "[1]",
        "null",
        '{"format":1',
        '{"format":1}}',
        "{" + '"a":{' * 100_000 + "}" * 100_001,
        "\N{REPLACEMENT CHARACTER}{}",
        without("format"),
        without("step"),
        without("files"),
        without("meta"),
        manifest(format=2),
        manifest(format="1"),
        manifest(step="5"),
        manifest(step=5.0),
        manifest(step=None),
        manifest(meta=[]),
        manifest(files=["model.safetensors"]),
        *(
            manifest(files={name: RECORD})
            for name in (
                "",
                ".",
                "..",
                "../model.safetensors",
                "/etc/model.safetensors",
                "a/b.safetensors",
                "a\\b.safetensors",
                "C:model.safetensors",
                ".model.safetensors",
                "model.safetensors\n",
                "model.safetensors\0",
                "model.pt",
                "model",
                "é.safetensors",
                "a" * 200 + ".safetensors",
            )
        ),
        *(
            manifest(files={"model.safetensors": record})
            for record in (
                None,
                [],
                {},
                RECORD | {"sha256": "0" * 63},
                RECORD | {"sha256": "0" * 63 + "A"},
                RECORD | {"sha256": 0},
                RECORD | {"bytes": "1"},
                RECORD | {"bytes": None},
                RECORD | {"aliases": []},
                RECORD | {"aliases": {"head": 1}},
                RECORD | {"aliases": {"head": None}},
            )
        ),
    ],
    ids=lambda body: str(body)[:60].encode("unicode_escape").decode(),
)
def test_anything_else_is_damage_even_with_the_right_checksum(tmp_path, body):
    (tmp_path / "manifest.json").write_bytes(seal(body))
    with pytest.raises(ManifestDamage):
        Manifest.read(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", json.dumps(manifest()).encode(), seal(manifest()) + b"\n"]
)
def test_without_its_checksum_it_is_damage(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestDamage, match="does not match its checksum"):
        Manifest.read(tmp_path / "manifest.json")


def test_every_flipped_bit_is_seen(tmp_path):
    whole = Manifest(5, {"model.safetensors": FileRecord("a" * 64, 3, {})}, {"lr": 0.1}).seal()
    path = tmp_path / "manifest.json"
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(ManifestDamage):
            Manifest.read(path)


def test_a_folder_or_a_pipe_in_its_place_is_damage(tmp_path):
    """Reading a pipe would wait for ever."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    reasons = {
        "folder": "it is a folder",
        "pipe": "no regular file",
        "nothing": "no manifest",
        "no/thing": "no manifest",
    }
    for name, reason in reasons.items():
        with pytest.raises(ManifestDamage, match=reason):
            Manifest.read(tmp_path / name)


class TestHostileFiles:
    """Files with correct checksums and contents that no checkpoint has."""

    @staticmethod
    def plant(tmp_path, aliases=None, content=None):
        folder = tmp_path / "step-00000005"
        folder.mkdir()
        path = folder / "model.safetensors"
        save_file({"weight": torch.ones(2)}, path)
        if content is not None:
            path.write_bytes(content)
        data = path.read_bytes()
        record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "aliases": aliases or {}}
        (folder / "manifest.json").write_bytes(seal(manifest(files={"model.safetensors": record})))
        return CheckpointStore(tmp_path)

    def test_the_test_can_plant_a_good_one(self, tmp_path):
        model = self.plant(tmp_path, {"head": "weight"}).load(5).tensors["model"]
        assert model["head"] is model["weight"]

    @pytest.mark.parametrize("aliases", [{"head": "absent"}, {"weight": "weight"}])
    def test_aliases_must_name_a_tensor_and_hide_none(self, tmp_path, aliases):
        with pytest.raises(FindingError, match="KD504"):
            self.plant(tmp_path, aliases).load(5)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.",
            b"PK\x03\x04 as torch.save begins",
            b"\xff" * 64,
            (2).to_bytes(8, "little") + b"[]",
            (77).to_bytes(8, "little")
            + b'{"weight":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}',
        ],
    )
    def test_a_file_that_is_not_safetensors_is_damage(self, tmp_path, content):
        store = self.plant(tmp_path, content=content)
        reports = []
        assert store.latest(reports.append) is None
        assert len(reports) == 1
        assert not os.path.lexists("pwned")

    def test_a_pipe_in_place_of_a_file_is_damage(self, tmp_path):
        store = self.plant(tmp_path)
        (tmp_path / "step-00000005" / "model.safetensors").unlink()
        os.mkfifo(tmp_path / "step-00000005" / "model.safetensors")
        with pytest.raises(FindingError, match="is missing"):
            store.load(5)
