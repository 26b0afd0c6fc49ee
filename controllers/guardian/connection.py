"""The limit at the connection point, shared out to the devices: with the meter, and without it.

With a meter, the devices may together feed in what is allowed plus what the house draws at the moment. Without it the
house is reckoned to draw nothing (and, for charging, the most it ever draws): then the shares alone, which add up to no
more than is allowed, keep the limit. A device that cannot be told counts with the most it can do. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controllers.guardian.settings import ConnectionSettings


@dataclass(frozen=True, slots=True)
class Part:
    """What one device adds to the exchange.

    Parameters
    ----------
    device
        Its id.
    w
        What it draws now [W, negative feeds in]; None where that is not known for good.
    export_w, import_w
        The most it can feed in and draw [W, >= 0].
    export_obeys, import_obeys
        Whether it can be held below that by us, now.
    """

    device: str
    w: float | None
    export_w: float
    import_w: float
    export_obeys: bool
    import_obeys: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What one device may feed in and draw [W, >= 0]; None without a limit."""

    export_w: float | None
    import_w: float | None


def shares(settings: ConnectionSettings, exchange_w: float | None, parts: Sequence[Part]) -> dict[str, Share]:
    """The share of every device that obeys, by its id.

    Parameters
    ----------
    settings
        The limits.
    exchange_w
        What the meter says [W, positive draws]; None when it is lost, or says nothing that can be trusted.
    parts
        Every device behind the connection point but the meter.
    """
    export = _export(settings, exchange_w, parts)
    drawn = _import(settings, exchange_w, parts)
    return {part.device: Share(export.get(part.device), drawn.get(part.device)) for part in parts}


def _export(settings: ConnectionSettings, exchange_w: float | None, parts: Sequence[Part]) -> dict[str, float]:
    if settings.export_w is None:
        return {}
    obeying = [part for part in parts if part.export_obeys]
    known = [part.w for part in obeying if part.w is not None]
    if exchange_w is not None and len(known) == len(obeying):
        allowed_w = settings.export_w + exchange_w - sum(known)
    else:
        others_w = sum(part.export_w for part in parts if not part.export_obeys)
        allowed_w = settings.export_w - settings.source_w - others_w
    return _divided(max(allowed_w, 0.0), [(part.device, part.export_w) for part in obeying])


def _import(settings: ConnectionSettings, exchange_w: float | None, parts: Sequence[Part]) -> dict[str, float]:
    if settings.import_w is None:
        return {}
    obeying = [part for part in parts if part.import_obeys]
    known = [part.w for part in obeying if part.w is not None]
    if exchange_w is not None and len(known) == len(obeying):
        allowed_w = settings.import_w - (exchange_w - sum(known))
    else:
        load_w = settings.import_w if settings.load_w is None else settings.load_w
        others_w = sum(part.import_w for part in parts if not part.import_obeys)
        allowed_w = settings.import_w - load_w - others_w
    return _divided(max(allowed_w, 0.0), [(part.device, part.import_w) for part in obeying])


def _divided(allowed_w: float, wanted: Sequence[tuple[str, float]]) -> dict[str, float]:
    """``allowed_w`` in proportion to what each can do, and never more than that."""
    total_w = sum(most_w for _, most_w in wanted)
    portion = min(allowed_w / total_w, 1.0) if total_w > 0.0 else 1.0
    return {device: most_w * portion for device, most_w in wanted}
