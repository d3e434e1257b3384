"""The wire language of Google's Gemini API.

https://ai.google.dev/api/generate-content · tools: https://ai.google.dev/gemini-api/docs/function-calling ·
signatures: https://ai.google.dev/gemini-api/docs/thought-signatures, 2026-11
"""

from services.generation.providers.dialects.gemini.reply import (
    read_error,
    read_event,
    read_response,
    read_usage,
    write_response,
)
from services.generation.providers.dialects.gemini.request import body, check, headers, url

__all__ = [
    "body",
    "check",
    "headers",
    "read_error",
    "read_event",
    "read_response",
    "read_usage",
    "url",
    "write_response",
]
