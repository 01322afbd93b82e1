import pytest

from extauthz.access import check_route
from extauthz.access.errors import RouteDeniedError
from extauthz.keys import VirtualKey

MINT = "/v1/realtime/client_secrets"


@pytest.mark.parametrize(
    ("entries", "path", "admitted"),
    [
        # Realistic
        pytest.param((), MINT, True, id="no-list"),
        pytest.param(("llm_api_routes",), MINT, True, id="llm-api-routes"),
        pytest.param(("openai_routes",), MINT, True, id="openai-routes"),
        pytest.param(("info_routes",), MINT, False, id="info-routes"),
        pytest.param(("management_routes",), MINT, False, id="management-routes"),
        pytest.param(("/chat/completions",), MINT, False, id="another-path"),
        pytest.param((MINT,), MINT, True, id="exact"),
        pytest.param(("/v1/realtime",), MINT, True, id="below"),
        pytest.param(("/v1/*",), MINT, True, id="star"),
        pytest.param(("/chat/completions", "/v1/realtime"), MINT, True, id="one-of-two"),
        # Synthetic
        pytest.param(("/v1/realtime/",), MINT, False, id="below-with-a-slash"),
        pytest.param(("/v1/real",), MINT, False, id="part-of-a-name"),
        pytest.param(("/v1/real*",), MINT, True, id="part-of-a-name-and-star"),
        pytest.param((MINT,), "/realtime/client_secrets", False, id="same-endpoint-other-path"),
        pytest.param(("/realtime",), "/realtime/client_secrets", True, id="short-prefix"),
        pytest.param((MINT,), "/v1/realtime", False, id="above"),
        pytest.param(("*",), MINT, True, id="star-alone"),
        # Pathological
        pytest.param(("",), MINT, False, id="empty-entry"),
        pytest.param(("/",), MINT, False, id="root"),
        pytest.param(("/v1/*/client_secrets",), MINT, False, id="star-inside"),
        pytest.param(("LLM_API_ROUTES",), MINT, False, id="case"),
    ],
)
def test_a_list_admits_paths(entries: tuple[str, ...], path: str, admitted: bool) -> None:
    """An entry admits its path, what is below it, what a star at its end stands for, or a group."""
    key = VirtualKey("ab" * 32, allowed_routes=entries)
    if admitted:
        check_route(key, path)
    else:
        with pytest.raises(RouteDeniedError):
            check_route(key, path)


def test_one_of_several_paths_is_enough() -> None:
    """A token is good as long as its key may call any of the paths where it could be minted."""
    key = VirtualKey("ab" * 32, allowed_routes=("/realtime",))
    check_route(key, MINT, "/realtime/client_secrets")
    with pytest.raises(RouteDeniedError):
        check_route(key, MINT, "/openai/v1/realtime/client_secrets")
