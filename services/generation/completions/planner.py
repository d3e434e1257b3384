"""Plans a run: the provider requests to send first, and those to fallback models if one of them fails."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from services.generation import models
from services.generation.completions import image_inlining
from services.generation.completions.remote_images import RemoteImages
from services.generation.models.request import ModelRequest
from services.generation.providers.base import PreparedRequest
from services.generation.providers.requests import Providers
from shared.blobs import Blobs
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Problem


@dataclass(frozen=True)
class Plan:
    """The provider requests of one run."""

    requests: list[PreparedRequest]
    """To the model that is served; their samples, in this order, are the samples of the run."""
    fallback_requests: Callable[[], AsyncGenerator[PreparedRequest, None]]
    """Yields a request for one sample to each fallback model in order, prepared only when it is asked for."""
    single_request: Callable[[], Awaitable[PreparedRequest]]
    """Returns a request for one sample to the model that is served, prepared only when it is asked for."""


class Planner:
    """Prepares the provider requests of one run: images, token budget, address and key."""

    def __init__(
        self,
        organisation: str,
        keys: Mapping[str, str],
        providers: Providers,
        blobs: Blobs,
        images: RemoteImages,
        acquire: image_inlining.Acquire,
    ) -> None:
        """`keys` are the provider keys of the call, by name; `images` fetches once for all models of the run; `acquire`
        waits for memory for image data, which the run holds until it ends."""
        self._acquire = acquire
        self._organisation = organisation
        self._keys = keys
        self._providers = providers
        self._blobs = blobs
        self._images = images

    async def plan(self, request: ModelRequest, configs: Sequence[ModelConfig]) -> Plan:
        """Return the requests to `configs[0]`; the other configs are its fallbacks. Raises as `prepare` does."""
        served, *fallbacks = configs
        requests = await self.prepare(replace(request, config=served))
        return Plan(
            requests,
            partial(self.fallback_requests, request, fallbacks),
            partial(self._single_request, replace(request, config=served)),
        )

    async def _single_request(self, request: ModelRequest) -> PreparedRequest:
        return (await self.prepare(replace(request, samples=1)))[0]

    async def fallback_requests(
        self, request: ModelRequest, configs: Sequence[ModelConfig]
    ) -> AsyncGenerator[PreparedRequest, None]:
        """Yield a request for one sample to each config; one that cannot serve it (feature, key, image) is skipped."""
        for config in configs:
            with suppress(Problem):
                yield (await self.prepare(replace(request, config=config, samples=1)))[0]

    async def prepare(self, request: ModelRequest) -> list[PreparedRequest]:
        """Return what to send so that `request.samples` samples come back.

        Raises Invalid, Unauthenticated (no key), TooLarge, UpstreamFailed or Unavailable (images).
        """
        request = await self._with_image_data(request)
        request = await self._with_token_budget(request)
        requests = self._providers.prepare(request, self._keys)
        return await image_inlining.inline_images(requests, self._organisation, self._blobs, self._acquire)

    async def _with_image_data(self, request: ModelRequest) -> ModelRequest:
        """Fetch images given by URL if the provider takes image data only."""
        if not self._providers.spec(request.config).inline_images:
            return request
        return await self._images.inline(request, self._validate)

    async def _with_token_budget(self, request: ModelRequest) -> ModelRequest:
        """Count what is left of the context window if the provider needs a number; counting runs in a thread."""
        if not self._providers.needs_token_budget(request):
            return request
        return replace(
            request, remaining_output_tokens=await asyncio.to_thread(models.count_remaining_output_tokens, request)
        )

    async def _validate(self, request: ModelRequest) -> None:
        """Raise what would refuse the request anyway, before any image is fetched."""
        requests = self._providers.prepare(request, self._keys)
        await image_inlining.check_images(requests, self._organisation, self._blobs)
