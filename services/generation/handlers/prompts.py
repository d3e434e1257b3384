"""`.prompt` files: written from configs and read into them.

In a thread: a long file takes a while, and other calls should not wait for it.
"""

import asyncio

from services.generation.deps import Deps
from services.generation.projects import versions
from services.generation.templates import promptfile
from shared import ids
from shared.bus import Router
from shared.contracts.generation.prompts import DeserializePrompt, PromptFile, SerializePrompt, UnsavedConfig

router: Router[Deps] = Router()


@router.request_handler(SerializePrompt)
async def serialize(query: SerializePrompt, _: Deps) -> PromptFile:
    """The file of a config."""
    return PromptFile(text=await asyncio.to_thread(promptfile.serialize, query.config))


@router.request_handler(DeserializePrompt, workers=8)
async def deserialize(query: DeserializePrompt, _: Deps) -> UnsavedConfig:
    """The config of a file."""
    config = await asyncio.to_thread(promptfile.deserialize, query.text)
    return UnsavedConfig(
        id=ids.derive("config", query.organisation, "prompt file", versions.canonical_json(config)), config=config
    )
