"""``python -m extauthz --listen ADDR --config FILE``: run the ext_authz service."""

import os
import time

from extauthz.admission import Admission
from extauthz.clusters import snapshot_of
from extauthz.configuration import ConfigurationKeeper, load_configuration
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.endpoints.calls import Calls
from extauthz.endpoints.clientsecrets import ClientSecrets
from extauthz.endpoints.ready import Ready
from extauthz.gate import Gate
from extauthz.keys.stores import KeyStores
from extauthz.limits.limiter import make_limiter
from extauthz.mint import Minter
from extauthz.service import ExtAuthz
from extauthz.valkey import Valkey
from ringback.settings import Settings
from ringback.tokens import token_sealer
from ringback.worker import main


def _build(settings: Settings) -> ExtAuthz:
    egress = Egress(settings.upstream.egress_url)
    valkey = Valkey(settings.store) if settings.store.url else None
    stores = KeyStores(settings, egress)
    configuration = load_configuration(settings, stores)
    sealer = token_sealer(
        settings.token, os.environ, mode=settings.mode, fallback=configuration.master_key
    )
    discovery = ClusterDiscovery(snapshot_of(configuration.origins, settings.upstream))
    keeper = ConfigurationKeeper(configuration, settings, discovery)
    minter = Minter(egress, sealer, settings, time.time)
    limiter = make_limiter(valkey, settings.limits)
    admission = Admission(lambda: keeper.current, time.time, limiter=limiter)
    gate = Gate(
        [
            Calls(lambda: keeper.current, admission, sealer, time.time),
            ClientSecrets(admission, minter),
            Ready(),
        ]
    )
    return ExtAuthz(gate, keeper, discovery, egress, stores, valkey=valkey)


if __name__ == "__main__":
    main("extauthz", _build)
