from callkeeper.charging import Charging
from callkeeper.model import Call, Charge, Payer, Tokens, Usage
from callkeeper.pricelists import open_price_book
from callkeeper.prices import PricedDeployment

CALL = Call(
    id="1" * 32,
    deployment="voice-1",
    origin="https://api.openai.com",
    upstream_call_id="rtc_1",
    model="gpt-realtime",
    payer=Payer("f" * 64),
    token_id="",
    request_id="",
    opened_at=0.0,
)
USAGE = Usage("resp_1", "response", "", Tokens(text_in=3, audio_out=2), 0.0)
DEPLOYMENT = PricedDeployment("openai", "gpt-realtime")


def test_a_usage_is_priced_and_handed_on() -> None:
    """Every taker gets the charge: 3 tokens read for 4 microdollars each, 2 spoken for 64."""
    taken: list[Charge] = []
    charging = Charging(open_price_book(), [taken.append])
    assert charging.charge(CALL, USAGE, DEPLOYMENT) == 3 * 4 + 2 * 64
    assert taken == [Charge(CALL, USAGE, 140)]


def test_a_wildcard_is_priced_as_what_was_asked_for() -> None:
    """The upstream's model is then the name of the group."""
    wildcard = PricedDeployment("openai", "*")
    assert Charging(open_price_book()).charge(CALL, USAGE, wildcard) == 140


def test_what_has_no_price_is_handed_on_all_the_same() -> None:
    """It costs nothing, and is counted for itself."""
    taken: list[Charge] = []
    charging = Charging(open_price_book(), [taken.append])
    unknown = PricedDeployment("azure", "my-deployment")
    assert [charging.charge(CALL, USAGE, each) for each in (unknown, None)] == [0, 0]
    assert [charge.usage for charge in taken] == [USAGE, USAGE]
