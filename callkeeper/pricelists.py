"""Reads price lists from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from callkeeper.prices import PriceBook, PriceError, Rates, parse_prices
from ringback.errors import StartError, why_unusable

# What is known of the realtime models' prices; prices.md says from where.
SHIPPED: Final = Path(__file__).with_name("prices.json")
# LiteLLM's whole list has 2 MB.
_MAX_BYTES: Final = 32 * 1024 * 1024


class PricesUnusableError(StartError):
    """A price file that cannot be used; the start stops with exit code 2.

    Args:
        path: Which.
        problem: What is wrong with it.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"supervision.prices_file: {self.path}: {self.problem}"


def open_price_book(path: Path | None = None) -> PriceBook:
    """Return the prices that ship with us, and those of a file, which win.

    Args:
        path: In LiteLLM's schema; None for no file.

    Raises:
        PricesUnusableError: If the file cannot be read or makes no sense.
    """
    lists = [_read(SHIPPED)] if path is None else [_read(SHIPPED), _read(path)]
    return PriceBook(*lists)


def _read(path: Path) -> Mapping[str, Rates]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PricesUnusableError(path, f"larger than {_MAX_BYTES} bytes")
        return parse_prices(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PricesUnusableError(path, f"cannot be read: {why_unusable(error)}") from error
    except PriceError as error:
        raise PricesUnusableError(path, str(error)) from error
