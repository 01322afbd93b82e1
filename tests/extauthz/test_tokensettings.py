from pathlib import Path

import pytest

from extauthz.errors import ConfigError
from extauthz.tokensettings import check_token_settings
from helpers.authz import settings

STORE = {"url": "redis://localhost"}


def test_workers_that_share_nothing_are_refused() -> None:
    """Without a store single use needs one worker, for each would let a token in once."""
    single = {"single_use": True}
    with pytest.raises(ConfigError, match=r"store\.url.*workers: 1"):
        check_token_settings(settings(token=single, workers=2))
    check_token_settings(settings(token=single, workers=1))
    check_token_settings(settings(token=single, workers=2, store=STORE))


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
