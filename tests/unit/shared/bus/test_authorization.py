"""Every query and command is refused by the service that answers it, if its principal may not send it."""

from typing import Any

import pytest

from shared.bus.authorization import authorize_request
from shared.contracts.message import Command, Query
from shared.contracts.permissions import ROLES
from shared.contracts.principal import Principal, Role, Service
from shared.errors import Denied
from tests.contract_modules import contract_modules

SERVICES: tuple[Service, ...] = ("authz", "evaluation", "gateway", "generation", "logging")
MESSAGES: dict[str, type[Query[Any] | Command[Any]]] = {
    name: cls
    for module in contract_modules()
    for name, cls in vars(module).items()
    if isinstance(cls, type)
    and cls.__module__ == module.__name__
    and issubclass(cls, Query | Command)
    and cls.__dict__.get("subject")
}


def sent_by(name: str, principal: Principal | None) -> Any:
    """Return a message with this principal, and no other field."""
    return MESSAGES[name].model_construct(principal=principal, organisation="tm_1")


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 40


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_names_who_may_send_it(name: str) -> None:
    message = MESSAGES[name]
    assert message.permission or message.services, "name a permission, or the services that send it"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_role_sends_what_its_permissions_allow(name: str, role: Role) -> None:
    message = sent_by(name, Principal(organisation="tm_1", role=role))
    permission = MESSAGES[name].permission
    if permission is not None and role in permission.roles:
        authorize_request(message)
    else:
        with pytest.raises(Denied):
            authorize_request(message)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_service_sends_what_names_it(name: str, service: Service) -> None:
    message = sent_by(name, Principal.for_service(service, "tm_1"))
    if service in MESSAGES[name].services:
        authorize_request(message)
    else:
        with pytest.raises(Denied, match=f"{service} may not send {name}"):
            authorize_request(message)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(
    "nobody",
    [None, Principal(organisation="tm_1"), Principal(organisation="tm_1", kind="service", service=None)],
    ids=["no principal", "no role", "a service without a name"],
)
def test_whoever_is_nobody_sends_nothing(name: str, nobody: Principal | None) -> None:
    with pytest.raises(Denied):
        authorize_request(sent_by(name, nobody))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_service_that_takes_a_role_is_refused(name: str) -> None:
    taken = Principal(organisation="tm_1", kind="service", service="gateway", role="Admin")
    with pytest.raises(Denied):
        authorize_request(sent_by(name, taken))
