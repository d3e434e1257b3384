"""The wire language of AWS Bedrock's Converse API, which is one for all its models.

Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html · streams:
…/API_runtime_ConverseStream.html (2026-11, with the service model of botocore 1.44). Framing, signing and addresses:
`aws.py`.
"""

from services.generation.providers.dialects.bedrock.reply import (
    read_error,
    read_event,
    read_response,
    read_usage,
    write_response,
)
from services.generation.providers.dialects.bedrock.request import body, check, headers, url

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
