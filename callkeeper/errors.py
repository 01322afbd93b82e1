"""What keeps callkeeper from a call. None of it quotes a credential or what a provider says."""


class ReachError(Exception):
    """Nobody can tell how the call's provider is reached.

    Args:
        why: A stable word.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def __str__(self) -> str:
        return f"extauthz does not say how the provider is reached: {self.why}"


class UncontrollableError(Exception):
    """The provider's API has no way back into a call."""

    def __str__(self) -> str:
        return "the provider's API has neither a sideband nor a command to hang up"


class NotThereError(Exception):
    """The provider knows no such call: it is not live yet, or it has ended."""

    def __str__(self) -> str:
        return "the provider knows no such call"


class NoRoomError(Exception):
    """The spool is full: what one more call costs would be lost."""

    def __str__(self) -> str:
        return "the spool is full; see to the database, or give supervision.spool_max_bytes more"


class UpstreamError(Exception):
    """The provider refused, failed or could not be reached.

    Args:
        why: A stable word, or the status of the answer.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def __str__(self) -> str:
        return f"the provider cannot be asked: {self.why}"
