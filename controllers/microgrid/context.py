"""What the parts of a supervisor share within a cycle: the image, settings, memory, knowledge, ledger, and the news."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controllers.microgrid.image import Do, Image, News, Order, Source, State, Switch
from controllers.microgrid.knowledge import Knowledge
from controllers.microgrid.ledger import SWITCH, Ledger
from controllers.microgrid.settings import Settings


@dataclass(slots=True)
class Memory:
    """What a restarted supervisor has to know: plain JSON values, no instants (a new process has a new clock).

    ``wish`` is where people want to be ("", "island", "connected"); ``outage`` whether the island came about without an
    order; ``resume`` the sources that ran on the grid or that we halted, to be started again; ``broken`` the devices
    that failed in a black start.
    """

    state: str = State.CONNECTED.value
    frozen: bool = False
    wish: str = ""
    outage: bool = False
    reason: str = ""
    close_tries: int = 0
    start_tries: int = 0
    start_ordered: bool = False
    resume: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Volatile:
    """What begins anew with each state or each process: instants and controllers' values."""

    entered_s: float = 0.0
    opening: bool = False
    closing: bool = False
    close_again_s: float = -1e9
    balanced_at_s: float = -1e9
    next_restore_s: float = -1e9
    fits: str = ""
    relapses: dict[str, tuple[int, float]] = field(default_factory=dict)
    restored_s: dict[str, float] = field(default_factory=dict)
    shift_hz: float = 0.0
    shift_pu: float = 0.0
    trims: dict[str, float] = field(default_factory=dict)
    together: tuple[str, ...] = ()
    together_s: float = -1e9
    secondary_s: float = -1e9
    curtail_s: float = -1e9
    energy_s: float = -1e9
    plan: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    settled: int = -1
    place: int = -1
    step_since_s: float = -1e9
    step: str = ""
    failed_step: str = ""
    filling: dict[str, bool] = field(default_factory=dict)


class Context:
    """One supervisor's parts; ``image`` and ``orders`` (those that were not in the image before) change every cycle."""

    def __init__(self, settings: Settings, memory: Memory, number: int) -> None:
        self.settings = settings
        self.memory = memory
        self.know = Knowledge(settings)
        self.ledger = Ledger(settings, number)
        self.now = Volatile()
        self.news: list[News] = []
        self.orders: frozenset[Order] = frozenset()
        self._orders_before: frozenset[Order] = frozenset()
        self._orders_kept: frozenset[Order] = frozenset()
        self._image: Image | None = None

    @property
    def image(self) -> Image:
        """The image of this cycle."""
        assert self._image is not None
        return self._image

    @property
    def state(self) -> State:
        """The state now."""
        return State(self.memory.state)

    @property
    def switch_open(self) -> bool:
        """Whether the switch is known to be open."""
        return self.image.switch is Switch.OPEN

    def take(self, image: Image) -> None:
        """Begin a cycle with this image."""
        given = frozenset(image.orders)
        self.orders = (given - self._orders_before) | self._orders_kept
        self._orders_kept = frozenset()
        self._orders_before = given
        self._image = image
        self.news = []
        self.know.update(image)
        self.ledger.hear(image)

    def keep_orders(self) -> None:
        """Let the orders of this cycle count in the next; not a clear, which clears what is locked now and no more."""
        self._orders_kept = self.orders - {Order.CLEAR}

    def say(self, kind: str, text: str, **facts: object) -> None:
        """Tell a person something."""
        self.news.append(News(kind, text, tuple((key, str(value)) for key, value in facts.items())))

    def in_state_s(self) -> float:
        """For how long this state has lasted [s]."""
        return self.image.now_s - self.now.entered_s + 1e-9

    def formers(self) -> list[Source]:
        """Sources that can form and have not failed to, in the order in which one is asked to lead."""
        able = [s for s in self.image.sources if s.can_form and s.id not in self.memory.broken]
        able = [s for s in able if not (self.ledger.failed(s.id, Do.FORM) or self.ledger.failed(s.id, Do.START))]
        return sorted(able, key=lambda s: (-s.rating_kw, s.id))

    def halt(self, sources: Iterable[Source], why: str) -> None:
        """Halt these sources, and remember to start them again."""
        for source in sources:
            if source.running is not False or self.ledger.pending(source.id, Do.START):
                if source.id not in self.memory.resume:
                    self.memory.resume.append(source.id)
                self.ledger.want(self.image, Do.HALT, source.id, why=why)

    def open_switch(self, why: str, *, force: bool = False) -> None:
        """Tell the switch to open."""
        self.ledger.want(self.image, Do.OPEN, SWITCH, why=why, force=force)
