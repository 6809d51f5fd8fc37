"""``tortxd metrics``: of a fleet, one text that Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import Fleet, Run
from tests.cli.fake import Canned, FakeGateway, error
from tortxd.cli.exposition import check, merged

TEXT = r"""# HELP tortxd_requests_total Requests that are over. A \\ and a \n.
# TYPE tortxd_requests_total counter
tortxd_requests_total{outcome="ok",way="proxy"} 40.0
tortxd_requests_total{outcome="a \"b\" \\ \n",way="}"} 2.0
# HELP tortxd_request_seconds From requests to response heads.
# TYPE tortxd_request_seconds histogram
tortxd_request_seconds_bucket{le="0.1"} 1.0
tortxd_request_seconds_bucket{le="+Inf"} 3.0
tortxd_request_seconds_count 3.0
tortxd_request_seconds_sum 1.5e-05
# HELP tortxd_info This daemon.
# TYPE tortxd_info gauge
tortxd_info{version="0.1.0"} 1.0
"""


def plain(text: str) -> Canned:
    return Canned(text.encode(), 200, (("Content-Type", "text/plain; version=0.0.4"),))


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """As Prometheus's own library reads them."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def test_of_one_gateway_they_are_as_it_says(found: FakeGateway, tortxd: Run) -> None:
    found.answers["/metrics"] = plain(TEXT)
    assert tortxd("metrics") == (0, TEXT, "")
    status, out, err = tortxd("metrics", "--json")
    assert (status, out, "no JSON" in err) == (2, "", True)


def test_of_a_fleet_they_are_one_text(fleet: Fleet, tortxd: Run) -> None:
    for fake in (fleet.a, fleet.b):
        fake.answers["/metrics"] = plain(TEXT)
    fleet.c.answers["/metrics"] = error("unauthorized", "A token is needed.", 401)
    status, out, err = tortxd("metrics", "--fleet", str(fleet.file))
    assert (status, err.startswith("tortxd: c: ")) == (1, True)
    assert sorted(samples(out), key=str) == sorted(
        (
            (name, {"member": member, **labels}, value)
            for name, labels, value in samples(TEXT)
            for member in "ab"
        ),
        key=str,
    )
    comments = [line for line in out.splitlines() if line.startswith("#")]
    assert comments == [line for line in TEXT.splitlines() if line.startswith("#")]
    # A family is in one piece, and numbers are as they were.
    assert len(list(text_string_to_metric_families(out))) == 3
    assert 'tortxd_request_seconds_sum{member="b"} 1.5e-05' in out.splitlines()


def test_no_member_speaks_for_another() -> None:
    texts = [("a", "x 1\n"), ("b", 'x{member="a"} 2\nx{member="c",exported_member="d"} 3\n')]
    text = "\n".join(merged(texts)) + "\n"
    assert samples(text) == [
        ("x", {"member": "a"}, 1),
        ("x", {"member": "b", "exported_member": "a"}, 2),
        ("x", {"member": "b", "exported_exported_member": "c", "exported_member": "d"}, 3),
    ]


def test_members_that_do_not_agree_make_one_text() -> None:
    gauge = "# HELP x One.\n# TYPE x gauge\nx 1\nx_count 4\n"
    histogram = "# TYPE x histogram\n# HELP x Other.\nx_count 5\n"
    assert list(merged([("a", gauge), ("b", histogram)])) == [
        "# HELP x One.",
        "# TYPE x gauge",
        'x{member="a"} 1',
        'x_count{member="a"} 4',
        'x_count{member="b"} 5',
    ]
    assert list(merged([("b", histogram), ("a", gauge)])) == [
        "# HELP x Other.",
        "# TYPE x histogram",
        'x_count{member="b"} 5',
        'x_count{member="a"} 4',
    ]


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "x one",
        "x 1.2.3",
        "x  1",
        "1x 1",
        'x{a="1} 1',
        'x{a="1",a="2"} 1',
        'x{a="\\q"} 1',
        "x{a=1} 1",
        "x 1 2 3",
        "x 1\r",
        '{"status": "ok"}',
    ],
)
def test_what_is_no_sample(fleet: Fleet, tortxd: Run, line: str) -> None:
    with pytest.raises(ValueError, match=r"sample|twice"):
        check(f"{line}\n")
    if line == "x":
        fleet.b.answers["/metrics"] = plain("x\n")
        status, _, err = tortxd("metrics", "--fleet", str(fleet.file), "--gateway", "b")
        assert (status, err) == (3, f"tortxd: What answers at {fleet.b.url} is not tortxd.\n")


def test_nothing_in_it_moves_the_cursor(fleet: Fleet, tortxd: Run) -> None:
    evil = '# HELP x \x1b[2J\rx{member="b"} 5\nx{a="\x1b[2J\x85"} 1\n'
    for fake in fleet[:3]:
        fake.answers["/metrics"] = plain(evil)
    _, out, _ = tortxd("metrics", "--fleet", str(fleet.file))
    assert all(line.isprintable() for line in out.split("\n"))
    assert samples(out)[0][1]["member"] == "a"


def test_it_is_bounded(found: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tortxd.cli.figures.LONGEST", 10)
    found.answers["/metrics"] = plain(TEXT)
    assert tortxd("metrics")[0] == 3
