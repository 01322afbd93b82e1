import pytest

from callkeeper.sinks.signing import BadSigningSecretError, parse_secrets, signed_headers
from ringback.secrets import Secret

# Of the standard's own tests:
# https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/python/tests
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_as_the_standard_says() -> None:
    """The signature is that of the standard's own test."""
    headers = signed_headers(parse_secrets(Secret(SECRET)), ID, TIMESTAMP, BODY)
    assert headers == {
        "webhook-id": ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    }


def test_two_secrets_make_two_signatures() -> None:
    """While one is replaced, receivers that know either believe the message."""
    other = "whsec_" + "QUJD" * 8
    headers = signed_headers(parse_secrets(Secret(f"{other} {SECRET}")), ID, TIMESTAMP, BODY)
    first, second = headers["webhook-signature"].split()
    assert (first != SIGNATURE, second) == (True, SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        # Realistic
        pytest.param("", id="none"),
        pytest.param("a-password-that-somebody-likes", id="password"),
        pytest.param(SECRET.removeprefix("whsec_"), id="without-prefix"),
        pytest.param("whsec_QUJD", id="too-short"),
        pytest.param("whsec_" + "QUJD" * 30, id="too-long"),
        # Pathological
        pytest.param(f"{SECRET} whsec_", id="one-of-two"),
        pytest.param("whsec_" + "é" * 32, id="not-ascii"),
        pytest.param("whsec_" + "QUJD" * 8 + "A", id="cut-off"),
    ],
)
def test_what_is_no_secret_of_the_standard_is_refused(text: str) -> None:
    """A weak secret is worse than none; the message does not quote it."""
    with pytest.raises(BadSigningSecretError) as caught:
        parse_secrets(Secret(text))
    assert "whsec_$(openssl rand -base64 32)" in str(caught.value)
