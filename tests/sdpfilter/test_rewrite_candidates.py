import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.policies import check_hidden, count_candidates
from helpers.rewriting import (
    CHROMIUM,
    GATHERED,
    OPENAI,
    changes,
    policy,
    rewrite_answer,
    rewrite_offer,
    with_lines,
)
from ringback.sdppolicy import Policy
from sdpfilter.edits.addresses import why_hidden
from sdpfilter.errors import AnswerError
from sdpfilter.policyerrors import NoCandidateLeftError

PRIVATE = policy(offer_candidates="drop_private")
ALL = policy(offer_candidates="drop_all")
MASKED = policy(mask_related_addresses=True)
UDP = policy(answer_candidates="udp_only")
TCP = policy(answer_candidates="tcp_443_only")
OLD_AIORTC = OFFERS["offer_aiortc_old_2026-01-25_public"]
ESP32 = ANSWERS["answer_openai_2025-05-13_esp32"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        # Realistic
        pytest.param("10.255.255.254", "private", id="rfc-1918-10"),
        pytest.param("172.16.0.1", "private", id="rfc-1918-172"),
        pytest.param("192.168.1.9", "private", id="rfc-1918-192"),
        pytest.param("100.64.0.1", "private", id="carrier-grade-nat"),
        pytest.param("169.254.7.7", "private", id="link-local"),
        pytest.param("127.0.0.1", "private", id="loopback"),
        pytest.param("fd00::2", "private", id="unique-local"),
        pytest.param("fe80::1", "private", id="link-local-6"),
        pytest.param("::1", "private", id="loopback-6"),
        pytest.param("d5a6e1f8-0b5d-4a02-9a01-6c5ac1a6e0b1.local", "mdns", id="mdns"),
        pytest.param("203.0.113.71", "", id="public"),
        pytest.param("2a01:e0a:151:dc10:a8cb:5e93:9627:557c", "", id="public-6"),
        # Synthetic
        pytest.param("9.255.255.255", "", id="before-10"),
        pytest.param("11.0.0.0", "", id="after-10"),
        pytest.param("172.15.255.255", "", id="before-172"),
        pytest.param("172.32.0.0", "", id="after-172"),
        pytest.param("100.63.255.255", "", id="before-nat"),
        pytest.param("100.128.0.0", "", id="after-nat"),
        pytest.param("fbff::", "", id="before-unique-local"),
        pytest.param("fe7f::", "", id="before-link-local"),
        pytest.param("fec0::1", "private", id="site-local"),
        pytest.param("ff02::1", "private", id="multicast"),
        pytest.param("239.1.1.1", "private", id="multicast-4"),
        pytest.param("255.255.255.255", "private", id="broadcast"),
        pytest.param("0.0.0.0", "private", id="unspecified"),
        pytest.param("::ffff:10.0.0.1", "private", id="mapped-private"),
        pytest.param("::ffff:203.0.113.71", "", id="mapped-public"),
        pytest.param("::10.0.0.1", "private", id="compatible"),
        pytest.param("fe80::1%eth0", "private", id="zone"),
        pytest.param("printer.LOCAL.", "mdns", id="mdns-in-capitals"),
        pytest.param("host.example.com", "name", id="name"),
        # Pathological
        pytest.param("010.0.0.1", "name", id="octal"),
        pytest.param("", "name", id="empty"),
        pytest.param("\u0661\u0660.0.0.1", "name", id="arabic"),
    ],
)
def test_why_an_address_is_hidden(address: str, why: str) -> None:
    """Only an address that is certainly public stays."""
    assert why_hidden(address.encode()) == why


def test_private_candidates_go() -> None:
    """Of an aiortc offer the public candidate stays; default addresses that went are unset."""
    rewritten = rewrite_offer(OLD_AIORTC, PRIVATE)
    check_hidden(rewritten.description)
    lines = changes(OLD_AIORTC, rewritten.data)
    assert [line for line in lines if "candidate" not in line] == [
        "-m=audio 48208 UDP/TLS/RTP/SAVPF 96 0 8",
        "-c=IN IP4 10.255.255.254",
        "+m=audio 9 UDP/TLS/RTP/SAVPF 96 0 8",
        "+c=IN IP4 0.0.0.0",
        "-m=application 45901 DTLS/SCTP 5000",
        "-c=IN IP4 10.255.255.254",
        "+m=application 9 DTLS/SCTP 5000",
        "+c=IN IP4 0.0.0.0",
    ]
    left = rewritten.description.media[0].attributes(b"candidate")
    assert [candidate.value.split()[4] for candidate in left] == [b"203.0.113.71"]
    assert rewritten.data.count(b"a=end-of-candidates") == 2


def test_the_end_of_candidates_follows_them() -> None:
    """Where no candidate is left, nothing says that no more will come."""
    offer = OFFERS["offer_aiortc1.16_gathered"].replace(b"192.0.2.2", b"192.168.7.7")
    rewritten = rewrite_offer(offer, PRIVATE)
    assert count_candidates(rewritten.description) == 0
    assert b"a=end-of-candidates" not in rewritten.data


def test_the_end_goes_where_another_section_had_the_candidates() -> None:
    """A bundled section without candidates of its own does not keep its end of them."""
    first, second = OFFERS["offer_aiortc1.16_gathered"].split(b"m=application")
    lines = [line for line in second.splitlines(True) if not line.startswith(b"a=candidate")]
    rewritten = rewrite_offer(first + b"m=application" + b"".join(lines), ALL)
    assert b"a=end-of-candidates" not in rewritten.data


def test_the_end_stays_in_a_section_that_keeps_some() -> None:
    """Only the section that loses all of its candidates loses the line."""
    offer = OFFERS["offer_aiortc1.16_gathered"]
    head, tail = offer.split(b"m=application")
    tail = tail.replace(b"192.0.2.2", b"192.168.7.7")
    rewritten = rewrite_offer(head + b"m=application" + tail, PRIVATE)
    audio, application = rewritten.description.media
    assert len(audio.attributes(b"end-of-candidates")) == 1
    assert not application.attributes(b"end-of-candidates")


def test_an_offer_without_candidates_is_not_touched() -> None:
    """What browsers post passes as it came: the very same bytes."""
    for data in (CHROMIUM, OFFERS["offer_firefox153_audio_dc_initial"]):
        for wanted in (PRIVATE, ALL, MASKED):
            assert rewrite_offer(data, wanted).data is data


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        # Realistic
        pytest.param([b"a=candidate:1 1 udp 1 0ab1.local 5 typ host"], 0, id="mdns"),
        pytest.param([b"a=candidate:1 1 UDP 1 203.0.113.1 5 typ host"], 1, id="public"),
        # Synthetic
        pytest.param([b"a=candidate:1 1 udp 1 203.0.113.1 5"], 0, id="no-type"),
        pytest.param([b"a=candidate"], 0, id="empty"),
        pytest.param([b"a=candidate: 1 1 udp 1 10.0.0.1 5 typ host"], 0, id="space"),
        pytest.param([b"a=candidate:1  1\tudp 1  10.0.0.1 5 typ host"], 0, id="other-spaces"),
    ],
)
def test_lines_of_candidates(lines: list[bytes], left: int) -> None:
    """A line that cannot be read for certain does not pass."""
    rewritten = rewrite_offer(with_lines(CHROMIUM, b"a=rtcp:", *lines), PRIVATE)
    assert count_candidates(rewritten.description) == left


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Realistic
        pytest.param(
            b"a=rtcp:9 IN IP4 0.0.0.0",
            b"a=rtcp:5001 IN IP4 192.168.1.9",
            ["-a=rtcp:5001 IN IP4 192.168.1.9", "+a=rtcp:9 IN IP4 0.0.0.0"],
            id="rtcp",
        ),
        pytest.param(
            b"o=- 4086836847714397571 2 IN IP4 127.0.0.1",
            b"o=- 1 2 IN IP4 192.168.1.9",
            ["-o=- 1 2 IN IP4 192.168.1.9", "+o=- 1 2 IN IP4 0.0.0.0"],
            id="origin",
        ),
        pytest.param(
            b"c=IN IP4 0.0.0.0",
            b"c=IN IP6 fd00::1",
            ["-c=IN IP6 fd00::1", "+c=IN IP6 ::"],
            id="connection-6",
        ),
        # Synthetic
        pytest.param(b"c=IN IP4 0.0.0.0", b"c=IN IP4 203.0.113.1", [], id="public-connection"),
        pytest.param(b"a=rtcp:9 IN IP4 0.0.0.0", b"a=rtcp:5001", [], id="rtcp-port"),
        pytest.param(b"a=rtcp:9 IN IP4 0.0.0.0", b"a=rtcp:", [], id="rtcp-empty"),
        pytest.param(
            b"a=rtcp:9 IN IP4 0.0.0.0",
            b"a=rtcp:9 192.168.1.9",
            ["-a=rtcp:9 192.168.1.9", "+a=rtcp:9 IN IP4 0.0.0.0"],
            id="rtcp-unreadable",
        ),
        pytest.param(
            b"c=IN IP4 0.0.0.0",
            b"c=192.168.1.9",
            ["-c=192.168.1.9", "+c=IN IP4 0.0.0.0"],
            id="connection-unreadable",
        ),
        pytest.param(
            b"o=- 4086836847714397571 2 IN IP4 127.0.0.1",
            b"o=my name 1 2 IN IP6 fd00::1 ",
            ["-o=my name 1 2 IN IP6 fd00::1 ", "+o=my name 1 2 IN IP6 ::"],
            id="origin-6",
        ),
        pytest.param(
            b"o=- 4086836847714397571 2 IN IP4 127.0.0.1", b"o=-", [], id="origin-unreadable"
        ),
    ],
)
def test_other_addresses_are_hidden(old: bytes, new: bytes, expected: list[str]) -> None:
    """Where an address stands outside of candidates, it goes like theirs."""
    data = CHROMIUM.replace(old, new, 1)
    assert data != CHROMIUM
    assert changes(data, rewrite_offer(data, PRIVATE).data) == expected


def test_an_address_of_the_session_is_for_sections_without_one() -> None:
    """Where c= stands above the media sections, their ports go with it."""
    data = GATHERED.replace(b"c=IN IP4 192.0.2.2\r\n", b"").replace(
        b"t=0 0", b"c=IN IP4 192.0.2.2\r\nt=0 0"
    )
    rewritten = rewrite_offer(data, ALL)
    assert rewritten.description.session.typed(b"c")[0].value == b"IN IP4 0.0.0.0"
    assert [section.port for section in rewritten.description.media] == [9, 9]


def test_an_address_of_the_session_alone_is_hidden_too() -> None:
    """It goes even where every section has its own."""
    data = CHROMIUM.replace(b"t=0 0", b"c=IN IP4 192.168.1.9\r\nt=0 0")
    assert changes(data, rewrite_offer(data, PRIVATE).data) == [
        "-c=IN IP4 192.168.1.9",
        "+c=IN IP4 0.0.0.0",
    ]


@pytest.mark.parametrize(
    ("end", "masked"),
    [
        # Realistic
        pytest.param("raddr 192.168.0.87 rport 61015", "raddr 0.0.0.0 rport 9", id="srflx"),
        pytest.param(
            "raddr 192.168.0.87 rport 61015 generation 0 network-cost 999",
            "raddr 0.0.0.0 rport 9 generation 0 network-cost 999",
            id="with-more",
        ),
        pytest.param("raddr 0.0.0.0 rport 9", "raddr 0.0.0.0 rport 9", id="masked-already"),
        pytest.param("generation 0", "generation 0", id="none"),
        # Synthetic
        pytest.param("RADDR fd00::1 RPORT 5", "RADDR 0.0.0.0 RPORT 9", id="capitals"),
        pytest.param("raddr  10.0.0.1", "raddr  0.0.0.0", id="two-spaces"),
        pytest.param("ufrag raddr generation 0", "ufrag raddr generation 0", id="no-name"),
        pytest.param("raddr", "raddr", id="no-value"),
    ],
)
def test_related_addresses_are_masked(end: str, masked: str) -> None:
    """The address behind a reflexive candidate is masked, and nothing else of the line."""
    start = "a=candidate:1 1 udp 1677729535 203.0.113.72 61015 typ srflx "
    data = with_lines(CHROMIUM, b"a=rtcp:", (start + end).encode())
    expected = [] if end == masked else [f"-{start}{end}", f"+{start}{masked}"]
    assert changes(data, rewrite_offer(data, MASKED).data) == expected


def test_a_related_address_is_masked_in_its_family() -> None:
    """Beside an IPv6 address the mask is one of IPv6."""
    line = b"a=candidate:1 1 udp 1 2001:db8::1 5 typ srflx raddr fd00::1 rport 5"
    data = with_lines(CHROMIUM, b"a=rtcp:", line)
    assert b" raddr :: rport 9\r\n" in rewrite_offer(data, MASKED).data


def test_a_dropped_candidate_is_not_masked() -> None:
    """A private candidate with a related address goes whole."""
    line = b"a=candidate:1 1 udp 1 10.0.0.1 5 typ srflx raddr 10.0.0.2 rport 5"
    data = with_lines(CHROMIUM, b"a=rtcp:", line)
    both = policy(offer_candidates="drop_private", mask_related_addresses=True)
    assert rewrite_offer(data, both).data == CHROMIUM


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        # Realistic
        pytest.param(Policy(), 6, id="keep"),
        pytest.param(UDP, 3, id="udp_only"),
        pytest.param(TCP, 3, id="tcp_443_only"),
        pytest.param(policy(answer_addresses=["20.74.0.0/16", "51.4.112.173/32"]), 4, id="ranges"),
        pytest.param(
            policy(answer_addresses=["20.0.0.0/8"], answer_candidates="udp_only"),
            1,
            id="udp-of-a-range",
        ),
    ],
)
def test_candidates_of_the_answer(wanted: Policy, left: int) -> None:
    """The downstream sees the transports and addresses that are allowed."""
    assert count_candidates(rewrite_answer(OPENAI, wanted).description) == left


@pytest.mark.parametrize(
    ("wanted", "answer", "offer"),
    [
        # Realistic
        pytest.param(TCP, ESP32, CHROMIUM, id="only-3478"),
        pytest.param(policy(answer_addresses=["::/0"]), OPENAI, CHROMIUM, id="only-ipv6"),
        pytest.param(TCP, ESP32, GATHERED, id="though-the-offer-has-some"),
        pytest.param(ALL, OPENAI.replace(b"a=cand", b"a=x-cand"), GATHERED, id="both-stripped"),
        # Synthetic
        pytest.param(
            policy(answer_addresses=["20.0.0.0/8"]),
            OPENAI.replace(b"51.4.112.173", b"a.local")
            .replace(b"20.74.221.21", b"20.example")
            .replace(b"72.146.20.246", b"2001:db8::1"),
            CHROMIUM,
            id="names",
        ),
    ],
)
def test_no_candidate_left(wanted: Policy, answer: bytes, offer: bytes) -> None:
    """An answer that keeps no candidate is refused: the call would be dead, or pass the policy."""
    with pytest.raises(NoCandidateLeftError) as refusal:
        rewrite_answer(answer, wanted, offer=offer)
    assert isinstance(refusal.value, AnswerError)


@pytest.mark.parametrize("wanted", [Policy(), PRIVATE, UDP], ids=["keep", "private", "udp"])
def test_an_answer_without_candidates_may_do_if_the_offer_has_some(wanted: Policy) -> None:
    """An upstream without candidates may still reach those of the offer."""
    answer = OPENAI.replace(b"a=candidate", b"a=x-candidate")
    assert rewrite_answer(answer, wanted, offer=GATHERED).data is answer


def test_default_addresses_of_an_answer_go_with_their_candidates() -> None:
    """The default address is unset if its candidate went, and stays if it stayed."""
    answer = OPENAI.replace(
        b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0",
        b"m=audio 3478 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 51.4.112.173",
    )
    assert rewrite_answer(answer, UDP).data.startswith(answer[: answer.index(b"a=candidate")])
    assert changes(answer, rewrite_answer(answer, TCP).data)[:4] == [
        "-m=audio 3478 UDP/TLS/RTP/SAVPF 111",
        "-c=IN IP4 51.4.112.173",
        "+m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "+c=IN IP4 0.0.0.0",
    ]
