"""How many cases the fuzz tests tried, printed at the end of a run."""

from collections.abc import Iterator

import pytest

from tests.fuzz import law


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Notes in each test's report how many of its cases were refused and how many read."""
    before = law.CASES.copy()
    yield
    request.node.user_properties += [(outcome, law.CASES[outcome] - before[outcome]) for outcome in law.OUTCOMES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [
        pair for report in reports if getattr(report, "when", "") == "teardown" for pair in report.user_properties
    ]
    counts = {outcome: sum(count for name, count in properties if name == outcome) for outcome in law.OUTCOMES}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    terminalreporter.write_line(f"fuzz: {sum(counts.values())} cases: {words}")
