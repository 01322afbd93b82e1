"""LiteLLM's ``config.yaml``, read as it is, and more strictly.

Unlike LiteLLM, an unset ``os.environ/NAME`` that is needed, a deployment without a key, and every
other mistake stops the start, all of them listed at once.
"""

import os
from collections import ChainMap, deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from extauthz.deployments import Deployment
from extauthz.errors import ConfigError
from extauthz.fields import MAX_SECRET_CHARS, Field
from extauthz.generalsettings import NO_SETTINGS, GeneralSettings, parse_general
from extauthz.modelentry import check_visible
from extauthz.modellist import ModelList
from extauthz.namedcredentials import NamedCredentials
from extauthz.routersettings import Names, RouterSettings, parse_router
from extauthz.yamlfile import read_yaml
from ringback.secretfiles import Variables
from ringback.secrets import Secret

MAX_FILES: Final = 32
_MASTER_KEY_VARIABLE: Final = "LITELLM_MASTER_KEY"
# In LiteLLM's documentation, and so the first that strangers try.
_KNOWN_MASTER_KEY: Final = "sk-1234"
_PERMIT_KNOWN: Final = "dangerously_permit_weak_or_unset_master_key"
_NO_VARIABLES: Final[Mapping[str, str]] = {}
_SECTIONS: Final = frozenset(
    {"general_settings", "litellm_settings", "router_settings", "environment_variables"}
)
# Fields that change in LiteLLM who may call or where a request goes, and change nothing here.
_NOT_USED: Final[tuple[tuple[str, str], ...]] = (
    ("general_settings", "allow_requests_on_db_unavailable"),
    ("general_settings", "allowed_routes"),
    ("general_settings", "custom_auth"),
    ("general_settings", "enable_jwt_auth"),
    ("general_settings", "enforce_fallback_model_access"),
    ("general_settings", "store_model_in_db"),
    ("general_settings", "use_x_forwarded_for"),
    ("litellm_settings", "model_alias_map"),
)


@dataclass(frozen=True, slots=True)
class LiteLLMConfig:
    """What is used of a configuration.

    Attributes:
        deployments: What ``model_list`` offers of OpenAI and Azure, in its order.
        router: How deployments are chosen.
        master_key: ``general_settings.master_key``, else LITELLM_MASTER_KEY.
        general: Who may call.
        notes: What was found and is not used, for the operator; no mistakes.
        files: What was read: the file itself and those that it includes.
    """

    deployments: tuple[Deployment, ...]
    router: RouterSettings
    master_key: Secret | None
    notes: tuple[str, ...]
    files: tuple[Path, ...]
    general: GeneralSettings = NO_SETTINGS

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of groups: ``router_settings.model_group_alias``."""
        return self.router.aliases


def load_config(
    path: Path, environ: Mapping[str, str], stand_ins: Mapping[str, str] = _NO_VARIABLES
) -> LiteLLMConfig:
    """Read a configuration and the files that it includes.

    Args:
        path: ``config.yaml``.
        environ: The environment. Its variables beat ``environment_variables`` of the file, as in
            LiteLLM; their values may be in files (`ringback.secretfiles`).
        stand_ins: Values for variables that neither of the two has.

    Raises:
        ConfigError: If anything that is needed is missing or wrong; lists all of it.
    """
    files = _Files(path)
    given = Variables(environ)
    # Nobody writes to them.
    outside = cast("MutableMapping[str, str]", given)
    last = cast("MutableMapping[str, str]", stand_ins)
    variables = ChainMap(outside, files.variables(ChainMap(outside, last)), last)
    models = ModelList(NamedCredentials(files.credentials))
    for entry in files.entries:
        models.add(entry.value, entry.place, variables)
    general_settings = files.section("general_settings", variables)
    master_key = _master_key(general_settings)
    general = parse_general(general_settings, files.section("litellm_settings", variables))
    served = {deployment.model_name for deployment in models.deployments}
    router, router_notes = parse_router(
        files.section("router_settings", variables),
        files.section("litellm_settings", variables),
        Names(served, models.group_names),
    )
    problems = [*files.problems, *models.problems]
    if not problems and not models.deployments:
        problems.append(f"{path}: model_list: has no usable entry; add one of openai/ or azure/")
    if problems:
        raise ConfigError(problems)
    notes = (*files.notes, *files.not_used(), *models.notes, *router_notes)
    return LiteLLMConfig(
        deployments=tuple(models.deployments),
        router=router,
        master_key=master_key,
        notes=notes,
        files=tuple(files.paths),
        general=general,
    )


def config_files(path: Path) -> tuple[Path, ...]:
    """Return a configuration and the files that it includes, whether they can be used or not."""
    return tuple(_Files(path).paths)


class _Files:
    """The files of one configuration, joined as LiteLLM joins them.

    Lists of models and of credentials are appended; any other section of an included file takes
    the place of the one before it. Names of included files are relative to the folder of the first
    one.
    """

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.entries: list[Field] = []
        self.credentials: list[Field] = []
        self.paths: list[Path] = []
        self._path = path
        self._sections: dict[str, Field] = {}
        pending = deque([path])
        seen: set[str] = set()
        while pending:
            file = pending.popleft()
            real_path = os.path.realpath(file)
            if real_path in seen or len(seen) == MAX_FILES:
                self.problems.append(f"{file}: is included twice, or after {MAX_FILES} others")
                continue
            seen.add(real_path)
            self.paths.append(file)
            pending += [path.parent / included for included in self._read(file)]

    def section(self, name: str, variables: Mapping[str, str] | None = None) -> Field:
        """Return a section, absent if no file has it, whose references are resolved."""
        found = self._sections.get(name)
        place = found.place if found else f"{self._path}: {name}"
        return Field(found.value if found else None, place, self.problems, variables)

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return ``environment_variables``; they may refer to the environment in turn."""
        unneeded: list[str] = []
        section = self.section("environment_variables")
        fields = {
            name: Field(field.value, field.place, unneeded, environ)
            for name, field in section.entries().items()
        }
        values = {
            name: field.text(numbers=True, max_chars=MAX_SECRET_CHARS)
            for name, field in fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}

    def not_used(self) -> list[str]:
        """Return a note for each field that an operator might count on in vain."""
        fields = (self.section(section).child(name) for section, name in _NOT_USED)
        return [f"{field.place}: not used by this version" for field in fields if field.value]

    def _read(self, file: Path) -> list[str]:
        try:
            content = read_yaml(file)
        except ConfigError as error:
            self.problems += error.problems
            return []
        root = Field(content, f"{file}:", self.problems)
        sections = root.entries()
        if "model_list" in sections:
            self.entries += sections["model_list"].items()
        if "credential_list" in sections:
            self.credentials += sections["credential_list"].items()
        for name in sorted(_SECTIONS & sections.keys()):
            if name in self._sections:
                self.notes.append(f"{self._sections[name].place}: replaced by that of {file}")
            self._sections[name] = sections[name]
        names = [field.text() for field in root.child("include").items()]
        return [name for name in names if name is not None]


def _master_key(general_settings: Field) -> Secret | None:
    general_settings.entries()
    field = general_settings.child("master_key")
    text = field.text(_MASTER_KEY_VARIABLE, max_chars=MAX_SECRET_CHARS)
    if text is None:
        return None
    check_visible(field, text)
    if text == _KNOWN_MASTER_KEY and not general_settings.child(_PERMIT_KNOWN).flag():
        field.problem("everybody knows this one from LiteLLM's documentation; choose another")
    return Secret(text)
