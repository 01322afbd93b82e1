"""One entry of ``model_list``, as a deployment."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from extauthz.apibase import parse_api_base
from extauthz.azureentry import check_own_settings, dialect_notes, find_dialect
from extauthz.deployments import REALTIME_MODE, WILDCARD, Deployment, Origin, ProviderName
from extauthz.entraentry import find_login, login_notes
from extauthz.fields import MAX_SECRET_CHARS, Field
from extauthz.ownsettings import parse_own_settings
from ringback.secrets import Secret

# Stand-ins for absent values, as in LiteLLM, best first.
_KEY_VARIABLES: Final[dict[ProviderName, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "azure": ("AZURE_API_KEY",),
}
_BASE_VARIABLES: Final[dict[ProviderName, tuple[str, ...]]] = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "azure": ("AZURE_API_BASE",),
}
_OPENAI_BASE: Final = "https://api.openai.com"
MODEL_HINT: Final = "write openai/NAME or azure/NAME"
# OpenAI's own models, which LiteLLM accepts without `openai/`.
_OPENAI_MODEL: Final = re.compile(r"gpt-[^/]+")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
# Headers that belong to the connection, the body, the credential or Envoy.
_OWN_HEADER: Final = re.compile(
    r"accept|accept-encoding|api-key|authorization|connection|content-(encoding|length|type)"
    r"|expect|host|keep-alive|proxy-.*|trailer|transfer-encoding|upgrade|x-(ringback|envoy)-.*"
    r"|te"  # codespell:ignore te
)
# Restrictions that this version cannot keep, so that it does not serve the deployment.
_RESTRICTIONS: Final = ("access_windows",)


def split_model(entry: Field) -> tuple[ProviderName | None, str]:
    """Return whose API an entry wants, None if not one of ours, and the model's name there.

    As in LiteLLM, any provider but Azure is spoken to as OpenAI at its ``api_base``; but only where
    the entry is for voice, since other models of theirs are no business of ours.
    """
    params, info = entry.child("litellm_params"), entry.child("model_info")
    model = params.child("model").required_text(MODEL_HINT)
    prefix, _, name = model.partition("/")
    dialect = info.child("ringback").child("dialect").value
    if isinstance(dialect, str) and name:
        return "openai" if dialect == "openai" else "azure", name
    if prefix == "openai":
        return "openai", name
    if prefix == "azure":
        return "azure", name
    is_voice = info.child("mode").value == REALTIME_MODE or REALTIME_MODE in name.lower()
    if name and is_voice and params.child("api_base").value:
        return "openai", name
    return ("openai" if _OPENAI_MODEL.fullmatch(model) else None), model


def reason_to_skip(
    entry: Field, group: str, provider: ProviderName | None, upstream_model: str
) -> str | None:
    """Return why an entry is passed over though it may be no mistake, or None."""
    if not upstream_model:
        return None
    if provider is None:
        return "its model begins with neither openai/ nor azure/, nor is it realtime at an api_base"
    if group.count(WILDCARD) > 1 or upstream_model.count(WILDCARD) > 1:
        return "its names may hold one * each"
    info = entry.child("model_info")
    kept_back = next((name for name in _RESTRICTIONS if info.child(name).value), None)
    return kept_back and f"model_info.{kept_back} restricts it, which this version cannot keep"


def parse_entry(
    entry: Field, group: str, provider: ProviderName, upstream_model: str
) -> Deployment | None:
    """Return an entry as a deployment, None after noting its mistakes.

    Args:
        entry: One of ``model_list``.
        group: Its ``model_name``.
        provider: From `split_model`.
        upstream_model: From `split_model`.
    """
    params, info = entry.child("litellm_params"), entry.child("model_info")
    info.entries()
    if not upstream_model:
        params.child("model").problem(f"has no name after the slash; {MODEL_HINT}")
    if WILDCARD in upstream_model and WILDCARD not in group:
        params.child("model").problem("holds a * for which model_name has none; name the model")
    place = info.child("ringback")
    own = parse_own_settings(place)
    base = _api_base(params.child("api_base"), provider)
    dialect, api_version = find_dialect(params, provider, own)
    check_own_settings(dialect, own, place)
    login = find_login(params, own, place) if provider == "azure" else None
    api_key = "" if login else _api_key(params.child("api_key"), provider)
    deployment_id = _visible_text(info.child("id"))
    organization = _visible_text(params.child("organization"))
    project = _visible_text(params.child("project"))
    extra_headers = _extra_headers(params.child("extra_headers"))
    timeout_s = params.child("timeout").positive_number()
    mode = info.child("mode").text()
    if base is None or entry.problems:
        return None
    return Deployment(
        id=deployment_id or "",
        model_name=group,
        provider=provider,
        upstream_model=upstream_model,
        origin=base[0],
        base_path=base[1],
        api_key=Secret(api_key),
        organization=organization,
        project=project,
        extra_headers=extra_headers,
        timeout_s=timeout_s,
        mode=mode,
        dialect=None if dialect == provider else dialect,
        api_version=api_version,
        calls_origin=own.calls_base[0] if own.calls_base else None,
        calls_base_path=own.calls_base[1] if own.calls_base else "",
        webrtcfilter=own.webrtcfilter,
        entra=login,
        session=own.session,
        session_defaults=own.session_defaults,
        session_lock=own.session_lock,
    )


def _api_key(field: Field, provider: ProviderName) -> str:
    variables = _KEY_VARIABLES[provider]
    hint = f"set it to os.environ/NAME, or set {variables[0]}"
    if provider == "azure":
        hint += ", or name another model_info.ringback.credential"
    api_key = field.required_text(hint, *variables, max_chars=MAX_SECRET_CHARS)
    check_visible(field, api_key)
    return api_key


def _api_base(field: Field, provider: ProviderName) -> tuple[Origin, str] | None:
    variables = _BASE_VARIABLES[provider]
    before = len(field.problems)
    text = field.text(*variables) or (_OPENAI_BASE if provider == "openai" else "")
    if len(field.problems) > before:
        return None
    if not text:
        field.problem(f"is missing; write https://NAME.openai.azure.com, or set {variables[0]}")
        return None
    try:
        return parse_api_base(text, provider)
    except ValueError as error:
        field.problem(str(error))
        return None


def check_visible(field: Field, text: str | None) -> None:
    """Note a text that cannot stand in a header as one word."""
    if text and not _VISIBLE.fullmatch(text):
        field.problem("holds spaces or letters outside ASCII; remove them")


def _visible_text(field: Field) -> str | None:
    text = field.text(numbers=True)
    check_visible(field, text)
    return text


def _extra_headers(field: Field) -> Mapping[str, Secret]:
    headers: dict[str, Secret] = {}
    for given_name, value_field in field.entries().items():
        name = given_name.lower()
        value = value_field.text(numbers=True, max_chars=MAX_SECRET_CHARS)
        if not _HEADER_NAME.fullmatch(name):
            field.problem("holds a header name with characters that HTTP does not allow")
        elif _OWN_HEADER.fullmatch(name):
            field.problem(f"{name} is set by the gateway itself; remove it")
        elif name in headers:
            field.problem(f"{name} stands there twice, in other letter case; remove one")
        elif value is not None and not _HEADER_VALUE.fullmatch(value):
            field.problem(f"the value of {name} holds characters that HTTP does not allow")
        else:
            headers[name] = Secret(value or "")
    return MappingProxyType(headers)


def notes_of(entry: Field, deployment: Deployment) -> list[str]:
    """Return a note for each field on which an operator might count in vain.

    Args:
        entry: As in `parse_entry`.
        deployment: What it became.
    """
    params = entry.child("litellm_params")
    return [*dialect_notes(params, deployment), *login_notes(params, deployment)]
