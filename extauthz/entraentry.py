"""What an entry of ``model_list`` says about logging in at Entra ID."""

import re
from importlib.util import find_spec
from typing import Final

from extauthz.apibase import parse_base_url
from extauthz.deployments import Deployment, EntraLogin, EntraMethod, Origin
from extauthz.fields import MAX_SECRET_CHARS, Field
from extauthz.ownsettings import CredentialKind, OwnSettings
from ringback.secrets import Secret

_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
_LOGIN: Final = "https://login.microsoftonline.com"
# Azure's instance metadata service, at every virtual machine's own link-local address.
_METADATA: Final = "http://169.254.169.254"
_METADATA_VARIABLES: Final = (
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
)
_TOKEN_FILE: Final = "AZURE_FEDERATED_TOKEN_FILE"  # the name of a variable
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9.-]{1,128}")
_WORD: Final = re.compile(r"[!-~]+")
_URL_START: Final = re.compile(r"(https?)://[^/?#]+")


def find_login(params: Field, own: OwnSettings, place: Field) -> EntraLogin | None:
    """Return how an entry for Azure logs in at Entra ID; None if it has a key.

    ``litellm_params.api_key`` wins, as in LiteLLM, unless the setting ``credential`` says
    otherwise; then come a client secret and a token, and at last a key of the environment.

    Args:
        params: ``litellm_params``.
        own: ``model_info.ringback``.
        place: Where it stands.
    """
    kind = own.credential or _derived_credential(params)
    if kind == "api_key":
        return None
    scope = params.child("azure_scope").text("AZURE_SCOPE") or _SCOPE
    if kind == "token":
        field = params.child("azure_ad_token")
        token = field.required_text("write os.environ/NAME", max_chars=MAX_SECRET_CHARS)
        if token and not _WORD.fullmatch(token):
            field.problem("holds spaces or letters outside ASCII; remove them")
        if token.startswith("oidc/"):
            field.problem("exchanging tokens of others is not served; use workload_identity")
        return EntraLogin(kind, scope, secret=Secret(token))
    if not _is_installed():
        place.child("credential").problem(
            f"{kind} needs the package azure-identity; install ringback[azure]"
        )
    if kind == "managed_identity" and not params.child("api_key").variable(_TOKEN_FILE):
        client = _identifier(params.child("client_id"), "AZURE_CLIENT_ID")
        return EntraLogin(kind, scope, client_id=client, origin=_metadata_origin(place))
    # The identity of a pod that has a token is the pod's, as azure-identity sees it too.
    method: EntraMethod = "client_secret" if kind == "client_secret" else "workload_identity"
    return _at_entra(params, place, method, scope)


def login_notes(params: Field, deployment: Deployment) -> list[str]:
    """Return what of a login is not used, because there is a key."""
    if deployment.provider != "azure" or deployment.entra is not None:
        return []
    fields = (params.child(name) for name in ("client_secret", "azure_ad_token"))
    return [f"{field.place}: not used: api_key goes first" for field in fields if field.value]


def _at_entra(params: Field, place: Field, method: EntraMethod, scope: str) -> EntraLogin:
    found = {
        name: _identifier(params.child(name), variable)
        for name, variable in (("tenant_id", "AZURE_TENANT_ID"), ("client_id", "AZURE_CLIENT_ID"))
    }
    for name, value in found.items():
        if value is None:
            params.child(name).problem(f"is missing; {method} needs it")
    secret, token_file = None, None
    if method == "client_secret":
        hint = "write os.environ/NAME, or set AZURE_CLIENT_SECRET"
        field = params.child("client_secret")
        secret = Secret(
            field.required_text(hint, "AZURE_CLIENT_SECRET", max_chars=MAX_SECRET_CHARS)
        )
    else:
        token_file = place.variable(_TOKEN_FILE)
        if token_file is None:
            place.child("credential").problem(f"{method} needs the variable {_TOKEN_FILE}")
    authority = place.variable("AZURE_AUTHORITY_HOST") or _LOGIN
    url = authority if "://" in authority else f"https://{authority}"
    origin = _origin(url, "AZURE_AUTHORITY_HOST", place)
    return EntraLogin(
        method, scope, found["tenant_id"], found["client_id"], secret, token_file, origin
    )


def _derived_credential(params: Field) -> CredentialKind:
    if params.child("api_key").value:
        return "api_key"
    if any(params.child(name).value for name in ("client_secret", "tenant_id")):
        return "client_secret"
    return "token" if params.child("azure_ad_token").value else "api_key"


def _identifier(field: Field, variable: str) -> str | None:
    text = field.text(variable)
    if text is not None and not _IDENTIFIER.fullmatch(text):
        field.problem("expected an id of letters, digits and hyphens")
    return text


def _metadata_origin(place: Field) -> Origin:
    variable = next((name for name in _METADATA_VARIABLES if place.variable(name)), "")
    return _origin(place.variable(variable) or _METADATA, variable, place)


def _origin(url: str, variable: str, place: Field) -> Origin:
    start = _URL_START.match(url)
    try:
        return parse_base_url(start[0] if start else url)[0]
    except ValueError as error:
        place.child("credential").problem(f"the variable {variable}: {error}")
        return parse_base_url(_METADATA)[0]


def _is_installed() -> bool:
    try:
        return find_spec("azure.identity") is not None
    except ModuleNotFoundError:
        return False
