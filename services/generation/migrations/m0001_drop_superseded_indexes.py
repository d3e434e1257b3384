"""Drops two unique indexes that others have replaced, because they forbid what is allowed now.

`projects`: two projects may have one name if one is being deleted. `deployments`: an environment of a project has one
document for each change, not one in all.
"""

from pymongo.errors import OperationFailure

from shared.mongo import Database

_INDEX_NOT_FOUND = 27
_COLLECTION_NOT_FOUND = 26


async def run(database: Database) -> None:
    """Drop the indexes if they exist; a new database does not have them."""
    for collection, index in (
        ("projects", "organisation_1_name_1"),
        ("deployments", "organisation_1_project_id_1_environment_id_1"),
    ):
        try:
            await database[collection].drop_index(index)
        except OperationFailure as error:
            if error.code not in {_INDEX_NOT_FOUND, _COLLECTION_NOT_FOUND}:
                raise
