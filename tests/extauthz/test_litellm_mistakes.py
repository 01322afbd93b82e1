"""Every message about a mistake in a configuration, pinned."""

import re
from pathlib import Path

import pytest

from extauthz.errors import ConfigError
from extauthz.litellm import load_config

MARKER = "Sup3rS3cret"
HEAD = "model_list:\n- {model_name: m, litellm_params: {model: openai/x, api_key: k}}\n"
PRINTABLE = "holds line breaks or other characters that cannot be shown; remove them"
VISIBLE = "holds spaces or letters outside ASCII; remove them"
TEXT = "expected text; put it in quotes"


def entry(params: str = "", info: str = "", group: str = "v") -> str:
    """Return a configuration whose second entry is an OpenAI deployment with these parts."""
    return (
        f"{HEAD}- {{model_name: {group}, litellm_params: {{model: openai/x, {params}}}, "
        f"model_info: {{{info}}}}}"
    )


def mistakes(folder: Path, text: str) -> list[str]:
    """Return the problems of a configuration, without the name of the file."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"SECRET": MARKER, "BROKEN": f"{MARKER}\n"})
    assert MARKER not in str(caught.value)
    return [re.sub(r"^.*/(?=[^/]*\.yaml: )", "", line) for line in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        # Realistic
        pytest.param(
            "",
            ["config.yaml: model_list: has no usable entry; add one of openai/ or azure/"],
            id="empty",
        ),
        pytest.param(
            "model_list: [{model_name: c, litellm_params: {model: anthropic/c}}]",
            ["config.yaml: model_list: has no usable entry; add one of openai/ or azure/"],
            id="other-providers-only",
        ),
        pytest.param(
            HEAD + "-",
            [
                (
                    "config.yaml: model_list[1].model_name: is missing; "
                    "write the name that callers shall use"
                ),
                (
                    "config.yaml: model_list[1].litellm_params.model: is missing; "
                    "write openai/NAME or azure/NAME"
                ),
            ],
            id="empty-entry",
        ),
        pytest.param(
            HEAD + "- {model_name: a, litellm_params: {model: azure/}}\n"
            "- {model_name: a, litellm_params: {model: azure/d, api_key: os.environ/NOPE}}",
            [
                (
                    "config.yaml: model_list[1].litellm_params.model: has no name after the slash; "
                    "write openai/NAME or azure/NAME"
                ),
                (
                    "config.yaml: model_list[1].litellm_params.api_base: is missing; "
                    "write https://NAME.openai.azure.com, or set AZURE_API_BASE"
                ),
                (
                    "config.yaml: model_list[1].litellm_params.api_key: is missing; "
                    "set it to os.environ/NAME, or set AZURE_API_KEY, or name another "
                    "model_info.ringback.credential"
                ),
                (
                    "config.yaml: model_list[2].litellm_params.api_base: is missing; "
                    "write https://NAME.openai.azure.com, or set AZURE_API_BASE"
                ),
                (
                    "config.yaml: model_list[2].litellm_params.api_key: "
                    "the variable NOPE is not set; set it before the start"
                ),
            ],
            id="azure",
        ),
        pytest.param(
            entry(f"api_base: 'https://u:{MARKER}@h', api_key: os.environ/BROKEN, timeout: 0"),
            [
                (
                    "config.yaml: model_list[1].litellm_params.api_base: "
                    "remove user and password from the URL; keys have fields of their own"
                ),
                f"config.yaml: model_list[1].litellm_params.api_key: {PRINTABLE}",
                "config.yaml: model_list[1].litellm_params.timeout: expected a number above 0",
            ],
            id="values",
        ),
        pytest.param(
            entry("api_base: [x], api_key: k, timeout: soon, extra_headers: [a]", "mode: 5"),
            [
                f"config.yaml: model_list[1].litellm_params.api_base: {TEXT}",
                (
                    "config.yaml: model_list[1].litellm_params.extra_headers: "
                    "expected `name: value` lines"
                ),
                "config.yaml: model_list[1].litellm_params.timeout: expected a number above 0",
                f"config.yaml: model_list[1].model_info.mode: {TEXT}",
            ],
            id="types",
        ),
        pytest.param(
            entry(
                "api_key: k, extra_headers: {Authorization: x, api-key: x, Host: x, "
                f"X-Envoy-A: x, x-ringback-b: x, proxy-c: x, 'x y': {MARKER}, a: x, A: x, "
                f"b: '{MARKER} ', c: 'ü{MARKER}', d: [x]}}"
            ),
            [
                f"config.yaml: model_list[1].litellm_params.extra_headers{line}"
                for line in (
                    *(
                        f": {name} is set by the gateway itself; remove it"
                        for name in (
                            "authorization",
                            "api-key",
                            "host",
                            "x-envoy-a",
                            "x-ringback-b",
                            "proxy-c",
                        )
                    ),
                    ": holds a header name with characters that HTTP does not allow",
                    ": a stands there twice, in other letter case; remove one",
                    ": the value of b holds characters that HTTP does not allow",
                    ": the value of c holds characters that HTTP does not allow",
                    f".d: {TEXT}",
                )
            ],
            id="headers",
        ),
        pytest.param(
            entry(f"api_key: {MARKER} x, organization: o x, project: ü", "id: a b"),
            [
                f"config.yaml: model_list[1].{place}: {VISIBLE}"
                for place in (
                    "litellm_params.api_key",
                    "model_info.id",
                    "litellm_params.organization",
                    "litellm_params.project",
                )
            ],
            id="visible",
        ),
        pytest.param(
            entry("api_key: k", "id: same") + "\n"
            "- {model_name: w, litellm_params: {model: openai/x, api_key: k}, "
            "model_info: {id: same}}",
            ["config.yaml: model_list[2].model_info.id: another deployment has this id"],
            id="same-id",
        ),
        pytest.param(
            entry("api_key: k, api_base: https://a.b") + "\n"
            "- {model_name: w, litellm_params: {model: openai/x, api_key: k, "
            "api_base: https://a_b}}",
            [
                (
                    "config.yaml: model_list[2].litellm_params.api_base: its host differs from "
                    "another deployment's only in punctuation, which Envoy's cluster names do not "
                    "keep; rename one of the hosts"
                )
            ],
            id="same-cluster",
        ),
        pytest.param(
            HEAD + "general_settings: {master_key: os.environ/NOPE}\n"
            f"router_settings: {{model_group_alias: {{a: {MARKER}, b: [x], c: , d: {{}}, m: m}}}}",
            [
                (
                    "config.yaml: general_settings.master_key: the variable NOPE is not set; "
                    "set it before the start"
                ),
                (
                    "config.yaml: router_settings.model_group_alias.a: is the model_name of no "
                    "entry in model_list; correct it"
                ),
                f"config.yaml: router_settings.model_group_alias.b: {TEXT}",
                (
                    "config.yaml: router_settings.model_group_alias.c: is missing; "
                    "write the model_name that it stands for"
                ),
                (
                    "config.yaml: router_settings.model_group_alias.d.model: is missing; "
                    "write the model_name that it stands for"
                ),
            ],
            id="settings",
        ),
        pytest.param(
            HEAD + f"general_settings: {{master_key: {MARKER} x}}\nrouter_settings: []",
            [
                f"config.yaml: general_settings.master_key: {VISIBLE}",
                "config.yaml: router_settings: expected `name: value` lines",
            ],
            id="sections",
        ),
        pytest.param(
            HEAD + "general_settings: {master_key: sk-1234}",
            [
                (
                    "config.yaml: general_settings.master_key: everybody knows this one from "
                    "LiteLLM's documentation; choose another"
                )
            ],
            id="known-master-key",
        ),
        pytest.param(
            HEAD + "include: [missing.yaml, config.yaml, bad.yaml, 1]",
            [
                f"config.yaml: include[3]: {TEXT}",
                "missing.yaml: cannot be read: No such file or directory",
                "config.yaml: is included twice, or after 32 others",
                (
                    "bad.yaml: line 2, column 1: is not YAML; "
                    "check indentation, colons and quotes here"
                ),
            ],
            id="include",
        ),
        pytest.param(
            HEAD + "include: [part.yaml]",
            [
                (
                    "part.yaml: model_list[0].litellm_params.api_key: is missing; "
                    "set it to os.environ/NAME, or set OPENAI_API_KEY"
                )
            ],
            id="in-an-included-file",
        ),
        # Pathological
        pytest.param(
            entry(f"api_base: 'https://h/{'p' * 250}', api_key: {'k' * 4097}", group="n" * 257),
            [
                f"config.yaml: model_list[1].{place}: is longer than {limit} characters; shorten it"
                for place, limit in (
                    ("model_name", 256),
                    ("litellm_params.api_base", 256),
                    ("litellm_params.api_key", 4096),
                )
            ],
            id="too-long",
        ),
        pytest.param("[]", ["config.yaml: expected `name: value` lines"], id="list"),
        pytest.param("1: 2", ["config.yaml: expected `name: value` lines"], id="number-as-name"),
        pytest.param(
            "model_list: {}\ninclude: x.yaml",
            [
                "config.yaml: model_list: expected a list, one `- ` per entry",
                "config.yaml: include: expected a list, one `- ` per entry",
            ],
            id="no-lists",
        ),
        pytest.param(
            HEAD + "- {model_name: [x], litellm_params: {model: openai/x, api_key: "
            f"os.environ/{MARKER}-x}}, model_info: [x]}}",
            [
                f"config.yaml: model_list[1].model_name: {TEXT}",
                "config.yaml: model_list[1].model_info: expected `name: value` lines",
                (
                    "config.yaml: model_list[1].litellm_params.api_key: "
                    "expected the name of a variable after os.environ/"
                ),
            ],
            id="reference-to-nothing",
        ),
        pytest.param(
            f"model_list: &{MARKER} [*{MARKER}]",
            ["config.yaml: line 1: this alias has no anchor before it"],
            id="yaml",
        ),
        pytest.param(
            HEAD + 'router_settings: {model_group_alias: {"a\\u001bb": x}}',
            [
                (
                    "config.yaml: router_settings.model_group_alias.?: is the model_name of no "
                    "entry in model_list; correct it"
                )
            ],
            id="control-character-in-name",
        ),
    ],
)
def test_every_mistake_is_named(tmp_path: Path, text: str, problems: list[str]) -> None:
    """All mistakes are listed, each with its place and what to do, and no value is shown."""
    (tmp_path / "bad.yaml").write_text(f"a: [{MARKER}\n: b")
    (tmp_path / "part.yaml").write_text(
        "model_list: [{model_name: p, litellm_params: {model: openai/p}}]"
    )
    assert mistakes(tmp_path, text) == problems


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    """A chain of includes ends."""
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml]")
    assert mistakes(tmp_path, HEAD + "include: [0.yaml]") == [
        "31.yaml: is included twice, or after 32 others"
    ]
