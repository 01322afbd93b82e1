"""What calls have cost that the spend of a budget does not show yet. Pure.

A budget's spend is as it was when it was read, and a usage is written some time after it was
charged, or nowhere. Until the one shows the other, it is kept here.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from callkeeper.model import Charge, Payer
from callkeeper.standing import Budget

# Batches of which is known when they were written. To a budget that was read earlier than the
# oldest of them they count as written: too little is held against it until it is read again.
_BATCHES: Final = 64
# No answer about a key is used for longer.
_FORGET_S: Final = 600.0

# Whose spend a budget is compared with, and the attribute of `Payer` that names it.
_OWNERS: Final = {
    "key": ("key", "key_hash"),
    "window": ("key", "key_hash"),
    "team": ("team", "team_id"),
    "team_window": ("team", "team_id"),
    "user": ("user", "user_id"),
    "organization": ("organization", "organization_id"),
    "project": ("project", "project_id"),
}
# Those that have a spend of their own.
_KINDS: Final = ("proxy", "key", "team", "member", "user", "organization", "project")

Holder = tuple[str, str]


def holder_of(payer: Payer, kind: str) -> Holder | None:
    """Return whose budgets of a kind are; None if the payer has none.

    Args:
        payer: Who pays for a call.
        kind: Of a `Budget`.
    """
    if kind == "proxy":
        return "proxy", ""
    if kind == "member":
        # Either id may hold whatever would join the two, but no line break.
        both = payer.team_id and payer.user_id
        return ("member", f"{payer.team_id}\n{payer.user_id}") if both else None
    owner, attribute = _OWNERS.get(kind, (kind, ""))
    name = getattr(payer, attribute, None)
    return (owner, name) if name else None


def holders_of(payer: Payer) -> tuple[Holder, ...]:
    """Return all whose spend is raised by what a payer's calls cost."""
    found = (holder_of(payer, kind) for kind in _KINDS)
    return tuple(holder for holder in found if holder is not None)


@dataclass(slots=True)
class _Period:
    """A budget since it last started anew."""

    read_at: float
    begin: float
    spend: float
    charged: int = 0
    """Of the holder, when that was."""


@dataclass(slots=True)
class _Account:
    """One holder, in microdollars since this process began."""

    used_at: float
    charged: int = 0
    written: int = 0
    batches: deque[tuple[float, int]] = field(default_factory=deque)
    """When a batch began to be written, and what was written with it in all."""
    written_before: int = 0
    """What was written with all batches that are not known any more."""
    periods: dict[tuple[str, str], _Period] = field(default_factory=dict)

    def write(self, microdollars: int, at: float) -> None:
        self.written += microdollars
        self.batches.append((at, self.written))
        if len(self.batches) > _BATCHES:
            _, self.written_before = self.batches.popleft()

    def written_by(self, at: float) -> int:
        for began, written in reversed(self.batches):
            if began <= at:
                return written
        return self.written_before


class Accounts:
    """What is held against budgets beside their own spend. Times are of one clock, in seconds.

    Args:
        is_written: Whether charges reach the database that budgets are read from. If not, all
            that was used since this process began is held against them.
    """

    def __init__(self, *, is_written: bool) -> None:
        self._is_written = is_written
        self._accounts: dict[Holder, _Account] = {}
        self._unwritten: set[tuple[str, str, str]] = set()

    def charge(self, charge: Charge, now: float) -> None:
        """Take a charge that was made."""
        if self._is_written:
            self._unwritten.add(_name(charge))
        for holder in holders_of(charge.call.payer):
            self._account(holder, now).charged += charge.cost_microdollars

    def settle(self, charges: Sequence[Charge], at: float | None) -> None:
        """Note that charges were written, whoever had made them.

        Args:
            charges: A batch.
            at: When the attempt began that succeeded. Budgets that were read meanwhile are taken
                to show it: a call that ends a moment too late is better than one that ends too
                early. None: they will never be written, and stay held against budgets.
        """
        sums: dict[Holder, int] = {}
        for charge in charges:
            # What an earlier process has left was never held against anything here.
            if (name := _name(charge)) not in self._unwritten:
                continue
            self._unwritten.remove(name)
            for holder in holders_of(charge.call.payer):
                sums[holder] = sums.get(holder, 0) + charge.cost_microdollars
        if at is not None:
            for holder, microdollars in sums.items():
                self._account(holder, at).write(microdollars, at)

    def note(self, payer: Payer, budget: Budget, read_at: float) -> None:
        """Note what was read of a budget, so as to see when it starts anew.

        That is when another window has begun, or when less is spent than before. What was used
        until then is forgotten for this budget.
        """
        if (holder := holder_of(payer, budget.kind)) is None:
            return
        account = self._account(holder, read_at)
        period = account.periods.get((budget.kind, budget.name))
        if period is None:
            account.periods[budget.kind, budget.name] = _Period(read_at, budget.begin, budget.spend)
            return
        # Another worker may answer from an older reading.
        if read_at < period.read_at:
            return
        if budget.begin != period.begin or budget.spend < period.spend:
            period.charged = account.charged
        period.read_at, period.begin, period.spend = read_at, budget.begin, budget.spend

    def unread(self, payer: Payer, budget: Budget, read_at: float) -> int:
        """Return the microdollars that a budget's spend, as it was read, does not show."""
        holder = holder_of(payer, budget.kind)
        account = None if holder is None else self._accounts.get(holder)
        if account is None:
            return 0
        period = account.periods.get((budget.kind, budget.name))
        shown = account.written_by(read_at) if self._is_written else 0
        return account.charged - max(shown, 0 if period is None else period.charged)

    def sweep(self, now: float) -> None:
        """Forget those who have nothing that a budget might not show."""
        for holder, account in list(self._accounts.items()):
            if account.charged == account.written and now - account.used_at > _FORGET_S:
                del self._accounts[holder]

    def _account(self, holder: Holder, now: float) -> _Account:
        account = self._accounts.get(holder)
        if account is None:
            account = self._accounts[holder] = _Account(now)
        account.used_at = max(now, account.used_at)
        return account


def _name(charge: Charge) -> tuple[str, str, str]:
    return charge.call.id, charge.usage.kind, charge.usage.id
