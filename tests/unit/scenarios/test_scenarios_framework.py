"""Parameters, cells, judgements and results of scenarios, without a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from rich.console import Console

from testbed.errors import ScenarioError, TopologyError
from testbed.scenarios import registry, runner
from testbed.scenarios.catalogue.docomo import judge as judge_docomo
from testbed.scenarios.environment import Environment
from testbed.scenarios.judgement import Judgement, Measurements
from testbed.scenarios.parameters import Count, Positive, parameters_of, parse_assignments
from testbed.scenarios.registry import Scenario
from testbed.scenarios.result import Cell, Result, medians
from testbed.scenarios.show import matrix, render
from testbed.topology.yaml.load import loads

NOWHERE = Environment(
    kernel="6",
    machine="x",
    cpus=1,
    versions={},
    emulator="none",
    sysctls={},
    congestion_control={},
    git_revision=None,
)


def flavours(
    experiment: object,
    taste: Literal["sweet", "sour"] = "sweet",
    size: int = 3,
    strength: float = 0.5,
    hot: bool = False,
) -> dict[str, float | int | str]:
    """The first line.

    The rest.
    """
    return {"score": size * strength, "spice": taste}


def good_when_sweet(parameters, measured) -> Judgement:
    return Judgement("good" if parameters["taste"] == "sweet" else "bad", "good")


def make(**settings) -> Scenario:
    defaults = {"topology": "pair", "grid": {"taste": ("sweet", "sour")}, "judge": good_when_sweet}
    return Scenario("flavours", function=flavours, **{**defaults, **settings})


class TestParameters:
    def test_come_from_the_signature(self):
        known = parameters_of(flavours)
        assert list(known) == ["taste", "size", "strength", "hot"]
        assert known["taste"].choices == ("sweet", "sour")
        assert known["size"].default == 3

    def test_need_defaults(self):
        def careless(experiment: object, size: int) -> None: ...

        with pytest.raises(TypeError, match="'size' of careless has no default"):
            parameters_of(careless)

    def test_are_typed(self):
        given = {"size": "4,5", "strength": "0.25", "hot": "true", "taste": "sour"}
        assert parse_assignments("s", parameters_of(flavours), given) == {
            "size": (4, 5),
            "strength": (0.25,),
            "hot": (True,),
            "taste": ("sour",),
        }

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"size": "many"}, r"size cannot be 'many'; it takes: a whole number"),
            ({"taste": "swet"}, r"takes: sweet, sour; did you mean 'sweet'\?"),
            ({"sise": "1"}, r"no parameter 'sise'; did you mean 'size'\? It has: taste, size"),
        ],
    )
    def test_refuse_what_they_cannot_be(self, given, told):
        with pytest.raises(ScenarioError, match=told):
            parse_assignments("s", parameters_of(flavours), given)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"seconds": "-1"}, "seconds cannot be '-1'; it takes: a number above 0"),
            ({"seconds": "0"}, "seconds cannot be '0'; it takes: a number above 0"),
            ({"size": "0"}, "size cannot be '0'; it takes: a whole number from 1 on"),
        ],
    )
    def test_refuse_what_is_not_above_zero_where_that_makes_no_sense(self, given, told):
        def patient(experiment: object, seconds: Positive = 1.0, size: Count = 1) -> None: ...

        known = parameters_of(patient)
        assert parse_assignments("s", known, {"seconds": "0.1", "size": "1"})
        with pytest.raises(ScenarioError, match=told):
            parse_assignments("s", known, given)


class TestCells:
    def test_are_the_product_of_the_grid(self):
        one = make(grid={"taste": ("sweet", "sour"), "size": (1, 2)})
        assert [(cell["taste"], cell["size"]) for cell in one.cells({})] == [
            ("sweet", 1),
            ("sweet", 2),
            ("sour", 1),
            ("sour", 2),
        ]
        assert all(cell["strength"] == 0.5 for cell in one.cells({}))

    def test_given_values_replace_those_of_the_grid(self):
        cells = make().cells({"taste": ("sour",), "size": (7, 8)})
        assert [(cell["taste"], cell["size"]) for cell in cells] == [("sour", 7), ("sour", 8)]

    def test_extra_ones_come_last_and_only_where_they_fit(self):
        one = make(extra=({"taste": "sour", "size": 9},))
        assert [cell["size"] for cell in one.cells({})] == [3, 3, 9]
        assert [cell["size"] for cell in one.cells({"taste": ("sweet",)})] == [3]
        assert [cell["strength"] for cell in one.cells({"strength": (2.0,)})] == [2.0] * 3

    def test_no_cell_comes_twice(self):
        assert len(make(extra=({"taste": "sour"},)).cells({})) == 2


def test_medians_of_numbers_and_the_commonest_text():
    rows: list[Measurements] = [
        {"ms": 1, "word": "a"},
        {"ms": 9, "word": "b"},
        {"ms": 3, "word": "b"},
    ]
    assert medians(rows) == {"ms": 3, "word": "b"}


@pytest.mark.parametrize(
    ("late", "verdict"),
    [(0.6, "on time"), (99, "on time"), (1041, "one second late"), (226, "226 ms late")],
)
def test_the_docomo_verdict_is_by_lateness(late, verdict):
    faulty = judge_docomo({"proxy": "drop", "handshake": "data"}, {"late_ms": late})
    assert faulty == Judgement(verdict, "one second late")
    healthy = judge_docomo({"proxy": "hold", "handshake": "data"}, {"late_ms": late})
    assert healthy == Judgement(verdict, "on time")


class TestFinding:
    def test_by_name(self):
        scenario, topology = registry.find("docomo")
        assert scenario.name == topology.name == "docomo"
        assert scenario.summary.startswith("One second late")

    def test_a_near_name_is_suggested(self):
        with pytest.raises(ScenarioError, match=r"no scenario 'docom'; did you mean 'docomo'\?"):
            registry.find("docom")

    def test_a_topology_must_name_a_scenario(self, tmp_path):
        path = tmp_path / "quiet.yaml"
        path.write_text("name: quiet\nnodes: {a: {}}\n")
        with pytest.raises(ScenarioError, match=r"names no scenario.*`scenario:`"):
            registry.find(str(path))

    def test_a_topology_must_name_one_that_exists(self, tmp_path):
        path = tmp_path / "odd.yaml"
        path.write_text("name: odd\nscenario: docmo\nnodes: {a: {}}\n")
        with pytest.raises(ScenarioError, match=r"'docmo', .*exist; did you mean 'docomo'"):
            registry.find(str(path))

    def test_a_faulty_topology_is_told_as_such(self, tmp_path):
        path = tmp_path / "bad.yaml"
        path.write_text("name: bad\nnodez: {}\n")
        with pytest.raises(TopologyError, match="nodez"):
            registry.find(str(path))

    @pytest.mark.parametrize("path", sorted(Path("topologies").glob("*.yaml")), ids=str)
    def test_every_topology_that_names_a_scenario_finds_it(self, path):
        if "scenario:" in path.read_text():
            assert registry.find(str(path))[0].name


class TestRunning:
    def test_a_scenario_without_a_lab_is_refused(self, tmp_path):
        _, topology = registry.find("docomo")
        with pytest.raises(ScenarioError, match="never ran a lab"):
            runner.run(make(), topology, parameters={}, out=tmp_path / "out")

    def test_a_topology_that_does_not_fit_is_told_with_the_one_that_does(self, tmp_path):
        scenario, _ = registry.find("docomo")
        other = loads("name: other\nnodes: {a: {}, b: {}}\nlinks: [{endpoints: [a, b]}]\n")
        with pytest.raises(ScenarioError, match=r"'other': .*no node 'router'.* docomo\.yaml"):
            runner.run(scenario, other, parameters={}, out=tmp_path / "out")

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path):
        (tmp_path / "mine").write_text("precious")
        _, topology = registry.find("docomo")
        with pytest.raises(ScenarioError, match="not empty"):
            runner.run(make(), topology, parameters={}, out=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_default_folders_never_collide(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folders = {runner.fresh_folder(None, "docomo") for _ in range(3)}
        assert len(folders) == 3

    def test_no_run_at_all_is_refused(self, tmp_path):
        _, topology = registry.find("docomo")
        with pytest.raises(ScenarioError, match="once at least"):
            runner.run(make(), topology, parameters={}, repeat=0, out=tmp_path)

    def test_progress_is_told_before_each_run(self, tmp_path):
        told = []
        _, topology = registry.find("docomo")
        with pytest.raises(ScenarioError):
            runner.run(
                make(),
                topology,
                parameters={},
                repeat=2,
                out=tmp_path / "out",
                progress=lambda *state: told.append(state),
            )
        assert told == [(n, 4, f"taste {t}") for n, t in enumerate(("sweet", "sour") * 2)]


def outcome_of(*cells: Cell) -> runner.Outcome:
    result = Result(
        scenario="flavours",
        parameters={},
        runs=[],
        cells=list(cells),
        passed=all(cell.as_expected for cell in cells),
        environment=NOWHERE,
    )
    return runner.Outcome(result, Path(), None)


def printed(*blocks: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        for block in blocks:
            console.print(block)
    return capture.get()


GOOD = Cell(
    parameters={"taste": "sweet"}, runs=2, medians={"ms": 20.84}, verdict="good", expected="good"
)
BAD = msgspec.structs.replace(GOOD, parameters={"taste": "sour"}, verdict="bad")


class TestShowing:
    def test_the_table_has_medians_labels_and_verdicts(self):
        scenario = make(
            columns={"taste": "Taste", "ms": "time (ms)"}, labels={"taste": {"sour": "S"}}
        )
        text = printed(matrix(scenario, outcome_of(GOOD, BAD)))
        assert "medians of 2 runs" in text and "time (ms)" in text and "20.8" in text
        assert "✓ good" in text and "✗ bad, expected: good" in text and "│ S " in text

    def test_a_column_that_no_cell_has_a_value_for_is_left_out(self):
        scenario = make(columns={"taste": "Taste", "ms": "time (ms)", "waiting": "Waiting"})
        assert "Waiting" not in printed(matrix(scenario, outcome_of(GOOD)))
        some = msgspec.structs.replace(BAD, medians={"ms": 1.0, "waiting": 7.0})
        assert "Waiting" in printed(matrix(scenario, outcome_of(GOOD, some)))

    def test_the_end_says_how_many_cells_are_wrong(self):
        assert "verdict  as expected" in printed(*render(make(), outcome_of(GOOD), 120))
        assert "all 2 cells as expected" in printed(*render(make(), outcome_of(GOOD, GOOD), 120))
        assert "1 of 2 cells are not" in printed(*render(make(), outcome_of(GOOD, BAD), 120))
