"""Deployments that fail are left alone for a while: LiteLLM's rules of cooldown.

- 429, and 401 or 403 on the gateway's own key, cool a deployment at once.
- A deployment that a wildcard found does not: the caller has chosen the model, and what the
  provider says of one model does not hold for the others. LiteLLM makes no difference there.
- Anything else cools it when more than half of at least five requests in a minute failed.
- With ``allowed_fails`` neither holds: more failures than that in a minute cool it.
- A deployment that is alone in its group, without a fallback behind it, does not cool without
  ``allowed_fails``, unless each of 1,000 requests in a minute failed: to leave it alone would help
  nobody. LiteLLM does not look at fallbacks here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from extauthz.deployments import Deployment
from extauthz.routersettings import RouterSettings
from extauthz.routing.failures import FailureKind

WINDOW_S: Final = 60.0
# LiteLLM's numbers.
_MIN_REQUESTS: Final = 5
_MAX_SHARE: Final = 0.5
_MIN_REQUESTS_ALONE: Final = 1000
# A provider may ask for hours; by then somebody may have raised the limit.
MAX_RETRY_AFTER_S: Final = 300.0


@dataclass(slots=True)
class _Window:
    begin: float
    successes: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A deployment that is left alone.

    Attributes:
        until: By the clock of `Cooldowns`.
        kind: Why.
    """

    until: float
    kind: FailureKind


class Cooldowns:
    """Remembers how requests to deployments ended, and which of them are left alone.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._cooled: dict[str, Cooldown] = {}

    def left_s(self, deployment_id: str) -> float:
        """Return how long a deployment is still left alone; 0 if it is not."""
        cooldown = self._cooled.get(deployment_id)
        return 0.0 if cooldown is None else max(0.0, cooldown.until - self._clock())

    def kind(self, deployment_id: str) -> FailureKind | None:
        """Return why a deployment is left alone; None if it is not."""
        return self._cooled[deployment_id].kind if self.left_s(deployment_id) else None

    def succeed(self, deployment_id: str) -> None:
        """Note that a deployment has minted."""
        self._window(deployment_id).successes += 1

    def fail(
        self,
        deployment: Deployment,
        kind: FailureKind,
        retry_after_s: float | None,
        settings: RouterSettings,
        *,
        is_alone: bool,
        is_of_many: bool = False,
    ) -> float:
        """Note a failure, and return for how many seconds the deployment is left alone from now.

        Args:
            deployment: Which failed.
            kind: How.
            retry_after_s: How long its provider wants to be left alone.
            settings: The rules.
            is_alone: Whether there is no other to ask.
            is_of_many: Whether it serves many models, by a wildcard.
        """
        window = self._window(deployment.id)
        window.failures += 1
        counted = "failed" if is_of_many else kind
        if not settings.cools or not _is_too_much(window, counted, settings, is_alone=is_alone):
            return 0.0
        own = settings.cooldown_s if deployment.cooldown_s is None else deployment.cooldown_s
        seconds = min(retry_after_s, MAX_RETRY_AFTER_S) if retry_after_s else own
        self.impose(deployment.id, seconds, kind)
        return seconds

    def impose(self, deployment_id: str, seconds: float, kind: FailureKind) -> None:
        """Leave a deployment alone for so long, if it is not for longer already."""
        if seconds > self.left_s(deployment_id):
            self._cooled[deployment_id] = Cooldown(self._clock() + seconds, kind)
            # After it, the deployment is judged anew.
            self._windows.pop(deployment_id, None)

    def _window(self, deployment_id: str) -> _Window:
        now = self._clock()
        window = self._windows.get(deployment_id)
        if window is None or now - window.begin >= WINDOW_S:
            window = self._windows[deployment_id] = _Window(now)
        return window


def _is_too_much(
    window: _Window, kind: FailureKind, settings: RouterSettings, *, is_alone: bool
) -> bool:
    if settings.allowed_fails is not None:
        return window.failures > settings.allowed_fails
    requests = window.successes + window.failures
    if is_alone:
        return window.successes == 0 and requests >= _MIN_REQUESTS_ALONE
    if kind != "failed":
        return True
    return requests >= _MIN_REQUESTS and window.failures / requests > _MAX_SHARE
