"""An organisation that goes on with its ordinary calls while another one, or nobody known, attacks."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from tests.calls import reference

_PAUSE_SECONDS = 0.1
"""Between two rounds of calls: an application, not a load test."""
_TLS = ssl.create_default_context()
"""Made once, though plain HTTP needs none: httpx else loads all certificates for each call, 25 ms of processor time."""


class Call(NamedTuple):
    """One call of the victim."""

    name: str
    status: int
    """0: no answer."""
    seconds: float
    text: str


@dataclass
class Victim:
    """Calls with a key of its own: a chat, a log and a read of that log, again and again."""

    url: str
    """Of the v4 API."""
    api_key: str
    calls: list[Call] = field(default_factory=list)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call from a thread as long as the block runs. Raises AssertionError unless every call answered 200."""
        stop = threading.Event()
        self.calls.clear()
        thread = threading.Thread(target=self._run, args=(stop,), daemon=True)
        self._round()  # the project exists, and connections are made, before the attack
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
        longest = max(self.calls, key=lambda call: call.seconds)
        print(f"{len(self.calls)} calls of the victim; the longest took {longest.seconds:.2f} s ({longest.name})")
        failed = [call for call in self.calls if call.status != 200]
        assert not failed, failed
        assert len(self.calls) > 3, "the attack was over before the victim called"

    @property
    def longest_seconds(self) -> float:
        """How long the slowest call took."""
        return max(call.seconds for call in self.calls)

    def _run(self, stop: threading.Event) -> None:
        self._round()  # begins with the attack, however short that is
        while not stop.wait(_PAUSE_SECONDS):
            self._round()

    def _round(self) -> None:
        chat = {"project": "victim", "model_config": {"provider": "mock", "model": "mock"}}
        self._call("chat", "POST", "/chat", json=chat | {"messages": [{"role": "user", "content": "Where is it?"}]})
        name = reference()
        log = {"project": "victim", "config": {"type": "tool", "name": "search"}, "output": "found"}
        response = self._call("log", "POST", "/logs", json=log | {"reference_id": name})
        if response is not None and response.status_code == 200:
            self._call("read", "GET", f"/logs/{response.json()['id']}")

    def _call(self, name: str, method: str, path: str, **fields: Any) -> httpx.Response | None:
        # Each call is a connection of its own: whoever keeps one open is not hit by what keeps others from connecting.
        start = time.monotonic()
        try:
            response = httpx.request(
                method, f"{self.url}{path}", headers={"X-API-KEY": self.api_key}, timeout=30, verify=_TLS, **fields
            )
        except httpx.HTTPError as error:
            self.calls.append(Call(name, 0, time.monotonic() - start, repr(error)))
            return None
        seconds = time.monotonic() - start
        self.calls.append(Call(name, response.status_code, seconds, response.text if response.is_error else ""))
        return response
