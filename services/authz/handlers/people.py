"""Answers the operator, whose user alone may publish these: `everloop user`. They always lead back in."""

from services.authz.credentials.random_secrets import generate_password
from services.authz.deps import Deps
from services.authz.membership.emails import find_email, normalize_email
from shared.bus import Router
from shared.contracts.access.account import AddPerson, ListPeople, NewPassword, People, SetPassword
from shared.errors import Conflict, Invalid, NotFound

router = Router[Deps]()


@router.answers(ListPeople)
async def list_people(_: ListPeople, deps: Deps) -> People:
    """Return everybody with their organisations."""
    return People(people=[await deps.accounts.describe(user) for user in await deps.stores.users.list()])


@router.answers(AddPerson)
async def add_person(command: AddPerson, deps: Deps) -> NewPassword:
    """Make somebody a member, and create them if there is nobody with the address. Their password is returned."""
    organisation = await _find_organisation(command.organisation, deps)
    known = await deps.stores.users.find_by_email(normalize_email(command.email))
    password = command.password or generate_password()
    user = known or await deps.accounts.new(command.email, command.full_name, password)
    added = await deps.joining.add(
        organisation, user, command.role, is_new=known is None, by=None, reason="added by the operator"
    )
    if not added:
        raise Conflict(f"{user.email} is a member of {organisation} already; `everloop user list` shows the role.")
    return NewPassword(password="" if known else password)


@router.answers(SetPassword)
async def set_password(command: SetPassword, deps: Deps) -> NewPassword:
    """Set somebody's password and end their sessions. Raises NotFound."""
    user = await deps.stores.users.find_by_email(find_email(command.email))
    if user is None:
        raise NotFound(f"There is nobody with the address {command.email}. `everloop user list` shows who there is.")
    password = command.password or generate_password()
    await deps.accounts.set_password(user, password, field="password", by=None)
    return NewPassword(password=password)


async def _find_organisation(named: str | None, deps: Deps) -> str:
    """Return the id of the organisation with this id, slug or name; of the only one, if none is named."""
    organisations = await deps.stores.organisations.list_settings()
    if named is None and len(organisations) == 1:
        return organisations[0].id
    matching = [one.id for one in organisations if named in {one.id, one.slug, one.name}]
    if len(matching) != 1:
        names = ", ".join(f"{one.name} ({one.id})" for one in organisations) or "none: set Everloop up first"
        raise (NotFound if named else Invalid)(f"Name one of the organisations. There are: {names}.")
    return matching[0]
