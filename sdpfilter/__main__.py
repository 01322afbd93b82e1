"""``python -m sdpfilter --listen ADDR``: run the ext_proc service."""

import os

from ringback.jwkset import JwkSetKeeper
from ringback.settings import Settings
from ringback.tokens import handle_sealer
from ringback.worker import main
from sdpfilter.policies import Policies
from sdpfilter.registrar import Registrar
from sdpfilter.service import SDPFilter


def _build(settings: Settings) -> SDPFilter:
    sealer = handle_sealer(settings.token, os.environ, mode=settings.mode)
    jwk_set = JwkSetKeeper(settings.token.jwk_set_file, [sealer])
    supervision = settings.supervision
    registrar = None if supervision.mode == "off" else Registrar(supervision, settings.services)
    return SDPFilter(sealer, Policies(settings.sdp), jwk_set, registrar)


if __name__ == "__main__":
    main("sdpfilter", _build)
