"""The board's benchmark: what a cell says, as rows with bars and as the table of the docs."""

from dataclasses import replace

from r1_bench.leaderboard import Cell, PolicyResult, rows_of, safety_table, table


def cell(ours: float | None, hpa: float | None, *, is_llm: bool = True) -> Cell:
    def results(cost: float | None) -> PolicyResult:
        return PolicyResult(cost, 1.5, 0.004, (1.4, 0.001) if cost else None, 5.0)

    costs = {"ours": ours, "ours-no-forecast": 1.3, "hpa": hpa, "seasonal-naive": 1.4, "oracle": 1}
    wrong = {"dead": (1.6, 0.004), "x 0.1": (1.6, 0.0045), "x 10": (3.1, 0.0)}
    return Cell("shop", 120.0, is_llm, {name: results(cost) for name, cost in costs.items()}, wrong)


def test_the_stricter_bar_is_for_llm_services() -> None:
    [at_slo, planned, overload, *_] = rows_of(cell(1.30, 1.33))
    assert (at_slo.bar, at_slo.ok) == (0.97, False)
    assert (planned.bar, planned.ok, overload.ok) == (1.10, True, True)
    assert rows_of(cell(1.30, 1.33, is_llm=False))[0].ok is True


def test_without_an_hpa_cost_there_is_no_bar() -> None:
    assert rows_of(cell(1.3, None))[0].bar is None
    assert len(rows_of(cell(None, 1.3))) == 2 + 6


def test_the_table_has_one_line_per_cell_and_marks_misses() -> None:
    lines = table([cell(1.30, 1.33), cell(1.20, 1.33), cell(1.2, None), cell(None, None)])
    heads, _, missed, held, alone, nobody = lines.splitlines()
    assert missed.startswith("| shop | 120 s | 1.30 (0.977) | 1.30 (0.977) |")
    assert "**misses**" in missed
    assert " holds " in held
    assert " only ours meets it " in alone
    assert " never " in nobody
    assert {line.count("|") for line in (heads, missed, held, alone, nobody)} == {14}


def test_a_wrong_forecast_has_bars() -> None:
    rows = {row.name: row for row in rows_of(cell(1.3, 1.33))}
    assert rows["cost at .7, forecast dead, shop, 120 s"].ok is True
    assert rows["cost at .7, forecast x 10, shop, 120 s"].ok is False
    assert rows["overload at .7, forecast x 0.1, shop, 120 s"].ok is False


def test_without_hpa_overload_the_bar_is_zero() -> None:
    results = cell(1.3, 1.33)
    hpa = replace(results.results["hpa"], planned_overload=0.0)
    rows = rows_of(replace(results, results={**results.results, "hpa": hpa}))
    held = {row.name: row.ok for row in rows if row.name.startswith("overload")}
    assert held["overload at .7, shop, 120 s"] is False
    assert held["overload at .7, forecast x 10, shop, 120 s"] is True


def test_the_safety_table_marks_figures_over_a_bar() -> None:
    heads, _, line = safety_table([cell(1.3, 1.33)]).splitlines()
    assert "dead: cost | overload | x 0.1: cost | overload | x 10: cost | overload" in heads
    assert line == (
        "| shop | 120 s | 0.400 % | 1.07 | 0.400 % | 1.07 | **0.450 %** | **2.07** | 0.000 % |"
    )
