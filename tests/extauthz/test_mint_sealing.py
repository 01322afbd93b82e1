import pytest

from extauthz.admission import Admitted
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.mint import SealingUnavailableError
from extauthz.mintbody import parse_mint_request
from helpers.authz import OPENAI, Clock, minter, settings
from helpers.listener import listening
from ringback.secrets import Secret
from ringback.tokens.budget import SealBudget
from ringback.tokens.jwe import Sealer
from ringback.tokens.keys import TOKEN_PURPOSE, KeyRing

RING = KeyRing.from_secret(Secret("0123456789abcdef"), TOKEN_PURPOSE, leeway_s=5)
WORN_OUT = Sealer(RING, prefix="ek_", budget=SealBudget("mint", share=0))
REVOKED = Sealer(RING, prefix="ek_")
REVOKED.revoked_kids = frozenset({"2026-11-22"})


@pytest.mark.parametrize("sealer", [WORN_OUT, REVOKED], ids=["worn-out", "revoked"])
async def test_nothing_is_minted_that_could_not_be_sealed(sealer: Sealer) -> None:
    """Without a key that may seal, the answer is 503 and the provider is not asked."""
    async with listening() as listener:
        egress = Egress.through(listener.url)
        admitted = Admitted(VirtualKey("a" * 64, alias="web"), "voice", (OPENAI,))
        with pytest.raises(SealingUnavailableError, match="another sealing key") as caught:
            await minter(egress, sealer, settings(), Clock()).mint(
                parse_mint_request(b"{}"), admitted, None
            )
        assert caught.value.http_status == 503
        assert listener.requests == []
        await egress.close()
