"""Metrics: how they are counted, how they are written, and whether the real etcd has the same ones."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from balsad.observe.cells import Counter, Histogram, Labelled, exponential
from balsad.observe.exposition import Family, format_number, render
from balsad.observe.grpc_metrics import METHODS
from balsad.observe.metrics import Metrics
from tests.unit.observe.real_scrape import real_scrape


@dataclass
class CountedMethod:
    service: str
    name: str
    started: int = 0
    handled: Mapping[int, int] = field(default_factory=dict)
    received: int = 0
    sent: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (-1, "-1"),
        (20480, "20480"),
        (999_999, "999999"),
        (1_000_000, "1e+06"),
        (2_147_483_648, "2.147483648e+09"),
        (0.1, "0.1"),
        (0.000195021, "0.000195021"),
        (0.00001, "1e-05"),
        (0.0001, "0.0001"),
        (1795342444.81, "1.79534244481e+09"),
        (float((1 << 64) - 1), "1.8446744073709552e+19"),
        (123456.7, "123456.7"),
        (-2.5e7, "-2.5e+07"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (-0.0, "-0"),
    ],
)
def test_numbers_as_go_writes_them(value: float, text: str) -> None:
    """Source: strconv.AppendFloat(f, 'g', -1, 64)."""
    assert format_number(value) == text


@given(st.floats(allow_nan=False))
def test_numbers_read_back(value: float) -> None:
    assert float(format_number(value)) == value


def test_exponential_bounds_round_as_multiplying_does() -> None:
    """Source: prometheus.ExponentialBuckets."""
    assert exponential(0.1, 2, 4) == (0.1, 0.2, 0.4, 0.8)
    assert exponential(0.0001, 2, 3)[2] == 0.0001 * 2 * 2


def test_a_histogram_counts_a_value_at_its_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.5):
        histogram.observe(value)

    assert histogram.counts == [2, 1, 1]
    assert render([Family("h", "histogram", "Help.", [((), histogram)])]) == (
        "# HELP h Help.\n"
        "# TYPE h histogram\n"
        'h_bucket{le="1"} 2\n'
        'h_bucket{le="2"} 3\n'
        'h_bucket{le="+Inf"} 4\n'
        "h_sum 5.5\n"
        "h_count 4\n"
    )


def test_labels_are_sorted_and_escaped() -> None:
    samples = [((("b", "2"), ("a", 'x"\\\n')), 1), ((("b", "1"), ("a", "x")), 2)]

    text = render([Family("g", "gauge", "A \\ and\na line.", samples), Family("empty", "gauge", "", [])])

    assert text == ('# HELP g A \\\\ and\\na line.\n# TYPE g gauge\ng{a="x",b="1"} 2\ng{a="x\\"\\\\\\n",b="2"} 1\n')


def test_labelled_cells_are_made_once() -> None:
    cells = Labelled(Counter, "To")
    cells.of("a").inc()
    cells.of("a").inc(2)

    assert [(values, cell.value) for values, cell in cells.items()] == [(("a",), 3)]


def test_what_is_counted_elsewhere_is_copied_at_each_scrape() -> None:
    metrics = Metrics()
    revisions = iter((5, 6))
    metrics.on_scrape.append(lambda: metrics.current_revision.set(next(revisions)))

    first, second = metrics.render(), metrics.render()

    assert "\netcd_debugging_mvcc_current_revision 5\n" in first
    assert "\netcd_debugging_mvcc_current_revision 6\n" in second
    assert '\npromhttp_metric_handler_requests_total{code="200"} 1\n' in second


def test_the_transports_counts_are_told_by_method_and_code() -> None:
    metrics = Metrics()
    metrics.methods = lambda: [
        CountedMethod("etcdserverpb.KV", "Put", 5, {0: 3, 8: 2}, 5, 3, 100, 50),
        CountedMethod("etcdserverpb.Watch", "Watch", 2, {}, 1, 9, 10, 5),
        CountedMethod("v3lockpb.Lock", "Lock", 1, {0: 1}, 1, 1, 1, 1),
        CountedMethod("v3lockpb.Lock", "Unlock"),
    ]

    text = metrics.render()

    put = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} '
    assert "grpc_server_started_total{" + put + "5\n" in text
    assert 'grpc_server_handled_total{grpc_code="OK",' + put + "3\n" in text
    assert 'grpc_server_handled_total{grpc_code="ResourceExhausted",' + put + "2\n" in text
    assert 'grpc_server_handled_total{grpc_code="Internal",' + put + "0\n" in text
    assert "grpc_server_msg_received_total{" + put + "5\n" in text
    assert "grpc_server_msg_sent_total{" + put + "3\n" in text
    assert 'grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 2\n' in text
    assert "\netcd_network_client_grpc_received_bytes_total 111\n" in text
    assert "\netcd_network_client_grpc_sent_bytes_total 56\n" in text
    # Not known from the start, so only what happened is told.
    assert text.count('grpc_service="v3lockpb.Lock"') == 4
    assert "Unlock" not in text


def test_durations_of_calls_only_when_extensive() -> None:
    metrics = Metrics(extensive=True)
    assert metrics.grpc_handling_s is not None
    metrics.grpc_handling_s.of("unary", "etcdserverpb.KV", "Put").observe(0.2)

    text = metrics.render()

    labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert f'grpc_server_handling_seconds_bucket{{{labels},le="0.25"}} 1\n' in text
    assert f"grpc_server_handling_seconds_count{{{labels}}} 1\n" in text
    assert "grpc_server_handling_seconds" not in Metrics().render()


def test_a_scrape_is_read_by_prometheus_own_parser() -> None:
    metrics = Metrics(extensive=True)
    metrics.server_id.of("8e9e05c52164694d").set(1)
    metrics.wal_fsync_s.observe(0.003)

    families = {family.name: family for family in text_string_to_metric_families(metrics.render())}

    assert len(families) > 80
    assert families["etcd_disk_wal_fsync_duration_seconds"].type == "histogram"
    samples = families["etcd_server_id"].samples
    assert [(sample.labels, sample.value) for sample in samples] == [({"server_id": "8e9e05c52164694d"}, 1.0)]
    assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000
    assert families["process_cpu_seconds"].samples[0].value > 0
    assert families["process_open_fds"].samples[0].value >= 3


# What the real etcd has and we do not: the inner life of Go's runtime.
# What tells of the inside of Go's allocator and collector.
GO_ONLY = re.compile(
    r"go_(gc_|memstats_(alloc_bytes_total|buck|frees|gc_|last_gc|lookups|mallocs|mcache|mspan|next_gc|other|stack))"
)
# What depends on what a member did, so that a fresh Metrics does not show it.
LABELLED_BY_LIFE = {
    "go_info",
    "etcd_cluster_version",
    "etcd_server_version",
    "etcd_server_go_version",
    "etcd_server_id",
    "etcd_server_apply_duration_seconds",
    "etcd_debugging_store_reads_total",
    "etcd_debugging_store_writes_total",
}


@pytest.fixture(scope="module")
def real_text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield real_scrape(tmp_path_factory.mktemp("etcd"))


def ours_with_life() -> str:
    metrics = Metrics(extensive=True)
    metrics.cluster_version.of("3.5").set(1)
    metrics.server_version.of("3.5.1").set(1)
    metrics.go_version.of("go1.16.3").set(1)
    metrics.server_id.of("1").set(1)
    metrics.apply_duration_s.of("v2", "PUT", "true").observe(0.001)
    metrics.v2_reads.of("getRecursive").inc()
    metrics.v2_writes.of("create").inc()
    metrics.v2_writes.of("set").inc()
    return metrics.render()


def descriptions(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("# ")]


def series(text: str) -> list[str]:
    """Names and labels, without values and ids."""
    names = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("# ")]
    return [re.sub(r'server_id="[^"]*"', 'server_id=""', name) for name in names]


@pytest.mark.real
def test_every_family_of_etcd_is_here_with_its_type_and_help(real_text: str) -> None:
    ours = set(descriptions(ours_with_life()))

    wanted = [line for line in descriptions(real_text) if not GO_ONLY.match(line.split()[2])]

    assert len(wanted) > 180
    assert [line for line in wanted if line not in ours] == []


@pytest.mark.real
def test_every_series_of_etcd_is_here_in_its_order(real_text: str) -> None:
    ours = series(ours_with_life())

    wanted = [name for name in series(real_text) if not GO_ONLY.match(name)]

    shared = set(wanted)
    assert [name for name in ours if name in shared] == wanted
    assert {name for name in ours if name not in shared} == set()


@pytest.mark.real
def test_the_methods_told_of_from_the_start_are_etcds(real_text: str) -> None:
    found = re.findall(r'grpc_server_started_total\{grpc_method="(\w+)",grpc_service="([\w.]+)"', real_text)

    assert sorted(METHODS) == sorted((service, name) for name, service in found)


def test_fresh_families_lack_only_what_life_brings() -> None:
    fresh, lived = (
        {line.split()[2] for line in descriptions(text)}
        for text in (Metrics(extensive=True).render(), ours_with_life())
    )

    assert lived - fresh == LABELLED_BY_LIFE


def test_the_start_of_this_process_lies_in_the_past() -> None:
    text = Metrics().render()
    started = float(re.findall(r"^process_start_time_seconds (\S+)$", text, re.M)[0])

    assert time.time() - 86_400 < started < time.time()
