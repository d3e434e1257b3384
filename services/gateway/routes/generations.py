"""Calling a model: chat and completion, with an inline, a registered or a deployed config."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError

from services.gateway import sse
from services.gateway.deps import Gateway, GatewayDep, require
from services.gateway.disconnect import cancel_on_disconnect
from services.gateway.requests.route import BodyRoute
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
from services.gateway.session_inheritance import get_session_of_log
from shared.contracts.generation.generations import Chunk, Generate, Generation
from shared.contracts.principal import Principal
from shared.errors import Internal, Invalid
from shared.permissions import EDIT_PROMPTS

router = APIRouter(route_class=BodyRoute)
CallerDep = Annotated[Principal, Depends(require(EDIT_PROMPTS))]


@router.post("/chat", response_model=ChatResponse, tags=["Chats"], summary="Chat with the config in the call")
async def chat(body: ChatRequest, caller: CallerDep, gateway: GatewayDep, request: Request) -> Response:
    """The config becomes a version of the project, the answer a log."""
    return await _chat(body, caller, gateway, request)


@router.post("/chat-deployed", response_model=ChatResponse, tags=["Chats"], summary="Chat with what is deployed")
async def chat_deployed(
    body: ChatDeployedRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """The config deployed in `environment`, or in the default one."""
    return await _chat(body, caller, gateway, request)


@router.post("/chat-model-config", response_model=ChatResponse, tags=["Chats"], summary="Chat with a registered config")
async def chat_model_config(
    body: ChatModelConfigRequest, caller: CallerDep, gateway: GatewayDep, request: Request
) -> Response:
    """The config with the id `model_config_id`."""
    return await _chat(body, caller, gateway, request)


@router.post(
    "/completion",
    response_model=CompletionResponse,
    tags=["Completions"],
    summary="Complete with the config in the call",
)
async def completion(body: CompletionRequest, caller: CallerDep, gateway: GatewayDep, request: Request) -> Response:
    """The config becomes a version of the project, the answer a log."""
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
    """The config deployed in `environment`, or in the default one."""
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
    """The config with the id `model_config_id`."""
    return await _complete(body, caller, gateway, request)


async def _chat(body: AnyChat, caller: Principal, gateway: Gateway, request: Request) -> Response:
    command = await _command(body, caller, gateway, request)
    if command.stream:
        return await cancel_on_disconnect(request, sse.event_stream_response(_events(gateway, command, chat=True)))
    whole = _whole(gateway, command, lambda generation: chat_response(generation, body))
    return await cancel_on_disconnect(request, whole)


async def _complete(body: AnyCompletion, caller: Principal, gateway: Gateway, request: Request) -> Response:
    command = await _command(body, caller, gateway, request)
    if command.stream:
        return await cancel_on_disconnect(request, sse.event_stream_response(_events(gateway, command, chat=False)))
    whole = _whole(gateway, command, lambda generation: completion_response(generation, body))
    return await cancel_on_disconnect(request, whole)


async def _command(body: GenerateRequest, caller: Principal, gateway: Gateway, request: Request) -> Generate:
    """The command, with the request's own provider keys encrypted, in the session of its parent if it names none."""
    sealed = None
    if given := request.state.provider_api_keys:
        try:
            keys = ProviderApiKeys.model_validate(given).model_dump(exclude_none=True)
        except ValidationError:  # its text would repeat the keys
            names = ", ".join(ProviderApiKeys.model_fields)
            raise Invalid(
                f"provider_api_keys must be an object with any of {names} or another provider's name; each is a key of "
                "visible ASCII characters."
            ) from None
        sealed = gateway.secret_box.encrypt(keys) if keys else None
    command = body.command(caller).model_copy(update={"sealed_keys": sealed})
    if command.session_id is None and command.parent_id is not None:
        session_id = await get_session_of_log(gateway.bus, caller.organisation, command.parent_id)
        command = command.model_copy(update={"session_id": session_id})
    return command


async def _whole(gateway: Gateway, command: Generate, prepare: Callable[[Generation], BaseModel]) -> Response:
    """The answer, prepared as soon as it is known and given when its logs are durable."""
    response = None
    async with aclosing(gateway.bus.stream_request(command)) as answers:
        async for answer in answers:
            if isinstance(answer, Generation):
                response = _json(prepare(answer))
                for sample in answer.samples:
                    gateway.project_cache.set_project_of_log(command.organisation, sample.id, answer.project_id)
    if response is None:
        raise Internal("The generation ended without an answer.")
    return response


async def _events(gateway: Gateway, command: Generate, *, chat: bool) -> AsyncIterator[BaseModel]:
    async with aclosing(gateway.bus.stream_request(command, Chunk)) as answers:
        async for answer in answers:
            if isinstance(answer, Chunk):
                gateway.project_cache.set_project_of_log(command.organisation, answer.sample.id, answer.project_id)
                yield stream_event(answer, chat=chat)


def _json(answer: BaseModel) -> Response:
    """Validated when it was made; FastAPI need not do it again."""
    return Response(answer.model_dump_json(), media_type="application/json")
