"""P1, P3, P5, P8: a market under load, killed again and again. The long form is ``make soak``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign, Ending, Figures, PostgresStage, SqliteStage
from tests.crash.endings import disk_errors, errors_then_losses, kills, losses
from tests.crash.lost_writes import PreloadError, compile_library
from tests.crash.postgres import NoServerError
from tests.crash.spec import Spec


@pytest.fixture(scope="module")
def library() -> Path:
    try:
        return compile_library()
    except PreloadError as reason:
        pytest.skip(str(reason))


def _postgres(library: Path | None = None) -> PostgresStage:
    try:
        return PostgresStage(library)
    except NoServerError as reason:
        pytest.skip(str(reason))


def _assert_kept(figures: Figures, kills: int) -> None:
    outcome = figures.outcome
    assert outcome.wrong == []
    assert (outcome.lost, outcome.doubled, outcome.changed) == (0, 0, 0)
    assert (outcome.cleared_twice, outcome.not_cleared) == (0, 0)
    assert outcome.ok
    assert figures.kills >= kills
    # a campaign in which nothing happened would prove nothing
    assert outcome.orders > 50 * (kills + 1)
    assert outcome.slots_cleared > 0
    assert figures.memory.repeated > 0


@pytest.mark.slow
async def test_sqlite_killed_twice(tmp_path: Path) -> None:
    endings = [Ending("kill"), Ending("own", die_at="cleared:after:1")]
    campaign = Campaign("short", SqliteStage(tmp_path), tmp_path / "log", longest_s=0.4)
    _assert_kept(await campaign.run(endings), 2)


@pytest.mark.slow
async def test_sqlite_killed_at_random_and_at_clearings_while_time_goes_on(tmp_path: Path) -> None:
    campaign = Campaign("SQLite", SqliteStage(tmp_path), tmp_path / "log", seed=2, time_goes_on=True)
    _assert_kept(await campaign.run(kills(6)), 6)


@pytest.mark.slow
async def test_postgresql_killed_stopped_and_its_clients_killed(tmp_path: Path) -> None:
    endings = [
        Ending("kill"),
        Ending("server_stop"),
        Ending("own", die_at="cleared:before:1"),
        Ending("server_kill"),
    ]
    campaign = Campaign("PostgreSQL", _postgres(), tmp_path / "log", seed=3)
    _assert_kept(await campaign.run(endings), 4)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "n"), [("SQLite", 3), ("PostgreSQL", 1)])
async def test_the_power_goes(tmp_path: Path, library: Path, stage: str, n: int) -> None:
    place = SqliteStage(tmp_path, library) if stage == "SQLite" else _postgres(library)
    figures = await Campaign(stage, place, tmp_path / "log", seed=4).run(losses(n))
    _assert_kept(figures, n)
    assert figures.power_losses == n
    assert figures.bytes_lost > 0


@pytest.mark.slow
async def test_the_disk_fails_and_the_market_stops_answering(tmp_path: Path, library: Path) -> None:
    figures = await Campaign("errors", SqliteStage(tmp_path, library), tmp_path / "log", seed=5).run(disk_errors(3)[1:])
    _assert_kept(figures, 0)
    assert figures.disk_errors == 2


@pytest.mark.slow
async def test_a_sync_fails_the_market_starts_again_and_then_the_power_goes(tmp_path: Path, library: Path) -> None:
    campaign = Campaign("errors, power", SqliteStage(tmp_path, library), tmp_path / "log", seed=5)
    _assert_kept(await campaign.run(errors_then_losses(1)), 1)


@pytest.mark.slow
async def test_a_market_with_more_to_do_than_it_takes_refuses_and_keeps_its_word(tmp_path: Path) -> None:
    stage = SqliteStage(tmp_path)
    campaign = Campaign("overload", stage, tmp_path / "log", seed=7, spec=Spec(store=stage.store, queue=4))
    figures = await campaign.run([Ending("kill")])
    _assert_kept(figures, 1)
    assert figures.memory.overloaded > 50


# --- the campaign itself ----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_market_that_acknowledges_too_early_is_found_out(tmp_path: Path) -> None:
    stage = SqliteStage(tmp_path)
    campaign = Campaign("early", stage, tmp_path / "log", seed=6, spec=Spec(store=stage.store, early=True))
    figures = await campaign.run([Ending("kill")])
    assert figures.outcome.lost > 0
    assert not figures.outcome.ok


def _names(endings: Sequence[Ending]) -> set[str]:
    return {ending.die_at.partition(":")[0] for ending in endings if ending.die_at}


def test_a_long_campaign_dies_at_every_record_of_a_clearing() -> None:
    assert {"opened", "gated", "cleared", "settled", "ordered"} <= _names(kills(60))
    assert len(kills(110)) == 110
