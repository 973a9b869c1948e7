"""Sends every kind of metric with OpenTelemetry's SDK and its exporter over HTTP."""
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

url, mode = sys.argv[1], sys.argv[2]
delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
exporter = OTLPMetricExporter(
    endpoint=url + "/api/v1/otlp/v1/metrics",
    compression=Compression.Gzip if mode == "gzip" else Compression.NoCompression,
    preferred_temporality=delta if mode == "delta" else None,
)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
resource = Resource.create({
    "service.name": "checkout", "service.namespace": "shop", "service.instance.id": mode, "k8s.pod.name": "pod-1",
})
views = [View(instrument_name="tokens", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider(metric_readers=[reader], resource=resource, views=views)
meter = provider.get_meter("shop", "1.2.3")

requests = meter.create_counter("http.server.requests", unit="1", description="Requests answered")
active = meter.create_up_down_counter("http.server.active", unit="{request}")
latency = meter.create_histogram("http.server.duration", unit="s", description="Time of a request")
tokens = meter.create_histogram("tokens")
meter.create_observable_gauge("gpu.utilization", [lambda _: [Observation(0.75, {"gpu": 0})]], unit="1")
meter.create_observable_counter("gpu.energy", [lambda _: [Observation(1234.5)]], unit="J")

for round in range(2):
    for i in range(10):
        requests.add(1, {"http.method": "GET", "ok": True})
        latency.record(0.02 * (i + 1), {"http.method": "GET"})
        tokens.record(2**i)
    active.add(3)
    assert provider.force_flush(), "the exporter reports a failure"
provider.shutdown()
