"""Drop two unique indexes that others have taken the place of: they forbid what is allowed now.

Names of `projects` were unique even of projects being deleted; `deployments` had one document a place, and has one a
change now.
"""

from pymongo.errors import OperationFailure

from shared.mongo import Database

_INDEX_NOT_FOUND = 27
_COLLECTION_NOT_FOUND = 26


async def run(database: Database) -> None:
    """Drop them where they are; a new database does not have them."""
    for collection, index in (
        ("projects", "organisation_1_name_1"),
        ("deployments", "organisation_1_project_id_1_environment_id_1"),
    ):
        try:
            await database[collection].drop_index(index)
        except OperationFailure as error:
            if error.code not in {_INDEX_NOT_FOUND, _COLLECTION_NOT_FOUND}:
                raise
