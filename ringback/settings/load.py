"""Reads ``ringback.yaml`` and the ``RINGBACK_*`` variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ringback.errors import StartError, why_unusable
from ringback.secretfiles import SecretFileError
from ringback.settings.model import PREFIX, Settings, is_setting, secret_variables

_STAND_IN = "1"
_NO_SETTING = "there is no such setting; docs/configuration.md lists them"


class SettingsError(StartError):
    """Settings that cannot be used; the start stops with exit code 2.

    Args:
        problems: One line each: the setting's name and what is wrong with it, never its value.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def __str__(self) -> str:
        return "These settings cannot be used:\n" + "\n".join(f"  {line}" for line in self.problems)


def load_settings(path: Path | None = None, *, without_secrets: bool = False) -> Settings:
    """Read the settings file, if any, and the ``RINGBACK_*`` variables.

    Args:
        path: A YAML file; its keys are the field names of `Settings`.
        without_secrets: Whether variables with secrets may be missing, because the settings are
            for another machine.

    Raises:
        SettingsError: If anything is unknown or wrong; lists all of it.
    """
    from_file = {} if path is None else _read_file(path)
    # Names with a leading underscore would be options of BaseSettings itself.
    unknown = {name for name in os.environ if _is_unknown(name)} | {
        name for name in from_file if name.startswith("_")
    }
    problems = [f"{name}: {_NO_SETTING}" for name in sorted(unknown)]
    try:
        known = {name: value for name, value in from_file.items() if name not in unknown}
        if without_secrets and _needs_admin_key(known):
            known["litellm"] = {"admin_key": _STAND_IN, **known["litellm"]}
        settings = Settings(**known)
    except SecretFileError as error:
        problems.append(str(error))
    except ValidationError as error:
        problems += [
            _describe(detail)
            for detail in error.errors(include_input=False)
            if _to_variable(detail["loc"]) not in unknown
        ]
    if problems:
        raise SettingsError(problems)
    return settings


def _needs_admin_key(content: Mapping[str, Any]) -> bool:
    """Tell whether a variable has to say what a settings file does not."""
    litellm = content.get("litellm")
    if not isinstance(litellm, dict) or litellm.get("own_key"):
        return False
    return bool(litellm.get("url")) and "admin_key" not in litellm


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read: {why_unusable(error)}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Neither quoted nor chained: the parser's own message shows the line, and so may a secret.
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise SettingsError(
            [f"{path}: {place}not YAML; a value with special characters needs quotes"]
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError([f"{path}: expected settings as `name: value` lines"])
    return content


def _is_unknown(variable: str) -> bool:
    """Tell whether a variable looks like one of ours but names no field."""
    if not variable.upper().startswith(PREFIX):
        return False
    return not is_setting(variable) and not any(secret_variables([variable]))


def _to_variable(place: tuple[int | str, ...]) -> str:
    return PREFIX + "__".join(str(part) for part in place).upper()


def _describe(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{place}: {_NO_SETTING}"
        case "model_type":
            return f"{place}: expected settings as `name: value` lines, or JSON in a variable"
        case "list_type":
            return f"{place}: expected a list, or JSON in a variable"
        case "path_type":
            return f"{place}: expected a path"
        case _:
            return f"{place}: {detail['msg'].removeprefix('Value error, ')}"
