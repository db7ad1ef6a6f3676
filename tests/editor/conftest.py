"""A client for the YAML language server that editors use, which `make editor` installs."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kdspec

ROOT = Path(kdspec.__file__).parent.parent
SERVER = ROOT / ".cache" / "editor" / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
# What the server is asked to look up of its own accord would go to the network.
SETTINGS = {
    "yaml": {
        "schemaStore": {"enable": False},
        "kubernetesCRDStore": {"enable": False},
        "validate": True,
        "hover": True,
        "completion": True,
    }
}
PATIENCE = 60


class Editor:
    """An editor with one file open, as far as the server can tell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.messages: queue.Queue = queue.Queue()
        self.number = 0
        self.process = subprocess.Popen(
            [shutil.which("node"), str(SERVER), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "REDHAT_TELEMETRY_ENABLED": "false"},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        capabilities = {
            "textDocument": {
                "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}},
                "hover": {"contentFormat": ["markdown"]},
            },
            "workspace": {"configuration": True},
        }
        self.ask("initialize", {"processId": os.getpid(), "rootUri": folder.as_uri(), "capabilities": capabilities})
        self.tell("initialized", {})

    def _read(self) -> None:
        stream = self.process.stdout
        while header := stream.readline():
            size = int(header.split(b":")[1])
            while stream.readline().strip():
                pass
            self.messages.put(json.loads(stream.read(size)))

    def _send(self, message: dict) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def tell(self, method: str, params: dict) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: dict):
        self.number += 1
        self._send({"id": self.number, "method": method, "params": params})
        return self._wait(lambda message: message.get("id") == self.number and "method" not in message)["result"]

    def _wait(self, wanted) -> dict:
        while True:
            message = self.messages.get(timeout=PATIENCE)
            if message.get("method") == "workspace/configuration":
                items = message["params"]["items"]
                answer = [SETTINGS.get(item.get("section"), {}) for item in items]
                self._send({"id": message["id"], "result": answer})
            elif "id" in message and "method" in message:
                self._send({"id": message["id"], "result": None})
            if wanted(message):
                return message

    def open(self, text: str) -> tuple[str, dict]:
        """Open a file whose cursor is at `|`. Returns its URI and the cursor's position."""
        self.number += 1
        uri = (self.folder / f"spec{self.number}.yaml").as_uri()
        before, _, after = text.partition("|")
        lines = before.split("\n")
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": before + after}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return uri, {"line": len(lines) - 1, "character": len(lines[-1])}

    def errors(self, text: str) -> list[tuple[int, str]]:
        """The line, counted from 0, and the message of each error."""
        uri, _ = self.open(text)
        method = "textDocument/publishDiagnostics"
        message = self._wait(lambda m: m.get("method") == method and m["params"]["uri"] == uri)
        found = message["params"]["diagnostics"]
        return [(item["range"]["start"]["line"], item["message"]) for item in found]

    def completions(self, text: str) -> dict[str, dict]:
        """What is proposed at `|`, by label."""
        uri, position = self.open(text)
        answer = self.ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": position})
        return {item["label"]: item for item in answer["items"]}

    def hover(self, text: str) -> str:
        """What is shown, as Markdown, for what follows `|`."""
        uri, position = self.open(text)
        answer = self.ask("textDocument/hover", {"textDocument": {"uri": uri}, "position": position})
        return answer["contents"]["value"] if answer else ""

    def close(self) -> None:
        self.ask("shutdown", {})
        self.tell("exit", {})
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def editor(tmp_path_factory) -> Iterator[Editor]:
    """An editor in a folder that has the schema of the built-ins and of one more package."""
    if not shutil.which("node") or not SERVER.is_file():
        pytest.skip("the YAML language server is not installed; `make editor` does it, with npm")
    from kdspec import load_registry
    from kdspec.spec import json_schema

    folder = tmp_path_factory.mktemp("editor")
    registry = load_registry(installed=False)
    (folder / "kdspec.schema.json").write_text(json_schema.text(registry), encoding="utf-8")
    editor = Editor(folder)
    yield editor
    editor.close()
