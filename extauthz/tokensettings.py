"""What settings of tokens need beside themselves."""

from collections.abc import Iterator

from extauthz.errors import ConfigError
from extauthz.revocations import load_revocations
from ringback.settings import Settings


def check_token_settings(settings: Settings) -> None:
    """Check that what the settings ask for tokens can be kept, and that their file is usable.

    Raises:
        ConfigError: If it cannot, or is not; lists everything.
    """
    problems = list(_problems(settings))
    if problems:
        raise ConfigError(problems)


def _problems(settings: Settings) -> Iterator[str]:
    token, has_store = settings.token, settings.store.url is not None
    if token.single_use and settings.workers > 1 and not has_store:
        # Each would let a token in once.
        yield (
            "token.single_use: needs store.url, so that all workers know what is spent; "
            "or set workers: 1 and run one replica"
        )
    if token.revoked_in_store and not has_store:
        yield "token.revoked_in_store: needs store.url"
    if token.revoked_file is not None:
        try:
            load_revocations(token.revoked_file)
        except ConfigError as error:
            yield from error.problems
