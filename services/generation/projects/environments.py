"""The environments of an organisation: names are unique, and exactly one of them is the default one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from services.generation.store import EnvironmentStore, StoredEnvironments
from shared import ids
from shared.contracts.deployments import Environment
from shared.errors import Conflict, Invalid, NotFound

DEFAULT_NAME = "production"
"""Every organisation begins with it (behaviour.md §10)."""
_LONGEST_NAME = 100
_MOST = 100
"""They are kept in one document and listed with every project."""


@dataclass(frozen=True)
class EnvironmentSet:
    """All of them, as of one moment. They are one value, so that what is true of all of them stays true."""

    organisation: str
    places: tuple[Environment, ...]
    revision: int = 0
    """Counts the changes; a change is saved only onto the revision it was decided on. 0: nothing is saved yet."""

    def __iter__(self) -> Iterator[Environment]:
        """The default one first, the others by age."""
        return iter(sorted(self.places, key=lambda place: not place.default))

    @property
    def default(self) -> Environment:
        """The one that is meant when none is named."""
        return next(place for place in self.places if place.default)

    def get(self, environment_id: str) -> Environment:
        """By id. Errors: NotFound."""
        for place in self.places:
            if place.id == environment_id:
                return place
        raise NotFound(f"There is no environment {environment_id!r}.")

    def named(self, name: str | None) -> Environment:
        """By name; the default one if None. Errors: NotFound."""
        if name is None:
            return self.default
        for place in self.places:
            if place.name == name:
                return place
        raise NotFound(f"There is no environment {name!r}.")

    def with_new(self, environment_id: str, name: str, at: datetime) -> "EnvironmentSet":
        """After one was made; unchanged if it was made before. Errors: Conflict, Invalid."""
        if any(place.id == environment_id for place in self.places):
            return self
        if len(self.places) >= _MOST:
            raise Invalid(f"An organisation has at most {_MOST} environments.")
        new = Environment(id=environment_id, name=self._free(name), default=False, created_at=at)
        return self._changed((*self.places, new))

    def with_name(self, environment_id: str, name: str) -> "EnvironmentSet":
        """After one was renamed; unchanged if it has that name. Errors: NotFound, Conflict, Invalid."""
        place = self.get(environment_id)
        if place.name == name:
            return self
        return self._with(place.model_copy(update={"name": self._free(name)}))

    def with_default(self, environment_id: str) -> "EnvironmentSet":
        """After one was made the default one, in place of the former. Errors: NotFound."""
        if self.get(environment_id).default:
            return self
        return self._changed(
            tuple(place.model_copy(update={"default": place.id == environment_id}) for place in self.places)
        )

    def without(self, environment_id: str) -> "EnvironmentSet":
        """After one was deleted. Errors: NotFound, Conflict (the default one)."""
        if self.get(environment_id).default:
            raise Conflict("The default environment cannot be deleted. Make another one the default first.")
        return self._changed(tuple(place for place in self.places if place.id != environment_id))

    def _free(self, name: str) -> str:
        if not name.strip() or name != name.strip() or len(name) > _LONGEST_NAME:
            raise Invalid(
                f"The name of an environment has 1 to {_LONGEST_NAME} characters, and no space at its beginning or end."
            )
        if any(place.name == name for place in self.places):
            raise Conflict(f"There is an environment {name!r} already. Choose another name.")
        return name

    def _with(self, changed: Environment) -> "EnvironmentSet":
        return self._changed(tuple(changed if place.id == changed.id else place for place in self.places))

    def _changed(self, places: tuple[Environment, ...]) -> "EnvironmentSet":
        return replace(self, places=places, revision=self.revision + 1)


def first(organisation: str) -> EnvironmentSet:
    """What an organisation begins with. The id is derived: whoever looks first, it is the same environment."""
    place = Environment(id=ids.derive("env", organisation, DEFAULT_NAME), name=DEFAULT_NAME, default=True)
    return EnvironmentSet(organisation, (place,))


class Environments:
    """Reads and saves the environment set of an organisation."""

    def __init__(self, store: EnvironmentStore) -> None:
        self._store = store

    async def get(self, organisation: str) -> EnvironmentSet:
        """Return the environments of the organisation, the initial set if it never changed them."""
        stored = await self._store.get(organisation)
        return first(organisation) if stored is None else EnvironmentSet(organisation, *stored)

    async def save(self, changed: EnvironmentSet) -> bool:
        """Save one change; return False if another was saved since the set was read."""
        stored = StoredEnvironments(changed.places, changed.revision)
        return await self._store.save(changed.organisation, stored)
