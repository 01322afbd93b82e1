import json
import subprocess
import sys
from pathlib import Path

import pytest

from extauthz.errors import ConfigError
from extauthz.tokensettings import check_token_settings
from helpers.authz import settings, write_config
from ringback.cli.plan import StackOptions, read_inputs

STORE = {"url": "redis://localhost"}


def test_workers_that_share_nothing_are_refused() -> None:
    """Without a store single use needs one worker, for each would let a token in once."""
    single = {"single_use": True}
    with pytest.raises(ConfigError, match=r"store\.url.*workers: 1"):
        check_token_settings(settings(token=single, workers=2))
    check_token_settings(settings(token=single, workers=1))
    check_token_settings(settings(token=single, workers=2, store=STORE))


def test_more_workers_than_the_settings_say_are_refused(tmp_path: Path) -> None:
    """Two addresses are two workers, whatever the settings call them: the start ends with 2."""
    config, own = tmp_path / "config.yaml", tmp_path / "ringback.yaml"
    write_config(
        config,
        {"model_name": "m", "litellm_params": {"model": "openai/gpt-realtime", "api_key": "k"}},
    )
    token = {"single_use": True, "secret": "0123456789abcdef"}
    own.write_text(json.dumps({"workers": 1, "token": token}))
    listens = [f"--listen=unix:{tmp_path}/{number}" for number in range(2)]
    ended = subprocess.run(
        [sys.executable, "-m", "extauthz", *listens, "--config", config, "--settings", own],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert "token.single_use: needs store.url" in ended.stderr


def test_up_counts_the_workers_that_it_starts(tmp_path: Path) -> None:
    """`--workers` counts, and not what the settings say beside it."""
    own = tmp_path / "ringback.yaml"
    own.write_text(json.dumps({"token": {"single_use": True, "secret": "0123456789abcdef"}}))
    with pytest.raises(ConfigError, match=r"store\.url"):
        read_inputs(StackOptions(settings=own))
    assert read_inputs(StackOptions(settings=own, workers=1)).workers == 1


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    """What is missing and what is wrong with the file comes in one message."""
    file = tmp_path / "revoked.yaml"
    file.write_text("revoked: [{kid: x}]")
    token = {"single_use": True, "revoked_in_store": True, "revoked_file": file}
    with pytest.raises(ConfigError) as caught:
        check_token_settings(settings(token=token))
    assert len(caught.value.problems) == 3
    file.write_text("revoked: []")
    check_token_settings(settings(token=token, store=STORE))
