"""A local fake server for a web search API, so that the example needs no account anywhere.

It speaks the two fields of SerpAPI's answer that the example reads: `answer_box.answer` and `organic_results`.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

_KNOWN = {
    "eurovision": "Sweden won the Eurovision Song Contest 2023 with the song Tattoo by Loreen.",
    "everest": "Mount Everest is 8,849 metres high.",
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        question = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
        answer = next((text for word, text in _KNOWN.items() if word in question.lower()), "Nobody knows.")
        body = json.dumps({"answer_box": {"answer": answer}, "organic_results": [{"snippet": answer}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the example's own output is what one wants to read."""


def start() -> str:
    """Serve on a free port in the background; returns the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def search(base_url: str, question: str) -> str:
    """What a search client's `get_dict()["answer_box"]["answer"]` gives."""
    with urlopen(f"{base_url}/search.json?{urlencode({'q': question})}", timeout=10) as response:  # noqa: S310
        return str(json.load(response)["answer_box"]["answer"])
