"""After sign-in the browser goes to a path of this server, whatever it was asked."""

import pytest

from services.authz.oidc.sign_in import path_of_ours


@pytest.mark.parametrize("path", ["/", "/projects/pr_1?tab=logs#x", "/a//b", "/@evil.example", "/http://evil.example"])
def test_paths_of_ours_stay(path: str) -> None:
    assert path_of_ours(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "projects", "https://evil.example", "//evil.example", "///evil.example", "/\\evil.example",
        "\\/evil.example", "/\t/evil.example", "/\n/evil.example", "/a\\b", "/\r\nSet-Cookie: a=b",
        "javascript:alert(1)", "/\u2028x", "/é",
    ],
)  # fmt: skip
def test_what_a_browser_might_take_for_another_host_does_not(path: str) -> None:
    assert path_of_ours(path) == "/"
