"""Routes of organisations: settings, set-up, more of them. The v4 contract has none of them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.browser import browser_of
from services.gateway.requests.open_route import OpenRoute
from services.gateway.requests.route import BodyRoute
from services.gateway.routes.access.begun_session import begin_session
from services.gateway.schemas.access.organisations import (
    CreateOrganisationRequest,
    OrganisationResponse,
    SetUpRequest,
    SetupStateResponse,
    UpdateOrganisationRequest,
    organisation_response,
)
from services.gateway.schemas.access.sessions import SignedInResponse
from shared.contracts.access.organisations import (
    CreateOrganisation,
    GetOrganisation,
    GetSetupState,
    SetUp,
    UpdateOrganisation,
)
from shared.contracts.permissions import EDIT_ORGANISATION
from shared.contracts.principal import Principal

router = APIRouter(tags=["Organisation"], route_class=BodyRoute)
open_router = APIRouter(tags=["Organisation"], route_class=OpenRoute)

AdminDep = Annotated[Principal, Depends(require(EDIT_ORGANISATION))]


@router.get("/organization", summary="The settings of your organisation")
async def get_organisation(caller: AdminDep, gateway: GatewayDep) -> OrganisationResponse:
    """What Admins may change."""
    return organisation_response(await gateway.bus.request(GetOrganisation(principal=caller)))


@router.patch("/organization", summary="Change the settings of your organisation")
async def update_organisation(
    body: UpdateOrganisationRequest, caller: AdminDep, gateway: GatewayDep
) -> OrganisationResponse:
    """409 if the slug is another's."""
    command = UpdateOrganisation(principal=caller, name=body.name, slug=body.slug, trusted_domains=body.trusted_domains)
    return organisation_response(await gateway.bus.request(command))


@router.post("/organizations", status_code=201, summary="Create another organisation")
async def create_organisation(
    body: CreateOrganisationRequest, caller: AdminDep, gateway: GatewayDep
) -> OrganisationResponse:
    """You are its Admin. Act in it by `POST /api/auth/organization`."""
    return organisation_response(await gateway.bus.request(CreateOrganisation(principal=caller, name=body.name)))


@open_router.get("/setup", summary="How people sign in here, and whether there is an organisation")
async def get_setup_state(gateway: GatewayDep) -> SetupStateResponse:
    """For the page before sign-in."""
    return SetupStateResponse(**(await gateway.bus.request(GetSetupState())).model_dump())


@open_router.post("/setup", status_code=201, summary="Create the first organisation and its Admin")
async def set_up(body: SetUpRequest, gateway: GatewayDep, request: Request, response: Response) -> SignedInResponse:
    """Needs the token that the operator set as EVERLOOP_SETUP_TOKEN. 409 once there is an organisation."""
    gateway.authenticator.cookie.check_origin(request.headers)
    command = SetUp(
        token=body.token.get_secret_value(),
        organisation_name=body.organization_name,
        email=body.email,
        full_name=body.full_name,
        password=body.password.get_secret_value(),
        browser=browser_of(request, gateway.trusted_proxies),
    )
    signed_in = await gateway.bus.request(command)
    return await begin_session(signed_in, gateway.bus, gateway.authenticator.cookie, response)
