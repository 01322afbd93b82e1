import base64
import hashlib
import re

from callkeeper.calls import Reason
from helpers.playground import PAGE

# The page says nothing of the first, and has no call at the second. Of those below it says that the
# gateway could not watch over the call.
UNSAID = {"ended_elsewhere", "withheld"}
UNWATCHED = {
    "not_attached",
    "unattached",
    "uncontrollable",
    "unknown_standing",
    "session_not_locked",
}

TEXT = PAGE.read_text(encoding="utf-8")


def policy() -> dict[str, list[str]]:
    """The page's Content-Security-Policy by directive."""
    match = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', TEXT)
    assert match is not None
    directives = (directive.split() for directive in match[1].split(";"))
    return {name: sources for name, *sources in directives}


def inline_hash(pattern: str) -> str:
    """The CSP source of the only block of a kind: what belongs in the policy after a change."""
    (content,) = re.findall(pattern, TEXT, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    """The hashes in the policy are those of the page's one script and one style."""
    assert policy()["script-src"] == [inline_hash(r'<script type="module">(.*?)</script>')]
    assert policy()["style-src"] == [inline_hash(r"<style>(.*?)</style>")]
    assert not re.search(r"<[^>]*\s(style|on\w+)=", TEXT)


def test_the_policy_allows_no_other_origin() -> None:
    """Connections go to the page's own origin, and everything not named is forbidden."""
    assert policy()["default-src"] == ["'none'"]
    assert policy()["connect-src"] == ["'self'"]
    assert policy()["img-src"] == ["data:"]
    assert policy()["base-uri"] == policy()["form-action"] == ["'none'"]


def test_the_page_needs_nothing_else() -> None:
    """No other file or address is named but the namespace of SVG."""
    assert set(re.findall(r"https?://[\w./]+", TEXT)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|img|iframe|audio)[^>]*\ssrc=", TEXT)
    assert not re.search(r"@import|url\(", TEXT)


def test_the_page_is_small() -> None:
    """Envoy holds the whole page in memory and sends it as a direct response."""
    assert len(TEXT.encode()) < 64 * 1024


def test_the_script_writes_no_log_and_no_markup() -> None:
    """Nothing reaches the console, and texts from outside never become markup."""
    assert not re.search(r"console\.\w|innerHTML|insertAdjacent|document\.write|eval\(", TEXT)


def table(name: str) -> set[str]:
    """The keys of a table of the script."""
    (rows,) = re.findall(rf"const {name} = {{(.*?)^}};", TEXT, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^  (\w+): ", rows, re.MULTILINE))


def test_reasons_have_words() -> None:
    """Each why callkeeper ends a call is said, and nothing that it does not know."""
    assert table("END_WORDS") | table("BUDGETS") == {*Reason, "other"} - UNSAID - UNWATCHED
