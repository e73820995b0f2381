"""What the seed of the command line makes of the seed of a topology."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from testbed.errors import KernelError
from testbed.kernel.seeds import SEED_VARIABLE, derived, seed_of_links
from testbed.scenarios import portion


def test_without_a_given_seed_a_topology_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    assert seed_of_links(5) == 5


def test_a_given_seed_is_mixed_with_the_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for given in ("0", "1"):
        monkeypatch.setenv(SEED_VARIABLE, given)
        found |= {seed_of_links(own) for own in (0, 1)}
    assert len(found) == 4
    assert derived(1, "links", 1) in found


@pytest.mark.parametrize("given", ["", "-1", "1.5", "x"])
def test_what_is_no_seed_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(SEED_VARIABLE, given)
    with pytest.raises(KernelError, match=f"{SEED_VARIABLE} is '{given}'"):
        seed_of_links(0)


def test_runs_of_a_scenario_have_their_seeds_mixed_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = portion.Portion(
        target="docomo",
        scenario="docomo",
        topology="docomo",
        jobs=[],
        seed=7,
        folder=str(tmp_path),
        answer=str(tmp_path / "answer"),
    )
    (tmp_path / "asked").write_bytes(msgspec.json.encode(asked))
    monkeypatch.setenv(SEED_VARIABLE, "3")
    monkeypatch.setattr("sys.argv", ["portion", str(tmp_path / "asked")])
    seen: list[int] = []

    def run(_: portion.Portion) -> portion.Found:
        seen.append(seed_of_links(5))
        return portion.Found()

    monkeypatch.setattr(portion, "run_portion", run)
    portion.main()
    assert seen == [5]
