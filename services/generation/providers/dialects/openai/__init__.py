"""The wire language of OpenAI and of everything that speaks it.

Chat: https://platform.openai.com/docs/api-reference/chat · completions: …/completions · streams: …/chat-streaming
"""

from services.generation.providers.dialects.openai.reply import (
    read_error,
    read_event,
    read_response,
    read_usage,
    write_response,
)
from services.generation.providers.dialects.openai.request import body, headers, url

__all__ = [
    "body",
    "headers",
    "read_error",
    "read_event",
    "read_response",
    "read_usage",
    "url",
    "write_response",
]
