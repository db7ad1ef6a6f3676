"""Uploads a folder to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdspec.diagnostics.finding import Finding, FindingError

CODE = "KD701"


def refused_name(repo: str) -> str | None:
    """Why the hub cannot have a repository of this name; None if it can."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    owner, slash, name = repo.partition("/")
    if not (owner and slash and name):
        return f"`{repo}` is not the name of a repository: write owner/name"
    try:
        validate_repo_id(repo)
    except HFValidationError:
        return (
            f"`{repo}` is not the name of a repository: letters, digits, `-`, `_` and `.` of both parts, "
            "not `-` or `.` at an end, and no `--` or `..`"
        )
    return None


def check_login() -> None:
    """Raise KD701 without a token, or where the hub is switched off."""
    import huggingface_hub

    if huggingface_hub.is_offline_mode():
        message = "the hub is switched off by `HF_HUB_OFFLINE`"
        raise FindingError(Finding(CODE, message, help="unset the variable, or add `--dry-run`"))
    if huggingface_hub.get_token() is None:
        message = "there is no login for the hub"
        raise FindingError(
            Finding(CODE, message, help="run `hf auth login`, or set `HF_TOKEN` to a token that may write")
        )


def upload(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Create the repository if there is none, and upload the folder as one commit; its address.

    Args:
        folder: with the files.
        repo: `owner/name`.
        private: whether a new repository is private.
        message: of the commit.

    Raises:
        FindingError: KD701 if the hub refuses it or cannot be reached.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi(library_name="kdspec")
    with _explained(repo):
        hub.create_repo(repo, private=private or None, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    return f"{hub.endpoint}/{repo}"


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = (error.server_message or str(error)).strip().splitlines()[0]
        help_ = {
            401: "log in again: `hf auth login`",
            403: "use a token that may write to this owner: `hf auth login`",
            404: "is the owner right?",
        }.get(status)
        raise FindingError(Finding(CODE, f"the hub refuses `{repo}` ({status}): {reason}", help=help_)) from error
    # The client has had three libraries for requests; its module of errors has the base class of the one it uses.
    except (errors.HTTPError, OSError) as error:
        raise FindingError(Finding(CODE, f"the hub cannot be reached: {str(error).splitlines()[0]}")) from error
