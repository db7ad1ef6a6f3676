"""A hub on this machine, as far as an upload needs one: it keeps what the client of the hub sends."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHub(ThreadingHTTPServer):
    """Repositories by name, each with `private`, its commits and its files; `refuses` is a status for all that is written."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.validated, self.refuses, self.tokens = {}, [], None, set()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, data, status=200):
        body = json.dumps(data).encode()
        self.send_response(status)
        if status >= 400:
            self.send_header("X-Error-Message", data["error"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server
        name = self.path.removeprefix("/api/models/").partition("?")[0].partition("/revision/")[0]
        if name in hub.repositories:
            return self.answer({"id": name, "siblings": [], "cardData": hub.repositories[name].get("card", {})})
        return self.answer({"error": "Repository not found"}, 404)

    def do_POST(self):
        hub, body = self.server, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuses is not None:
            return self.answer({"error": "you may not write here"}, hub.refuses)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name in hub.repositories:
                return self.answer({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
            hub.repositories[name] = {
                "private": "private" in (asked.get("visibility"), asked.get("private") and "private"),
                "commits": [],
                "files": {},
            }
            return self.answer({"url": f"{hub.url}/{name}", "name": name})
        if self.path == "/api/validate-yaml":
            hub.validated.append(json.loads(body)["content"])
            return self.answer({"errors": [], "warnings": []})
        name, _, action = self.path.removeprefix("/api/models/").rpartition("/main")[0].rpartition("/")
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                hub.repositories[name]["commits"].append(entry["value"]["summary"])
            elif entry["key"] == "file":
                hub.repositories[name]["files"][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.answer({"success": True, "commitUrl": f"{hub.url}/{name}/commit/0", "commitOid": "0" * 40})
