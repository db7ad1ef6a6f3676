"""Secrets are found by their form, in values and keys, and masked; what only resembles them is not."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest
from cpu_seconds import cpu_seconds

from kdspec.diagnostics.diagnostic import DiagnosticError
from kdspec.source.extends import compose
from kdspec.source.secrets import covered, secrets

ROOT = Path(__file__).parents[2]
HUB = "hf_" + "aBcDeFgHiJ" * 4
TOKENS = (
    HUB, "glpat-" + "x1Y_" * 5, "npm_" + "a1B2" * 9, "AIza" + "Sy0-" * 9, "sk-ant-api03-" + "aB3-" * 12,
    "SG." + "aB3_" * 16, "xoxp-1234567890-abcdef", "dop_v1_" + "0af9" * 16, "hvs." + "aB3_" * 8,
)  # fmt: skip


def found(text, *sets, **environ):
    """The codes, messages and places of the errors of a spec."""
    with pytest.raises(DiagnosticError) as caught:
        compose(text, "s.yaml", sets=sets, environ=environ)
    return caught.value


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("text", ["a: x-{}", "{}: 1", "a: [1, {{b: '{}'}}]", "a: {{{}: {{}}}}"])
def test_a_token_is_refused_as_a_value_and_as_a_key(token, text):
    error = found(text.format(token))
    assert {each.code for each in error.diagnostics} == {"KD009"}
    assert token[8:] not in f"{error}"
    assert all(token[8:] not in each for each in map(covered, error.texts.values()))


@pytest.mark.parametrize("argument", [f"a.b={HUB}", f"a.{HUB}=1"])
def test_a_token_of_set_is_refused(argument):
    assert found("a: {}", argument).diagnostics[0].primary.span.file == "--set"


@pytest.mark.parametrize("text", [f"a: {HUB}", f"{HUB}: 1", f"a: {{b: [{HUB}]}}"])
def test_a_token_of_an_extended_file_is_refused(text, tmp_path):
    (tmp_path / "base.yaml").write_text(f"kdspec: 1\n{text}")
    with pytest.raises(DiagnosticError, match="KD009"):
        compose("extends: base.yaml\nz: 1", "s.yaml", tmp_path, environ={})


@pytest.mark.parametrize(
    "text",
    [
        f"a: '{HUB[:20]}${{X}}'",
        f"a: '{HUB[:20]}${{Y:-{HUB[20:]}}}'",
        f"a: '${{Y:-{HUB[:20]}}}${{Z:-{HUB[20:]}}}'",
        f"a: '{HUB}${{X}}'",
        '"a": "\\x68f_' + "aBcDeFgHiJ" * 4 + '"',
    ],
)
def test_a_token_around_variables_and_escapes_is_refused_and_masked(text):
    error = found(text, X="KLMNOPQRSTUVWXYZ")
    assert [each.code for each in error.diagnostics] == ["KD009"]
    assert "aBcDeFgHiJ" not in "".join(map(covered, error.texts.values()))


@pytest.mark.parametrize(
    "text", ["a: ${T}", "a: 'hf_${REST}'", "a: 'https://me:${PW}@host/x'", "a: '${A}${B}'", "password: ${PW}"]
)
def test_what_comes_from_the_environment_is_no_literal(text):
    data = compose(text, "s", environ={"T": HUB, "REST": HUB[3:], "PW": "hunter2!x", "A": HUB[:20], "B": HUB[20:]})
    assert len(data.variables.places) == 1


@pytest.mark.parametrize(
    "text", ["password: hunter2secret", "db: {api_key: 12ab34cd56}", "aws_secret_access_key: x1y2z3w4v5"]
)
def test_a_password_is_known_by_its_key(text):
    error = found(text)
    assert [each.code for each in error.diagnostics] == ["KD009"]
    assert not any(word in covered(error.texts["s.yaml"]) for word in ("hunter2secret", "12ab34cd56", "x1y2z3w4v5"))


def test_a_private_key_is_masked_with_its_lines():
    body = "\n".join("  " + "MIIEowIBAAKCAQEA0Z3VS5JJcds3xf" * 2 for _ in range(4))
    text = f"a: |\n  -----BEGIN RSA PRIVATE KEY-----\n{body}\n  -----END RSA PRIVATE KEY-----\nb: 1\n"
    assert "MIIE" not in covered(text)
    assert covered(text).count("\n") == text.count("\n")
    assert covered(text).endswith("\nb: 1\n")


@pytest.mark.parametrize(
    "text",
    [
        "0123456789abcdef0123456789abcdef01234567", "google-bert/bert-base-uncased", "microsoft/MiniLM-L12-H384-uncased",
        "../../data/very/long/path/to/some/token_classification/train.csv", "password_reset", "my_token", "sk-learn",
        "aGVsbG8gd29ybGQgdGhpcyBpcyBiYXNlNjQgdGV4dA==", "eyJ0ZXN0IjoxfQ", "sha256:" + "0a" * 32, "hf_hub", "AKIA",
        "task-7f3b2c4d-0e1f-4a5b-8c6d-7e8f9a0b1c2d", "mask_token: '[MASK]'", "s3://bucket/model-v2", "user@host:dir",
    ],
)  # fmt: skip
def test_what_only_resembles_one_is_let_be(text):
    assert list(secrets(text)) == []


def test_random_words_are_no_secrets():
    draw = random.Random(7)
    for alphabet in ("0123456789abcdef", string.ascii_letters + string.digits + "+/", string.ascii_lowercase + "-_"):
        for length in (20, 32, 40, 64):
            assert not any(list(secrets("".join(draw.choices(alphabet, k=length)))) for _ in range(200))


def test_specs_and_pages_of_the_repository_have_none():
    folders = [ROOT / name for name in ("specs", "docs", "kdspec", "plugins")]
    files = [file for folder in folders for form in ("*.yaml", "*.md") for file in folder.rglob(form)]
    assert len(files) > 30
    own = {"KD009.md", "diagnostics.md"}
    for file in files:
        assert list(secrets(file.read_text(encoding="utf-8"))) == [] or file.name in own, file


def test_a_long_value_is_searched_in_linear_time():
    assert cpu_seconds(lambda: compose("a: " + "eyJ-" * 16_000, "s")) < 1
