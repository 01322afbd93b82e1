"""``python -m callkeeper --listen ADDR``: run the service that keeps calls."""

import time
import uuid
from collections.abc import Callable
from functools import partial

from callkeeper.callevents import CallEvent, event_of_charge
from callkeeper.calls import Limits
from callkeeper.charging import Charging
from callkeeper.egress import Egress
from callkeeper.examiner import Examiner
from callkeeper.keeper import Keeper
from callkeeper.model import Charge
from callkeeper.news import News
from callkeeper.pricelists import open_price_book
from callkeeper.reach import Reaches
from callkeeper.service import CallKeeper
from callkeeper.shared.elsewhere import Elsewhere
from callkeeper.shared.replica import LOOKS, Replica
from callkeeper.shared.sharing import Sharing
from callkeeper.shared.store import CallStore
from callkeeper.sinks.writer import Writer
from callkeeper.sinks.writers import open_event_writers, open_writers
from callkeeper.slots import MemorySlots, Slots
from callkeeper.steward import Steward
from callkeeper.valkeyslots import ValkeySlots
from callkeeper.warning import Warnings
from callkeeper.way import way_of
from callsapi.v1.calls_pb2_grpc import UpstreamsStub
from ringback.errors import StartError
from ringback.grpcpeers import Peers
from ringback.settings import Settings, SupervisionSettings
from ringback.valkey import Valkey
from ringback.worker import main

_MICRODOLLARS = 1_000_000


class NoStoreError(StartError):
    """Open calls are to be counted in a store, and there is none."""

    def __str__(self) -> str:
        return "supervision.store is valkey, and nothing says where that is: set store.url."


def limits_of(settings: Settings) -> Limits:
    """Return what every call is held to."""
    supervision = settings.supervision
    cost = supervision.max_cost
    return Limits(
        # With `auto` the decision about each call says more; what says nothing is held to it.
        is_required=supervision.mode in {"auto", "required"},
        attach_s=supervision.attach_s,
        unattached_s=supervision.unattached_s,
        max_duration_s=supervision.max_duration_s,
        idle_s=supervision.idle_s,
        max_cost_microdollars=None if cost is None else round(cost * _MICRODOLLARS),
    )


def steward_of(settings: Settings) -> Steward:
    """Return what speaks in calls."""
    own = settings.supervision
    return Steward(Warnings(own.warn_s, own.warn_cost_share, own.warn_as), own.max_violations)


def _open_store(settings: Settings) -> Valkey | None:
    if settings.supervision.store == "memory":
        return None
    if settings.store.url is None:
        raise NoStoreError
    return Valkey(settings.store)


def _build(settings: Settings) -> CallKeeper:
    extauthz = Peers(settings.supervision.extauthz, UpstreamsStub, settings.services)
    tellers = open_event_writers(settings)
    egress, news = Egress(way_of(settings)), News([teller.put for teller in tellers])
    supervision = settings.supervision
    examiner = Examiner(supervision, extauthz, is_written="litellm" in supervision.sinks)
    writers = open_writers(settings, on_settled=examiner.settle)
    takers: list[Callable[[Charge], object]] = [examiner.charge]
    takers += [writer.put for writer in writers]
    takers += [partial(_tell_charge, teller) for teller in tellers]
    charging = Charging(open_price_book(supervision.prices_file), takers)
    valkey = _open_store(settings)
    slots: Slots = MemorySlots() if valkey is None else ValkeySlots(valkey)
    keeper = Keeper(
        limits_of(settings),
        Reaches(extauthz),
        egress,
        news,
        charging.charge,
        slots=slots,
        verdict=examiner.verdict,
        steward=steward_of(settings),
        is_full=lambda: any(writer.state == "full" for writer in writers),
    )
    store, replica = _share(valkey, keeper, settings.supervision)
    return CallKeeper(
        keeper,
        news,
        egress,
        extauthz,
        slots=slots,
        writers=[*writers, *tellers],
        valkey=valkey,
        examiner=examiner,
        replica=replica,
        elsewhere=Elsewhere(store),
    )


def _tell_charge(teller: Writer[CallEvent], charge: Charge) -> None:
    teller.put(event_of_charge(charge))


def _share(
    valkey: Valkey | None, keeper: Keeper, settings: SupervisionSettings
) -> tuple[CallStore, Replica] | tuple[None, None]:
    if valkey is None:
        return None, None
    # So long a lease is that the calls of who dies are adopted within the time that is set.
    lease_s = settings.lease_s * (1 - 1 / LOOKS)
    store = CallStore(valkey, uuid.uuid4().hex, lease_s, lambda: time.time() - time.monotonic())
    sharing = Sharing(store, keeper, lease_s, settings.observers)
    return store, Replica(sharing, valkey, store.channel, settings.lease_s)


if __name__ == "__main__":
    main("callkeeper", _build)
