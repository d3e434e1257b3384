"""Answers queries that serialize configs as `.prompt` files and parse such files.

In a thread: a long file takes a while and would block the event loop.
"""

import asyncio

from services.generation.deps import Deps
from services.generation.projects import versions
from services.generation.templates import promptfile
from shared import ids
from shared.bus import Router
from shared.contracts.generation.prompts import DeserializePrompt, PromptFile, SerializePrompt, UnsavedConfig

router: Router[Deps] = Router()


@router.answers(SerializePrompt)
async def serialize(query: SerializePrompt, _: Deps) -> PromptFile:
    """Return the `.prompt` file of a config."""
    return PromptFile(text=await asyncio.to_thread(promptfile.serialize, query.config))


@router.answers(DeserializePrompt, workers=8)
async def deserialize(query: DeserializePrompt, _: Deps) -> UnsavedConfig:
    """Return the config of a `.prompt` file, with an id derived from its content. Raises Invalid with the line."""
    config = await asyncio.to_thread(promptfile.deserialize, query.text)
    return UnsavedConfig(
        id=ids.derive("config", query.organisation, "prompt file", versions.canonical_json(config)), config=config
    )
