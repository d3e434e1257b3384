"""A service refuses a principal whose key is limited to projects, unless the message says how it is answered."""

import pytest

from shared.bus.authorization import authorize_request
from shared.contracts.generation.projects import DeleteProject, GetProject
from shared.contracts.logs import GetUses
from shared.errors import Denied, NotFound
from tests.principals import member

LIMITED = member("tm_1").model_copy(update={"projects": ("pr_1",)})


def test_a_message_that_does_not_say_how_is_refused() -> None:
    with pytest.raises(Denied, match="limited to projects"):
        authorize_request(DeleteProject(principal=LIMITED, id="pr_1"))


def test_another_project_is_not_there() -> None:
    authorize_request(GetProject(principal=LIMITED, id="pr_1"))
    with pytest.raises(NotFound, match="There is no project 'pr_2'"):
        authorize_request(GetProject(principal=LIMITED, id="pr_2"))


def test_one_of_several_projects_is_not_there() -> None:
    with pytest.raises(NotFound, match="There is no project 'pr_2'"):
        authorize_request(GetUses(principal=LIMITED, project_ids=["pr_1", "pr_2"]))


def test_a_principal_without_a_limit_is_not_refused() -> None:
    authorize_request(GetProject(principal=member("tm_1"), id="pr_2"))
