"""``python -m sdpfilter --listen ADDR``: run the ext_proc service."""

import os

from ringback.settings import Settings
from ringback.tokens import handle_sealer
from ringback.worker import main
from sdpfilter.policies import Policies
from sdpfilter.service import SDPFilter


def _build(settings: Settings) -> SDPFilter:
    return SDPFilter(
        handle_sealer(settings.token, os.environ, mode=settings.mode), Policies(settings.sdp)
    )


if __name__ == "__main__":
    main("sdpfilter", _build)
