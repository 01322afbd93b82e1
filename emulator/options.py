"""What can be set about the emulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from emulator.faults import Fault
from emulator.ice import IceOptions


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one emulator.

    Attributes:
        host: Address to listen on. Nothing is checked but the shape of keys, so 127.0.0.1 unless
            the network around is trusted.
        port: TCP port; 0 takes a free one.
        greet: Whether the emulator speaks first.
        voice: ``speech`` answers with synthesised sentences, ``echo`` with the microphone.
        session_cap_s: After this many seconds a call ends.
        connect_timeout_s: A call whose client has not connected by then ends.
        ice: Where calls can be reached.
        faults: Faults that are on from the start, by operation.
        entra: Whether Azure accepts only bearer tokens that were issued here, instead of any.
        entra_tokens: Bearer tokens that count as issued here, if there are any.
    """

    host: str = "127.0.0.1"
    port: int = 0
    greet: bool = True
    voice: Literal["speech", "echo"] = "speech"
    session_cap_s: float = 3600.0
    connect_timeout_s: float = 30.0
    ice: IceOptions = field(default_factory=IceOptions)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    entra: bool = False
    entra_tokens: frozenset[str] = field(default=frozenset(), repr=False)
