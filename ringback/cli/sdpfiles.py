"""The files that ``ringback sdp`` reads: descriptions and policies."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ringback.sdppolicy import Policy, PolicySettings
from sdpfilter.errors import SDPError
from sdpfilter.policies import Policies, PoliciesError
from sdpfilter.policy import PRESETS, PolicyConflictError
from sdpfilter.sdp.session import SessionDescription, parse_description

STDIN: Final = "-"
_Model = TypeVar("_Model", bound=BaseModel)


class UnusableFileError(Exception):
    """A file or a policy that cannot be used; the program ends with exit code 2.

    Args:
        file: Its name as it was given.
        problems: One line each; they quote nothing of the file.
    """

    def __init__(self, file: str, *problems: str) -> None:
        self.file, self.problems = file, problems

    def __str__(self) -> str:
        return "\n".join(f"{self.file}: {problem}" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class ChosenPolicy:
    """The policy to check with."""

    policy: Policy
    """The strictest of all that hold."""

    label: str
    """Where it is from."""


def read_descriptions(*files: str | None) -> list[bytes]:
    """Return what is in the files that are given.

    Raises:
        UnusableFileError: If one cannot be read, or two of them are standard input.
    """
    given = [file for file in files if file is not None]
    if given.count(STDIN) > 1:
        raise UnusableFileError(STDIN, "standard input can be read only once; name a file")
    return [_read(file) for file in given]


def parse_file(file: str, data: bytes) -> SessionDescription:
    """Return a description, parsed.

    Raises:
        UnusableFileError: If the grammar or a limit does not allow it.
    """
    try:
        return parse_description(data)
    except SDPError as error:
        raise UnusableFileError(file, f"not a session description: {error}") from error


def load_policy(
    name: str | None, *, model: str | None, team: str | None, key_alias: str | None
) -> ChosenPolicy:
    """Return the policy of a preset or a file.

    Args:
        name: The preset, or the file: one policy, or settings with a section ``sdp``. None: what
            holds without settings.
        model: Chooses in the section, as do the next two.
        team: The id of a team.
        key_alias: The alias of a virtual key.

    Raises:
        UnusableFileError: If there is no such policy, or not one that can be used.
    """
    callers = {"model": model, "team": team, "key_alias": key_alias}
    content = {} if name is None or name in PRESETS else _read_yaml(name)
    if name is not None and "sdp" in content:
        return _choose(name, content["sdp"], callers)
    if any(callers.values()):
        raise UnusableFileError(
            name or "--policy",
            "--model, --team and --key-alias choose in the section `sdp:` of a ringback.yaml; "
            "give one as --policy",
        )
    if name is None:
        return _choose(f"{PolicySettings().default} (the default)", {}, callers)
    if name in PRESETS:
        return ChosenPolicy(PRESETS[name], name)
    return ChosenPolicy(_validate(Policy, name, "", content), name)


def _choose(file: str, section: Any, callers: Mapping[str, str | None]) -> ChosenPolicy:
    settings = _validate(PolicySettings, file, "sdp.", {} if section is None else section)
    try:
        policy = Policies(settings).for_call(**callers)
    except PoliciesError as error:
        raise UnusableFileError(file, *error.problems) from error
    except PolicyConflictError as error:
        raise UnusableFileError(file, f"sdp: {error}") from error
    named = [f"{kind.replace('_', ' ')} {name}" for kind, name in callers.items() if name]
    return ChosenPolicy(policy, " ".join([file, *(["for", ", ".join(named)] if named else [])]))


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise UnusableFileError(file, f"cannot be read: {error.strerror}") from error


def _read_yaml(file: str) -> dict[str, Any]:
    if not Path(file).exists():
        presets = ", ".join(sorted(PRESETS))
        raise UnusableFileError(file, f"neither a file nor a preset ({presets})")
    try:
        content = yaml.safe_load(_read(file))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        # Not chained: the parser's message quotes the line, which may hold a secret.
        raise UnusableFileError(file, f"{place}not YAML") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UnusableFileError(file, "expected a policy as `switch: value` lines")
    return content


def _validate(model: type[_Model], file: str, prefix: str, content: Any) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            # A default without a name is `inline` to pydantic and to nobody else.
            f"{prefix}{'.'.join(str(part) for part in detail['loc'] if part != 'inline')}: "
            f"{_describe(detail)}"
            for detail in error.errors(include_input=False, include_url=False)
        ]
        raise UnusableFileError(file, *problems) from None


def _describe(detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        return "there is no such switch; docs/sdp.md lists them"
    message: str = detail["msg"]
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
