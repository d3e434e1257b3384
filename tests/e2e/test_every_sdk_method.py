"""Every public method of the three clients works, or is named here as one that is not there."""

import re

import pytest

from tests.calls import reference
from tests.sdk_scripts import SdkScripts

NOT_THERE = (
    r"datapoints\..*",
    r"datasets\..*",
    r"evaluations\..*",
    r"evaluators\..*",
    r"experiments\..*",
    r"finetunes\..*",
    r"projects\.a?deactivate_experiment",
    r"(chats|completions)\.a?create_experiment",
    r"a?(chat|complete)_experiment",
)
"""Methods whose operations are a 404 or a 405. Those from `experiments` on are no longer in the published contract."""
BROKEN_IN_THE_CLIENT = {
    "get_configs": "AttributeError",
    "aget_configs": "AttributeError",
    "chat_experiment_stream": "",
    "complete_experiment_stream": "",
}
"""They send nothing, or swallow every error."""
BROKEN_IN_SDK700 = {"model_configs.serialize": "", "model_configs.aserialize": ""}
"""It refuses its own `provider_api_keys` before it sends anything."""


@pytest.mark.parametrize(("sdk", "methods"), [("sdk735", 100), ("sdk700", 120), ("sdk518", 110)])
def test_every_public_method_is_answered(sdk: str, methods: int, request: pytest.FixtureRequest) -> None:
    scripts: SdkScripts = request.getfixturevalue(sdk)
    outcomes: dict[str, str] = scripts.run("every_method.py", project=f"every-{reference()}")
    assert len(outcomes) > methods
    broken = BROKEN_IN_THE_CLIENT | (BROKEN_IN_SDK700 if sdk == "sdk700" else {})
    unexpected = {}
    for name, outcome in outcomes.items():
        not_there = any(re.fullmatch(pattern, name) for pattern in NOT_THERE)
        expected = ("404", "405") if not_there else ("ok",)
        if outcome not in expected and not (name in broken and outcome.startswith(broken[name])):
            unexpected[name] = outcome
    assert not unexpected
