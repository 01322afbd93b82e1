"""What an entry of ``model_list`` says about Azure: the dialect and its version."""

import re
from typing import Final

from extauthz.deployments import Deployment, DialectName, ProviderName
from extauthz.fields import Field
from extauthz.ownsettings import OwnSettings

# Values of api_version that ask for the API that has none.
_CURRENT_VERSIONS: Final = frozenset({"v1", "preview", "latest"})
_VERSION: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(-[a-z0-9.-]{1,32})?")
_PREVIEW_VERSION: Final = "2025-04-01-preview"
_VERSION_VARIABLE: Final = "AZURE_API_VERSION"


def find_dialect(
    params: Field, provider: ProviderName, own: OwnSettings
) -> tuple[DialectName, str | None]:
    """Return the dialect of an entry, and its ``api-version``.

    What is set wins. Else an address for calls means the preview, a base that ends in
    ``/openai/v1`` or no dated version the current API, and a dated one LiteLLM's paths.

    Args:
        params: ``litellm_params``.
        provider: Whose API the entry wants.
        own: ``model_info.ringback``.
    """
    if provider == "openai":
        return "openai", None
    field = params.child("api_version")
    version = field.text()
    if version in _CURRENT_VERSIONS:
        version = None
    if version is not None and not _VERSION.fullmatch(version):
        field.problem("expected YYYY-MM-DD or YYYY-MM-DD-preview, or v1, or no api_version")
    dialect = own.dialect or _derived(str(params.child("api_base").text() or ""), version, own)
    if dialect == "azure":
        return dialect, None
    version = version or field.variable(_VERSION_VARIABLE)
    if dialect == "azure-preview":
        version = version or _PREVIEW_VERSION
    if version is None:
        field.problem(f"is missing; write the version in quotes, or set {_VERSION_VARIABLE}")
    return dialect, version


def _derived(api_base: str, version: str | None, own: OwnSettings) -> DialectName:
    if own.calls_base is not None:
        return "azure-preview"
    if version is None or api_base.rstrip("/").endswith("/openai/v1"):
        return "azure"
    return "azure-dated"


def check_own_settings(dialect: DialectName, own: OwnSettings, place: Field) -> None:
    """Note settings that contradict the dialect.

    Args:
        dialect: From `find_dialect`.
        own: ``model_info.ringback``.
        place: Where it stands.
    """
    if dialect == "azure-preview" and own.calls_base is None:
        place.child("calls_base").problem(
            "is missing; write https://REGION.realtimeapi-preview.ai.azure.com with the region of "
            "the resource, eastus2 or swedencentral"
        )
    if dialect != "azure-preview" and own.calls_base is not None:
        place.child("calls_base").problem("only the dialect azure-preview has one; remove it")
    if dialect == "openai" and own.credential not in {None, "api_key"}:
        place.child("credential").problem("openai takes an api_key and nothing else")
    if own.webrtcfilter and dialect not in {"azure", "azure-dated"}:
        place.child("webrtcfilter").problem("only the dialects azure and azure-dated have it")


def dialect_notes(params: Field, deployment: Deployment) -> list[str]:
    """Return what an operator may not expect of the versions of Azure's API."""
    field = params.child("api_version")
    if deployment.dialect == "azure-dated" and field.value is not None:
        note = (
            "means the dated paths that LiteLLM uses; Microsoft documents WebRTC without versions, "
            "so remove it if the resource is a current one"
        )
        return [f"{field.place}: {note}"]
    is_dated = isinstance(field.value, str) and field.value not in _CURRENT_VERSIONS
    if deployment.provider == "azure" and deployment.dialect is None and is_dated:
        return [f"{field.place}: not used: Azure's current API (v1) has no versions"]
    return []
