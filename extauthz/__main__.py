"""``python -m extauthz --listen ADDR --config FILE``: run the ext_authz service."""

import os
import time

from extauthz.clusters import snapshot_of
from extauthz.configuration import ConfigurationKeeper, load_configuration
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.gate import Gate
from extauthz.mint import Minter
from extauthz.service import ExtAuthz
from ringback.settings import Settings
from ringback.tokens import token_sealer
from ringback.worker import main


def _build(settings: Settings) -> ExtAuthz:
    configuration = load_configuration(settings)
    sealer = token_sealer(
        settings.token, os.environ, mode=settings.mode, fallback=configuration.master_key
    )
    origins = configuration.catalogue.origins()
    discovery = ClusterDiscovery(snapshot_of(origins, settings.upstream))
    keeper = ConfigurationKeeper(configuration, settings, discovery)
    egress = Egress(settings.upstream.egress_url)
    minter = Minter(egress, sealer, settings, time.time)
    gate = Gate(lambda: keeper.current, minter, sealer, time.time)
    return ExtAuthz(gate, keeper, discovery, egress)


if __name__ == "__main__":
    main("extauthz", _build)
