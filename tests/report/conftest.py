"""A real browser without a window, driven by chromedriver, for what only a browser can tell of a page."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # needed as root; the pages are ours
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window."""

    def __init__(self, driver: str, binary: str, profile: Path) -> None:
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        lines = iter(self.process.stdout.readline, "")
        port = next(found[1] for line in lines if (found := re.search(r"started successfully on port (\d+)", line)))
        self.url = f"http://127.0.0.1:{port}/session"
        options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self.url += "/" + self._post("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self._post("/url", {"url": "about:blank"})  # the page of a new window has requests of its own

    def _post(self, path: str, body: dict):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        # Without the proxies of the environment, which do not know this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def command(self, name: str, **parameters):
        """A command of the Chrome DevTools Protocol."""
        return self._post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        """Show a file in a window of this width, as a screen or as a printer would have it."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        self.command("Emulation.setScrollbarsHidden", hidden=media == "print")
        self.logged("performance")
        self.logged("browser")
        self._post("/url", {"url": path.as_uri()})

    def evaluate(self, script: str):
        """The value of a function's body."""
        return self._post("/execute/sync", {"script": script, "args": []})

    def logged(self, kind: str) -> list[dict]:
        """What was logged since it was last asked for: `browser` is the console, `performance` has the requests."""
        return self._post("/se/log", {"type": kind})

    def requested(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        messages = (json.loads(entry["message"])["message"] for entry in self.logged("performance"))
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write what is shown as PNG, for a look at a page."""
        made = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))

    def close(self) -> None:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                urllib.request.Request(self.url, method="DELETE"), timeout=PATIENCE
            ).close()
        finally:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process.stdout.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    driver, binary = shutil.which("chromedriver"), next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or binary is None:
        pytest.skip(
            "no browser is installed; Chromium and chromedriver look at the page, as `apt install chromium-driver` has"
        )
    opened = Browser(driver, binary, tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()
