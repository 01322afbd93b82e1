"""``python -m extauthz --listen ADDR --config FILE``: run the ext_authz service."""

import os
import time

from extauthz.admission import Admission
from extauthz.clusters import snapshot_of
from extauthz.configuration import ConfigurationKeeper, load_configuration
from extauthz.cooldownkeeper import CooldownKeeper
from extauthz.discovery import ClusterDiscovery
from extauthz.egress import Egress
from extauthz.egressway import way_of
from extauthz.endpoints.callcontrol import CallControl
from extauthz.endpoints.calls import Calls
from extauthz.endpoints.callstates import CallStates
from extauthz.endpoints.clientsecrets import ClientSecrets
from extauthz.endpoints.ready import Ready
from extauthz.endpoints.sideband import Sideband
from extauthz.endpoints.transcription import TranscriptionSessions
from extauthz.endpoints.unified import UnifiedCalls
from extauthz.endpoints.websocket import WebSockets
from extauthz.entra import EntraTokens, log_in_through
from extauthz.gate import Gate
from extauthz.keptcalls import KeptCalls
from extauthz.keys.stores import KeyStores
from extauthz.lanes import Lane
from extauthz.leashes import Leashes
from extauthz.limits.limiter import make_limiter
from extauthz.mint import Minter
from extauthz.mintrequest import MintRequests
from extauthz.ownership import Callers
from extauthz.revocationkeeper import RevocationKeeper
from extauthz.routing import Router
from extauthz.routing.cooldown import Cooldowns
from extauthz.safety import SafetyIdentifiers
from extauthz.service import ExtAuthz
from extauthz.slots import Slots
from extauthz.standing import Standings
from extauthz.tokenguard import TokenGuard
from extauthz.tokensettings import check_token_settings
from extauthz.tokenuses import make_uses
from extauthz.upstreams import Upstreams
from ringback.jwkset import JwkSetKeeper
from ringback.settings import Settings
from ringback.tokens import call_key_sealer, handle_sealer, pseudonyms, token_sealer
from ringback.valkey import Valkey
from ringback.worker import main


def _build(settings: Settings) -> ExtAuthz:
    check_token_settings(settings)
    egress = Egress(way_of(settings))
    valkey = Valkey(settings.store) if settings.store.url else None
    stores = KeyStores(settings, egress)
    configuration = load_configuration(settings, stores)
    sealer = token_sealer(
        settings.token, os.environ, mode=settings.mode, fallback=configuration.master_key
    )
    discovery = ClusterDiscovery(snapshot_of(configuration.origins, settings.upstream))
    keeper = ConfigurationKeeper(configuration, settings, discovery)
    cooldowns = Cooldowns(time.monotonic)
    cooling = CooldownKeeper(cooldowns, valkey)
    router = Router(lambda: keeper.current, cooldowns=cooldowns, on_cooled=cooling.tell)
    entra = EntraTokens(log_in_through(egress), time.time)
    master_key, mode = configuration.master_key, settings.mode
    names = pseudonyms(settings.token, os.environ, mode=mode, fallback=master_key)
    safety = SafetyIdentifiers(settings.safety_identifier, names)
    requests = MintRequests(egress, entra, safety, settings)
    minter = Minter(requests, sealer, settings, time.time, router=router)
    limiter = make_limiter(valkey, settings.limits)
    admission = Admission(
        lambda: keeper.current, time.time, settings.key_cache.revocation_s, limiter
    )
    handles = handle_sealer(settings.token, os.environ, mode=mode, fallback=master_key)
    call_keys = call_key_sealer(settings.token, os.environ, mode=mode, fallback=master_key)
    sealers = [sealer, handles, call_keys]
    revocations = RevocationKeeper(settings.token, sealers, valkey)
    tokens = TokenGuard(
        sealer,
        time.time,
        uses=make_uses(valkey, settings.token),
        is_revoked=revocations.is_revoked,
    )
    callers = Callers(keeper.knowing, admission, tokens, handles, time.time)
    supervision = settings.supervision
    is_supervised = supervision.mode != "off"
    slots = Slots(supervision, settings.services)
    standings = Standings(
        admission,
        keeper.knowing,
        time.time,
        supervision.standing_max_age_s,
        revocations.is_revoked,
    )
    leashes = Leashes(
        call_keys if is_supervised else None,
        is_required=supervision.is_required_for_all,
        is_limited=standings.is_limited if supervision.mode == "auto" else lambda *_: False,
    )
    kept = None
    if is_supervised:
        is_shared = supervision.store == "valkey"
        kept = KeptCalls(supervision.callkeeper, settings.services, is_shared=is_shared)
    upstreams = Upstreams(callers, entra.key_headers, egress, leashes, standings)
    websockets, origins = settings.websocket, settings.websocket.origins
    origins = settings.cors_origins if origins is None else origins
    client_secrets = ClientSecrets(admission, minter, binds_origin=settings.token.bind_origin)
    overload = settings.overload
    mints = Lane("mints", 2 * overload.max_mints)
    commands = Lane("commands", overload.max_commands)
    states = Lane("states", overload.max_commands)
    checks = Lane("checks", 2 * overload.max_checks)
    gate = Gate(
        [
            *commands.over(
                CallControl(
                    callers,
                    entra.key_headers,
                    egress,
                    settings.upstream.mint_timeout_s,
                    on_hung_up=kept.has_ended if kept is not None else lambda _: None,
                )
            ),
            *checks.over(
                Sideband(callers, entra.key_headers, origins, websockets.sideband_with_token),
                WebSockets(
                    keeper.knowing,
                    callers,
                    admission=admission,
                    tokens=tokens,
                    key_headers=entra.key_headers,
                    origins=origins,
                    safety=safety,
                    choose=router.choose,
                ),
            ),
            *states.over(*([CallStates(callers, kept)] if kept is not None else [])),
            *mints.over(UnifiedCalls(admission, minter, leashes, slots)),
            *checks.over(Calls(keeper.knowing, admission, tokens, safety, leashes, slots=slots)),
            *mints.over(client_secrets, TranscriptionSessions(client_secrets)),
            Ready(),
        ],
        settings.cors_origins,
    )
    return ExtAuthz(
        gate,
        keeper,
        discovery,
        egress,
        stores,
        valkey=valkey,
        cooling=cooling,
        logins=entra,
        jwk_set=JwkSetKeeper(settings.token.jwk_set_file, sealers),
        revocations=revocations,
        upstreams=upstreams if is_supervised else None,
        slots=slots,
        kept=kept,
    )


if __name__ == "__main__":
    main("extauthz", _build)
