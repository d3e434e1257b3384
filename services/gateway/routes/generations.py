"""Routes of chats and completions, each with an inline, a registered or a deployed config."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError

from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.disconnect import cancel_on_disconnect
from services.gateway.requests.route import BodyRoute
from services.gateway.responses import sse
from services.gateway.responses.openapi import PROVIDER_FAILURES
from services.gateway.schemas.generation_responses import (
    ChatResponse,
    CompletionResponse,
    chat_response,
    completion_response,
    stream_event,
)
from services.gateway.schemas.generations import (
    AnyChat,
    AnyCompletion,
    ChatDeployedRequest,
    ChatModelConfigRequest,
    ChatRequest,
    CompletionDeployedRequest,
    CompletionModelConfigRequest,
    CompletionRequest,
    GenerateRequest,
    ProviderApiKeys,
)
from services.gateway.session_inheritance import check_no_parent, get_session_of_log
from shared.contracts.generation.generations import Chunk, Generate, Generation
from shared.contracts.permissions import EDIT_PROMPTS
from shared.contracts.principal import Principal
from shared.errors import Internal, Invalid

_EVENT = {"type": "string", "contentMediaType": "application/json"}
_STREAM = {
    "content": {sse.MEDIA_TYPE: {"schema": {"type": "object", "required": ["data"], "properties": {"data": _EVENT}}}}
}
"""Of a call with `stream`: an object for each event, as OpenAPI 3.2 describes them."""
router = APIRouter(route_class=BodyRoute, responses=PROVIDER_FAILURES | {200: _STREAM})
CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS, limited=True))]


@router.post("/chat", response_model=ChatResponse, tags=["Chats"], summary="Chat with the config in the call")
async def chat(body: ChatRequest, caller: CallerDep, gateway: GatewayDep, request: Request) -> Response:
    """Registers the config in the project and logs the generation."""
    return await _chat(body, caller, gateway, request)


@router.post("/chat-deployed", response_model=ChatResponse, tags=["Chats"], summary="Chat with what is deployed")
async def chat_deployed(
    body: ChatDeployedRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """Uses the config deployed in `environment`, by default in the default environment."""
    return await _chat(body, caller, gateway, request)


@router.post("/chat-model-config", response_model=ChatResponse, tags=["Chats"], summary="Chat with a registered config")
async def chat_model_config(
    body: ChatModelConfigRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """Uses the registered config with the id `model_config_id`."""
    return await _chat(body, caller, gateway, request)


@router.post(
    "/completion",
    response_model=CompletionResponse,
    tags=["Completions"],
    summary="Complete with the config in the call",
)
async def completion(body: CompletionRequest, caller: CallerDep, gateway: GatewayDep, request: Request) -> Response:
    """Registers the config in the project and logs the generation."""
    return await _complete(body, caller, gateway, request)


@router.post(
    "/completion-deployed",
    response_model=CompletionResponse,
    tags=["Completions"],
    summary="Complete with what is deployed",
)
async def completion_deployed(
    body: CompletionDeployedRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """Uses the config deployed in `environment`, by default in the default environment."""
    return await _complete(body, caller, gateway, request)


@router.post(
    "/completion-model-config",
    response_model=CompletionResponse,
    tags=["Completions"],
    summary="Complete with a registered config",
)
async def completion_model_config(
    body: CompletionModelConfigRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """Uses the registered config with the id `model_config_id`."""
    return await _complete(body, caller, gateway, request)


async def _chat(body: AnyChat, caller: Principal, gateway: Gateway, request: Request) -> Response:
    command = await _create_command(body, caller, gateway, request)
    if command.stream:
        return await _stream(gateway, request, _stream_events(gateway, command, chat=True))
    return await _respond(gateway, request, command, lambda generation: chat_response(generation, body))


async def _complete(body: AnyCompletion, caller: Principal, gateway: Gateway, request: Request) -> Response:
    command = await _create_command(body, caller, gateway, request)
    if command.stream:
        return await _stream(gateway, request, _stream_events(gateway, command, chat=False))
    return await _respond(gateway, request, command, lambda generation: completion_response(generation, body))


async def _create_command(body: GenerateRequest, caller: Principal, gateway: Gateway, request: Request) -> Generate:
    """Return the command, with the request's provider keys encrypted, and its parent's session if it names none.

    Raises Invalid if `provider_api_keys` is not an object of keys.
    """
    encrypted_keys = None
    if provider_api_keys := request.state.provider_api_keys:
        try:
            keys = ProviderApiKeys.model_validate(provider_api_keys).model_dump(exclude_none=True)
        except ValidationError:  # its message would contain the keys
            names = ", ".join(ProviderApiKeys.model_fields)
            raise Invalid(
                f"provider_api_keys must be an object with any of {names} or another provider's name; each is a key of "
                "visible ASCII characters."
            ) from None
        encrypted_keys = gateway.secret_box.encrypt(keys) if keys else None
    command = body.command(caller).model_copy(update={"sealed_keys": encrypted_keys})
    check_no_parent(caller, command.parent_id)
    if command.session_id is None and command.parent_id is not None:
        session_id = await get_session_of_log(gateway.bus, caller.organisation, command.parent_id)
        command = command.model_copy(update={"session_id": session_id})
    return command


async def _stream(gateway: Gateway, request: Request, events: AsyncIterator[BaseModel]) -> Response:
    """Return the streamed response of `events`, which ends when the key is revoked."""
    guard = partial(gateway.authenticator.until_revoked, request)
    return await cancel_on_disconnect(request, sse.event_stream_response(events, guard))


async def _respond(
    gateway: Gateway, request: Request, command: Generate, to_response: Callable[[Generation], BaseModel]
) -> Response:
    """Return the response. Raises Unauthenticated if the key is revoked before."""
    async with gateway.authenticator.until_revoked(request):
        return await cancel_on_disconnect(request, _whole_response(gateway, command, to_response))


async def _whole_response(
    gateway: Gateway, command: Generate, to_response: Callable[[Generation], BaseModel]
) -> Response:
    """Return the response, serialized while generation writes the logs, and returned when they are durable.

    Raises Internal if generation's reply has no `Generation`.
    """
    response = None
    async with aclosing(gateway.bus.stream_request(command)) as messages:
        async for message in messages:
            if isinstance(message, Generation):
                response = _json_response(to_response(message))
                for sample in message.samples:
                    gateway.project_cache.set_project_of_log(command.organisation, sample.id, message.project_id)
    if response is None:
        raise Internal("The generation ended without an answer.")
    return response


async def _stream_events(gateway: Gateway, command: Generate, *, chat: bool) -> AsyncIterator[BaseModel]:
    """Yield the events of a streamed response, and cache to which project its logs belong."""
    async with aclosing(gateway.bus.stream_request(command, Chunk)) as messages:
        async for message in messages:
            if isinstance(message, Chunk):
                gateway.project_cache.set_project_of_log(command.organisation, message.sample.id, message.project_id)
                yield stream_event(message, chat=chat)


def _json_response(model: BaseModel) -> Response:
    """Return `model` as JSON. A returned model FastAPI would validate once more, which takes time."""
    return Response(model.model_dump_json(), media_type="application/json")
