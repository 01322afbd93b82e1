"""``model_list`` of LiteLLM's configuration, one entry at a time, as deployments."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from extauthz.apibase import parse_api_base
from extauthz.deployments import REALTIME_MODE, Deployment, Origin, ProviderName
from extauthz.fields import MAX_SECRET_CHARS, Field
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
_MODEL_HINT: Final = "write openai/NAME or azure/NAME"
# OpenAI's own models, which LiteLLM accepts without `openai/`.
_OPENAI_MODEL: Final = re.compile(r"gpt-[^/]+")
# Values of api_version that ask for the API that has none.
_CURRENT_VERSIONS: Final = (None, "v1", "preview", "latest")
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
_RESTRICTIONS: Final = ("blocked", "team_id", "access_windows")
_NOT_USED_PARAMS: Final = ("weight", "order", "rpm", "tpm")


class ModelList:
    """Collects the deployments of all files, and what is wrong with the entries.

    Attributes:
        deployments: The usable ones so far.
        group_names: Every ``model_name`` seen, usable or not.
        notes: Entries and fields that are not used, and why.
        problems: Mistakes.
    """

    def __init__(self) -> None:
        self.deployments: list[Deployment] = []
        self.group_names: set[str] = set()
        self.notes: list[str] = []
        self.problems: list[str] = []
        self._ids: set[str] = set()
        self._same: Counter[str] = Counter()
        self._clusters: dict[str, Origin] = {}

    def add(self, value: Any, place: str, environ: Mapping[str, str]) -> None:
        """Read one entry; what can be served joins the deployments.

        Args:
            value: The entry.
            place: Where it stands.
            environ: What ``os.environ/NAME`` refers to.
        """
        entry = Field(value, place, [], environ)
        entry.entries()
        group = entry.child("model_name").required_text("write the name that callers shall use")
        model = entry.child("litellm_params").child("model")
        provider, upstream_model = _split_model(model.required_text(_MODEL_HINT))
        self.group_names.add(group)
        if reason := _reason_to_skip(entry, group, provider, upstream_model):
            self.notes.append(f"{place}: not used: {reason}")
            return
        if provider is not None:
            deployment = _parse(entry, group, provider, upstream_model)
            if deployment is not None:
                self._join(deployment, entry)
        self._note_mistakes(entry, upstream_model)
        self.notes += _notes(entry, provider)

    def _join(self, deployment: Deployment, entry: Field) -> None:
        if not deployment.id:
            fingerprint = _fingerprint(deployment)
            self._same[fingerprint] += 1
            number = self._same[fingerprint]
            suffix = "" if number == 1 else f"-{number}"
            deployment = replace(deployment, id=f"d-{fingerprint}{suffix}")
        if deployment.id in self._ids:
            entry.child("model_info").child("id").problem("another deployment has this id")
        origin = deployment.origin
        if self._clusters.setdefault(origin.cluster, origin) != origin:
            entry.child("litellm_params").child("api_base").problem(
                "its host differs from another deployment's only in punctuation, which Envoy's "
                "cluster names do not keep; rename one of the hosts"
            )
        if not entry.problems:
            self._ids.add(deployment.id)
            self.deployments.append(deployment)

    def _note_mistakes(self, entry: Field, upstream_model: str) -> None:
        """Count mistakes in what is surely not for voice as notes: they harm nobody here."""
        mode = entry.child("model_info").child("mode").value
        is_other = isinstance(mode, str) and mode != REALTIME_MODE
        if is_other and REALTIME_MODE not in upstream_model.lower():
            reason = "not served, since its mode is not realtime"
            self.notes += [f"{problem}; {reason}" for problem in entry.problems]
        else:
            self.problems += entry.problems


def _split_model(model: str) -> tuple[ProviderName | None, str]:
    prefix, _, name = model.partition("/")
    if prefix == "openai":
        return "openai", name
    if prefix == "azure":
        return "azure", name
    return ("openai" if _OPENAI_MODEL.fullmatch(model) else None), model


def _reason_to_skip(
    entry: Field, group: str, provider: ProviderName | None, upstream_model: str
) -> str | None:
    if not upstream_model:
        return None
    if provider is None:
        return "its model begins with neither openai/ nor azure/"
    if "*" in group or "*" in upstream_model:
        return "this version serves no wildcards"
    info = entry.child("model_info")
    kept_back = next((name for name in _RESTRICTIONS if info.child(name).value), None)
    return kept_back and f"model_info.{kept_back} restricts it, which this version cannot keep"


def _parse(
    entry: Field, group: str, provider: ProviderName, upstream_model: str
) -> Deployment | None:
    params, info = entry.child("litellm_params"), entry.child("model_info")
    info.entries()
    if not upstream_model:
        params.child("model").problem(f"has no name after the slash; {_MODEL_HINT}")
    base = _api_base(params.child("api_base"), provider)
    api_key = params.child("api_key").required_text(
        f"set it to os.environ/NAME, or set {_KEY_VARIABLES[provider][0]}",
        *_KEY_VARIABLES[provider],
        max_chars=MAX_SECRET_CHARS,
    )
    check_visible(params.child("api_key"), api_key)
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
    )


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


def _fingerprint(deployment: Deployment) -> str:
    """Return what stays the same as long as a deployment is the same model at the same place.

    NOTE: Keys, weights and deadlines are left out, so that changing them on a reload does not end
    the tokens that are pinned to the deployment.
    """
    identity = (
        deployment.model_name,
        deployment.provider,
        deployment.upstream_model,
        str(deployment.origin),
        deployment.base_path,
        deployment.organization,
        deployment.project,
    )
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _notes(entry: Field, provider: ProviderName | None) -> list[str]:
    params = entry.child("litellm_params")
    notes = [
        f"{field.place}: not used by this version"
        for field in map(params.child, _NOT_USED_PARAMS)
        if field.value is not None
    ]
    version = params.child("api_version")
    if provider == "azure" and version.value not in _CURRENT_VERSIONS:
        notes.append(f"{version.place}: not used: Azure's current API (v1) has no versions")
    return notes
