from pathlib import Path

import pytest

from extauthz.errors import ConfigError
from extauthz.litellm import load_config
from helpers.authz import write_config
from ringback.secretfiles import MAX_BYTES, SecretFileError, Variables, secret_files
from ringback.secrets import Secret
from ringback.settings import TokenSettings, load_settings
from ringback.settings.load import SettingsError
from ringback.tokens import token_sealer

SECRET = "sk-0123456789-mounted-secret"


def mounted(folder: Path, content: str = f"{SECRET}\n") -> str:
    """Return the path of a file with a secret."""
    file = folder / "secret"
    file.write_text(content)
    return str(file)


def entry(api_key: str | None) -> dict[str, object]:
    """Return an entry of ``model_list``."""
    params = {"model": "openai/gpt-realtime"} | ({"api_key": api_key} if api_key else {})
    return {"model_name": "voice", "litellm_params": params}


def test_a_value_is_read_from_its_file(tmp_path: Path) -> None:
    """`NAME_FILE` names the file; a value in the environment beats it, an empty one does not."""
    file = mounted(tmp_path)
    assert Variables({"A_FILE": file})["A"] == SECRET
    assert Variables({"A_FILE": file, "A": ""})["A"] == SECRET
    assert Variables({"A_FILE": file, "A": "own"})["A"] == "own"
    assert Variables({"A_FILE": file})["A_FILE"] == file
    assert Variables({"A_FILE": ""}).get("A") is None
    assert Variables({"A": ""})["A"] == ""


def test_each_look_reads_the_file_again(tmp_path: Path) -> None:
    """A mounted secret may change at any time."""
    variables = Variables({"A_FILE": mounted(tmp_path)})
    assert variables["A"] == SECRET
    mounted(tmp_path, "another\r\n")
    assert variables["A"] == "another"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (MAX_BYTES + 1)], ids=["bytes", "large"])
def test_a_file_that_is_of_no_use_is_an_error(tmp_path: Path, content: bytes) -> None:
    """What cannot be read is never taken for a secret that is not set."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SecretFileError, match="that A_FILE names cannot be used") as caught:
        Variables({"A_FILE": str(file)}).get("A")
    assert "xxx" not in str(caught.value)
    file.unlink()
    with pytest.raises(SecretFileError, match="No such file"):
        Variables({"A_FILE": str(file)}).get("A")


def test_provider_keys_come_from_files(tmp_path: Path) -> None:
    """A reference and a variable that stands in for an absent key are both read from files."""
    path, file = tmp_path / "config.yaml", mounted(tmp_path)
    write_config(path, entry("os.environ/MINE"), entry(None))
    environ = {"MINE_FILE": file, "OPENAI_API_KEY_FILE": file}
    keys = {deployment.api_key for deployment in load_config(path, environ).deployments}
    assert keys == {Secret(SECRET)}


def test_every_file_that_cannot_be_used_is_a_mistake(tmp_path: Path) -> None:
    """Each is named with its place, beside all other mistakes."""
    path = tmp_path / "config.yaml"
    write_config(path, entry("os.environ/MINE"), entry(None), entry("os.environ/NOPE"))
    environ = {"MINE_FILE": "/nonexistent/a", "OPENAI_API_KEY_FILE": "/nonexistent/b"}
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    problems = "\n".join(caught.value.problems)
    assert "model_list[0].litellm_params.api_key: the file that MINE_FILE names" in problems
    assert "model_list[1].litellm_params.api_key: the file that OPENAI_API_KEY_FILE" in problems
    assert "the variable NOPE is not set" in problems
    assert "/nonexistent" not in problems


def test_tokens_are_sealed_by_a_secret_in_a_file(tmp_path: Path) -> None:
    """The salt may be mounted; one that cannot be read is no reason to seal by the master key."""
    claims = {"iat": 1, "exp": 100}
    sealed = token_sealer(TokenSettings(), {"LITELLM_SALT_KEY_FILE": mounted(tmp_path)}).seal(
        claims, 1
    )
    assert token_sealer(TokenSettings(secret=Secret(SECRET)), {}).open(sealed, 1) == claims
    environ = {"LITELLM_SALT_KEY_FILE": "/nonexistent", "LITELLM_MASTER_KEY": "m" * 20}
    with pytest.raises(SecretFileError):
        token_sealer(TokenSettings(), environ)


def test_settings_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable with our prefix may have a file; settings that name files stay such."""
    monkeypatch.setenv("RINGBACK_TOKEN__SECRET_FILE", mounted(tmp_path))
    monkeypatch.setenv("RINGBACK_TOKEN__JWK_SET_FILE", "/somewhere/set.json")
    monkeypatch.setenv("RINGBACK_KEYS_FILE", "/somewhere/keys.yaml")
    found = load_settings()
    assert found.token.secret == Secret(SECRET)
    assert found.token.jwk_set_file == Path("/somewhere/set.json")
    assert found.keys_file == Path("/somewhere/keys.yaml")
    monkeypatch.setenv("RINGBACK_STORE__URL_FILE", "/nonexistent")
    with pytest.raises(SettingsError, match="RINGBACK_STORE__URL_FILE names cannot be used"):
        load_settings()
    monkeypatch.delenv("RINGBACK_STORE__URL_FILE")
    monkeypatch.setenv("RINGBACK_NO_SUCH_FILE", "/nonexistent")
    with pytest.raises(SettingsError, match="RINGBACK_NO_SUCH_FILE: there is no such setting"):
        load_settings()


def test_files_of_secrets_are_found_to_be_watched(tmp_path: Path) -> None:
    """Those that exist and are small: no bundle of certificates is read four times a second."""
    large = tmp_path / "ca.pem"
    large.write_bytes(b"x" * (MAX_BYTES + 1))
    environ = {
        "A_FILE": mounted(tmp_path),
        "SSL_CERT_FILE": str(large),
        "B_FILE": "/nonexistent",
        "C_FILE": str(tmp_path),
        "D": "/etc/passwd",
    }
    assert secret_files(environ) == [tmp_path / "secret"]
