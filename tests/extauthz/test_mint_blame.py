import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from extauthz.admission import Admitted
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.mint import MintFailedError
from extauthz.mintbody import parse_mint_request
from extauthz.routing import Router
from helpers.authz import EPHEMERAL_KEY, NOW, OPENAI, Clock, minter, sealer, settings
from helpers.listener import listening

KEY = VirtualKey("a" * 64, models=("voice",))
GROUP = tuple(replace(OPENAI, id=name, order=order) for order, name in enumerate("ab"))
MINTED = json.dumps({"value": EPHEMERAL_KEY}).encode()


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        # Realistic
        pytest.param(
            replace(KEY, expires=datetime.fromtimestamp(NOW, UTC)),
            401,
            "key_expired",
            id="expired-while-the-provider-minted",
        ),
        # Pathological
        pytest.param(replace(KEY, alias="x" * 513), 502, "upstream_failed", id="long-alias"),
        pytest.param(replace(KEY, user="x" * 513), 502, "upstream_failed", id="long-user"),
    ],
)
async def test_a_key_that_no_token_can_name_is_nobodys_failure(
    key: VirtualKey, status: int, code: str
) -> None:
    """What is wrong with the caller's key is told at once, asks nobody else and cools nothing."""
    cooled: list[str] = []
    async with listening() as listener:
        egress = Egress.through(listener.url)
        router = Router(on_cooled=lambda name, *_: cooled.append(name))
        minting = minter(egress, sealer(), settings(), Clock(), router=router)
        for _ in range(6):
            listener.reply(200, MINTED)
            with pytest.raises(MintFailedError) as caught:
                await minting.mint(parse_mint_request(b""), Admitted(key, "voice", GROUP), None)
            assert (caught.value.http_status, caught.value.code) == (status, code)
            assert caught.value.deployment == "a"
        assert len(listener.requests) == 6
        await egress.close()
    assert cooled == []
