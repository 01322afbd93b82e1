import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from helpers.descriptions import ANSWERS, OFFERS
from ringback.cli import app
from sdpfilter.policy import PRESETS

DATA = Path(__file__).parents[1] / "data/sdp"
OFFER = DATA / "offer_chromium156_audio_dc_initial.sdp"
VIDEO = DATA / "offer_chromium156_audio_video_dc_initial.sdp"
AIORTC = DATA / "offer_aiortc_old_2026-01-25_public.sdp"
ANSWER = DATA / "answer_openai_2026-01-25_to_aiortc.sdp"
ESCAPE = "\x1b"
SETTINGS = """
cors_origins: ["https://app.example"]
sdp:
  policies:
    few: {max_candidates: 3}
    mute: {media: [audio], forbidden_media: refuse}
    tcp: {answer_candidates: tcp_443_only}
    udp: {answer_candidates: udp_only}
  default: null
  models: {voice: few, web: tcp}
  teams: {t1: mute}
  keys: {k1: udp}
"""


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run `ringback sdp`."""
    return CliRunner().invoke(app, ["sdp", *map(str, arguments)], input=stdin)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return a ringback.yaml whose models, teams and keys have policies; two contradict."""
    path = tmp_path / "ringback.yaml"
    path.write_text(SETTINGS.replace("web: tcp", "web: few").replace("k1: udp", "k1: mute"))
    return path


def written(folder: Path, data: bytes) -> Path:
    """Return a new file with these bytes."""
    path = folder / "description.sdp"
    path.write_bytes(data)
    return path


CHECKED = """\
policy: strict_firewall
--- FILE as it came
+++ FILE as the downstream receives it
@@ -25,7 +25,4 @@
 a=sendrecv
-a=candidate:727169150 1 udp 2130706431 4.151.200.38 3478 typ host ufrag KYOFLyRb/u1
 a=candidate:1878291698 1 tcp 1671430143 4.151.200.38 443 typ host tcptype passive ufrag KYOFLyRb/u1
-a=candidate:38269317 1 udp 2130706431 172.214.226.198 3478 typ host ufrag KYOFLyRb/u1
 a=candidate:2394539241 1 tcp 1671430143 172.214.226.198 443 typ host tcptype passive ufrag \
KYOFLyRb/u1
-a=candidate:4152413238 1 udp 2130706431 172.203.39.49 3478 typ host ufrag KYOFLyRb/u1
 a=candidate:1788861106 1 tcp 1671430143 172.203.39.49 443 typ host tcptype passive ufrag \
KYOFLyRb/u1

The answer passes with 3 edits:
  candidate_dropped at lines 26, 28, 30: answer_candidates does not allow its transport or port
"""


def test_an_edited_answer_is_shown_as_a_diff() -> None:
    """The diff, then each rule with its lines and reason; a pipe gets no colour codes."""
    result = run("check", ANSWER, "--answer-to", AIORTC, "--policy", "strict_firewall")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == CHECKED.replace("FILE", str(ANSWER))


REFUSED = """\
policy: FILE for team t1
The offer is refused: sdp_media_forbidden (HTTP 403)
  line 44: expected a media section of an allowed kind: audio
  44 | m=application 9 UDP/DTLS/SCTP webrtc-datachannel
  to do: add no other track or transceiver before createOffer()
"""


def test_a_refusal_names_rule_line_and_fix(settings: Path) -> None:
    """The code, what was expected where, the line itself, and what to change; exit code 1."""
    lineno = (
        OFFER.read_bytes().split(b"\r\n").index(b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel")
    )
    result = run("check", OFFER, "--policy", settings, "--team", "t1")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == REFUSED.replace("FILE", str(settings)).replace("44", str(lineno + 1))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", OFFERS)
def test_every_offer_is_answered_for_every_preset(name: str, preset: str) -> None:
    """Real offers pass; the one that is not whole is refused, as by the filter itself."""
    result = run("check", DATA / f"{name}.sdp", "--policy", preset)
    is_whole = "partial" not in name
    assert (result.exit_code, result.stderr) == (0 if is_whole else 1, "")
    assert ESCAPE not in result.stdout
    edited = "passes with" in result.stdout
    assert edited == (f"--- {DATA / name}.sdp as it came" in result.stdout)
    assert edited or "passes unchanged" in result.stdout or not is_whole


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_passes_for_its_offer(name: str) -> None:
    """Real answers pass unchanged after the default policy, which is about offers."""
    result = run("check", DATA / f"{name}.sdp", "--answer-to", OFFER)
    assert result.exit_code == 0
    assert result.stdout == "policy: privacy (the default)\nThe answer passes unchanged.\n"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        # Realistic
        pytest.param(
            b'{"type": "offer", "sdp": "v=0"}',
            ["sdp_not_sdp (HTTP 400)", '  1 | {"type": "offer", "sdp": "v=0"}'],
            id="json",
        ),
        pytest.param(
            OFFERS["offer_chromium156_audio_dc_initial"].rstrip(),
            ["sdp_invalid_line (HTTP 400)", "  48 | a=max-message-size:262144"],
            id="trimmed",
        ),
        # Pathological
        pytest.param(b"", ["sdp_not_sdp (HTTP 400)", "  1 | "], id="empty"),
        pytest.param(b"v=0\n" * 2000, ["sdp_too_many_lines (HTTP 413)"], id="endless"),
        pytest.param(
            b"v=0\r\n\x1b]0;owned\x07" + b"x" * 300 + b"\r\n",
            ["sdp_invalid_line (HTTP 400)", r"  2 | \x1b]0;owned\x07x"],
            id="terminal-commands",
        ),
    ],
)
def test_what_is_no_description_is_refused(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    """The filter would refuse it, so the exit code is 1; no byte commands the terminal."""
    result = run("check", written(tmp_path, data))
    assert (result.exit_code, result.stderr) == (1, "")
    for line in lines:
        assert line in result.stdout
    assert ESCAPE not in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 200


def test_an_answer_is_refused_for_itself_or_its_offer(tmp_path: Path) -> None:
    """Either may be at fault: it is told which, and the lines shown are its own."""
    wrong = ANSWER.read_bytes().replace(b"a=setup:active", b"a=setup:actpass", 1)
    result = run("check", written(tmp_path, wrong), "--answer-to", AIORTC)
    assert result.exit_code == 1
    assert "The answer is refused: sdp_invalid_answer (HTTP 502)" in result.stdout
    assert "  10 | a=setup:actpass\n" in result.stdout
    result = run("check", ANSWER, "--answer-to", DATA / "offer_safari13_partial_audio_section.sdp")
    assert result.exit_code == 1
    assert "The offer is refused: sdp_invalid_line (HTTP 400)" in result.stdout
    assert "  5 | a=group:BUNDLE audio video data\n" in result.stdout
    result = run("check", ANSWER, "--answer-to", VIDEO)
    assert "The answer is refused: sdp_section_count (HTTP 502)" in result.stdout


def test_an_answer_is_not_taken_for_an_offer_unnoticed() -> None:
    """What looks like an answer passes as an offer, with a note on how to check it as one."""
    result = run("check", ANSWER)
    assert result.exit_code == 0
    assert result.stderr == (
        f"note: {ANSWER} looks like an answer; --answer-to OFFER checks it as one\n"
    )
    assert run("check", OFFER).stderr == ""


def test_standard_input_is_a_file() -> None:
    """A dash reads it, once."""
    data = OFFER.read_bytes()
    assert run("check", "-", stdin=data).exit_code == 0
    assert run("check", ANSWER, "--answer-to", "-", stdin=data).exit_code == 0
    assert run("describe", "-", stdin=data).stdout.startswith("-: an offer, ")
    result = run("check", "-", "--answer-to", "-", stdin=data)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "-: standard input can be read only once; name a file\n"


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        # Realistic
        pytest.param([], 0, id="nobody"),
        pytest.param(["--model", "voice"], 1, id="model"),
        pytest.param(["--model", "other"], 0, id="other-model"),
        pytest.param(["--team", "t1"], 1, id="team"),
        pytest.param(["--key-alias", "k1"], 1, id="key"),
    ],
)
def test_settings_choose_by_caller(settings: Path, caller: list[str], code: int) -> None:
    """A whole ringback.yaml has policies for models, teams and keys."""
    assert run("check", AIORTC, "--policy", settings, *caller).exit_code == code


def test_one_policy_may_be_a_file(tmp_path: Path) -> None:
    """A file with switches is one policy; an empty one leaves only what always holds."""
    path = tmp_path / "policy.yaml"
    path.write_text("max_candidates: 3")
    assert run("check", AIORTC, "--policy", path).exit_code == 1
    path.write_text("")
    result = run("check", AIORTC, "--policy", path)
    assert result.stdout == f"policy: {path}\nThe offer passes unchanged.\n"


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        # Realistic
        pytest.param(
            "max_candidate: 3",
            ["max_candidate: there is no such switch; docs/sdp.md lists them"],
            id="misspelt",
        ),
        pytest.param(
            "{max_lines: 1, audio_codecs: [cn]}",
            [
                "audio_codecs: name at least one codec for voice: opus, g722, pcmu or pcma",
                "max_lines: input should be greater than or equal to 32",
            ],
            id="two-mistakes",
        ),
        pytest.param(
            "sdp: {default: nothing}",
            ["sdp.default: there is no policy of this name, only kiosk, low_bandwidth, privacy"],
            id="no-such-name",
        ),
        pytest.param(
            "sdp: {default: {max_line: 1}}",
            ["sdp.default.max_line: there is no such switch; docs/sdp.md lists them"],
            id="misspelt-in-settings",
        ),
        pytest.param(
            SETTINGS,
            ["sdp.models.web and sdp.keys.k1: answer_candidates: nothing satisfies both tcp"],
            id="contradiction",
        ),
        # Pathological
        pytest.param("- a", ["expected a policy as `switch: value` lines"], id="list"),
        pytest.param("a: [", ["line 1: not YAML"], id="no-yaml"),
        pytest.param("\0", ["not YAML"], id="nul"),
        pytest.param("3: 4", ["3: keys should be strings"], id="number"),
        pytest.param("sdp: 3", ["sdp.: "], id="section-is-a-number"),
    ],
)
def test_a_policy_that_cannot_be_used_is_explained(
    tmp_path: Path, content: str, problems: list[str]
) -> None:
    """Every mistake is listed with its place; exit code 2, and nothing on standard output."""
    path = tmp_path / "policy.yaml"
    path.write_text(content)
    result = run("check", OFFER, "--policy", path)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == len(problems)
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"{path}: {problem}")


def test_a_contradiction_of_three_shows_in_the_call(tmp_path: Path) -> None:
    """Any two go together; the caller for whom all three hold learns the switch."""
    path = tmp_path / "ringback.yaml"
    path.write_text("""
sdp:
  policies: {a: {audio_codecs: [pcmu, g722]}, b: {audio_codecs: [opus, g722]}}
  default: {audio_codecs: [opus, pcmu]}
  models: {voice: a}
  teams: {t1: b}
""")
    assert run("check", OFFER, "--policy", path, "--model", "voice").exit_code == 0
    result = run("check", OFFER, "--policy", path, "--model", "voice", "--team", "t1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{path}: sdp: audio_codecs: nothing satisfies both ")


def test_files_that_cannot_be_read_are_explained(tmp_path: Path) -> None:
    """Exit code 2 tells a missing file from a refused description."""
    for arguments in (
        ("check", tmp_path / "none.sdp"),
        ("check", ANSWER, "--answer-to", tmp_path),
        ("check", OFFER, "--policy", tmp_path),
        ("describe", tmp_path / "none.sdp"),
        ("describe", OFFER, "--answer", tmp_path),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "cannot be read" in result.stderr
    result = run("check", OFFER, "--policy", "kiosks")
    assert result.stderr == (
        "kiosks: neither a file nor a preset (kiosk, low_bandwidth, privacy, strict_firewall)\n"
    )
    result = run("check", OFFER, "--policy", "kiosk", "--team", "t1")
    assert (result.exit_code, "give one as --policy" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "variables", "is_terminal", "colored"),
    [
        # Realistic
        pytest.param((), {}, True, True, id="terminal"),
        pytest.param((), {}, False, False, id="pipe"),
        pytest.param((), {"NO_COLOR": "1"}, True, False, id="no-color"),
        pytest.param(("--no-color",), {}, True, False, id="switched-off"),
        pytest.param(("--color",), {"NO_COLOR": "1"}, False, True, id="switched-on"),
        # Pathological
        pytest.param((), {"NO_COLOR": ""}, True, True, id="no-color-is-empty"),
    ],
)
def test_colours_are_for_terminals(
    arguments: tuple[str, ...], variables: dict[str, str], *, is_terminal: bool, colored: bool
) -> None:
    """Only a terminal gets colour codes, unless the command line says otherwise."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-c", "from ringback.cli import main; main()", "sdp", "check"]
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    with os.fdopen(ours, "rb", buffering=0) as output, os.fdopen(theirs, "wb"):
        subprocess.run(
            [*command, OFFER, "--policy", "kiosk", *arguments],
            env={**environment, **variables},
            stdout=theirs,
            check=True,
        )
        text = output.read(4000)
    assert text.startswith(b"policy: kiosk")
    assert (b"\x1b[31m-" in text) is colored


DESCRIBED = """\
OFFER: an offer, 3134 bytes, 50 lines
  section 0     audio, sendrecv, mid 0 (line 7)
    codecs      opus/48000/2, PCMU/8000, PCMA/8000
  section 1     application, mid 1 (line 33)
                data channel
  BUNDLE        0 1
  ICE           full, end-of-candidates
  DTLS          actpass (client or server, as the answer chooses); \
fingerprint: sha-256, sha-384, sha-512
  candidates    12
                  10 host UDP private
                  2 srflx UDP public

ANSWER: an answer, 1483 bytes, 40 lines
  section 0     audio, sendrecv, mid 0 (line 8)
    codecs      opus/48000/2, PCMU/8000, PCMA/8000
    Opus        minptime=10;useinbandfec=1
  section 1     application, mid 1 (line 32)
                data channel
  BUNDLE        0 1
  ICE           full
  DTLS          active (client: begins); fingerprint: sha-256
  candidates    6
                  3 host UDP public
                  3 host TCP 443 public

No hint: as far as the descriptions tell, audio can flow.
"""


def test_an_offer_and_its_answer_are_described() -> None:
    """Both summaries, then the hints of both together."""
    result = run("describe", AIORTC, "--answer", ANSWER)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == DESCRIBED.replace("OFFER", str(AIORTC)).replace("ANSWER", str(ANSWER))


def test_hints_are_printed_with_their_codes(tmp_path: Path) -> None:
    """The code leads to the row in docs/sdp.md; what no side names is none."""
    data = (
        OFFER.read_bytes()
        .replace(b"a=sendrecv", b"a=recvonly")
        .replace(b"c=IN IP4 0.0.0.0\r\n", b"c=IN IP4 0.0.0.0\r\nb=AS:40\r\n", 1)
        .replace(b"m=application 9", b"m=application 0")
        .replace(b"a=setup:actpass\r\n", b"")
        .replace(b"a=mid:1\r\n", b"")
        .replace(b"a=group:BUNDLE 0 1\r\n", b"a=ice-lite\r\n")
    )
    result = run("describe", written(tmp_path, data))
    assert result.exit_code == 0
    for row in (
        "    bandwidth   AS:40\n",
        "    helpers     red/48000/2, CN/8000, telephone-event/48000, telephone-event/8000\n",
        "  section 1     application, rejected (port 0), no mid (line 39)\n",
        "  BUNDLE        none\n",
        "  ICE           lite: waits for checks, trickle\n",
        "  DTLS          no role; fingerprint: sha-256\n",
        "Hints:\n  recvonly: line 8 of the answer, audio: a=recvonly, so ",
        "\n  section_rejected: line 39 of the answer, application: port 0 rejects",
    ):
        assert row in result.stdout


@pytest.mark.parametrize("name", [*OFFERS, *ANSWERS])
def test_every_description_can_be_described(name: str) -> None:
    """Also the one that is not whole; neither addresses nor credentials are printed."""
    data = {**OFFERS, **ANSWERS}[name]
    result = run("describe", DATA / f"{name}.sdp")
    assert (result.exit_code, result.stderr) == (0, "")
    for line in data.splitlines():
        fields = line.split()
        if line.startswith((b"a=ice-pwd:", b"a=fingerprint:")):
            assert line.split(b":", 1)[1].split()[-1].decode() not in result.stdout
        elif line.startswith(b"a=candidate:"):
            assert fields[4].decode() not in result.stdout


def test_what_is_no_description_cannot_be_described(tmp_path: Path) -> None:
    """Exit code 2, with the line and what to change."""
    path = written(tmp_path, b"v=0\r\n\r\n")
    result = run("describe", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"{path}: not a session description: line 2: expected no blank line; "
        "remove it; a single CRLF ends the last line\n"
    )
