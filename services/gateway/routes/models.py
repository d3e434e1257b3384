"""The route of the model catalogue."""

from fastapi import APIRouter, Depends

from services.gateway.deps import GatewayDep, require
from services.gateway.requests.route import BodyRoute
from services.gateway.schemas.models import ModelsResponse
from shared.contracts.generation.providers import ListModels
from shared.contracts.permissions import EDIT_PROMPTS

router = APIRouter(tags=["Models"], route_class=BodyRoute)


@router.get(
    "/models",
    summary="List the models, their limits, prices, and what they cannot do",
    dependencies=[Depends(require(EDIT_PROMPTS, limited=True))],
)
async def list_models(gateway: GatewayDep) -> ModelsResponse:
    """The same for every organisation."""
    catalogue = await gateway.bus.request(ListModels())
    return ModelsResponse(models=catalogue.models)
