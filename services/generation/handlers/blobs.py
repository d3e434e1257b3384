"""Answers which blobs are in use here."""

from services.generation.deps import Deps
from shared.bus import Router
from shared.contracts.generation.blobs import GetHeldBlobs, HeldBlobs

router: Router[Deps] = Router()


@router.answers(GetHeldBlobs)
async def get_held_blobs(query: GetHeldBlobs, deps: Deps) -> HeldBlobs:
    """Return those of the blobs that a config version or a tool of the organisation names."""
    held = await deps.stores.versions.list_named_blobs(query.organisation, query.digests)
    held |= await deps.stores.tools.list_named_blobs(query.organisation, query.digests)
    return HeldBlobs(digests=sorted(held))
