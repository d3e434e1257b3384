"""A local fake server for a web search API, so that the example needs no account anywhere.

Responses have two fields of SerpAPI's: `answer_box.answer`, which the example reads, and `organic_results`.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

_ANSWERS = {
    "eurovision": "Sweden won the Eurovision Song Contest 2023 with the song Tattoo by Loreen.",
    "everest": "Mount Everest is 8,849 metres high.",
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        question = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
        answer = next((text for keyword, text in _ANSWERS.items() if keyword in question.lower()), "Nobody knows.")
        body = json.dumps({"answer_box": {"answer": answer}, "organic_results": [{"snippet": answer}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing, so that only the example's own output is seen."""


def start_server() -> str:
    """Serve on a free loopback port in a background thread and return the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def search(base_url: str, question: str) -> str:
    """Return the answer to a question, as `get_dict()["answer_box"]["answer"]` of a SerpAPI client does."""
    with urlopen(f"{base_url}/search.json?{urlencode({'q': question})}", timeout=10) as response:  # noqa: S310
        return str(json.load(response)["answer_box"]["answer"])
