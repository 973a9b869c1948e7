"""Asks with prometheus-api-client."""
import datetime
import sys

from prometheus_api_client import MetricRangeDataFrame, MetricSnapshotDataFrame, MetricsList, PrometheusConnect

prometheus = PrometheusConnect(url=sys.argv[1], disable_ssl=True)
assert prometheus.check_prometheus_connection()
assert "backup_bytes" in prometheus.all_metrics()
assert "job" in prometheus.get_label_names()
assert "backup" in prometheus.get_label_values("job")
(value,) = prometheus.get_current_metric_value("backup_bytes", label_config={"job": "backup"})
assert value["metric"]["instance"] == "db/1" and float(value["value"][1]) == 5e9, value
assert prometheus.custom_query("count(mem_used_percent)")[0]["value"][1] == "1001"
end = datetime.datetime.now()
start = end - datetime.timedelta(minutes=2)
rows = prometheus.custom_query_range("backup_bytes{job='backup'} * 2", start, end, step="10s")
assert float(rows[0]["values"][-1][1]) == 1e10, rows
data = prometheus.get_metric_range_data("backup_bytes", label_config={"job": "backup"}, start_time=start, end_time=end)
assert len(MetricRangeDataFrame(data)) >= 1 and len(MetricsList(data)) == 1
assert len(MetricSnapshotDataFrame(prometheus.get_current_metric_value("mem_used_percent"))) == 1001
aggregated = prometheus.get_metric_aggregation("backup_bytes{job='backup'}", operations=["max"], start_time=start, end_time=end, step="10s")
assert aggregated["max"] == 5e9, aggregated
targets = prometheus.get_targets()
assert targets["activeTargets"] == [], targets
prometheus.get_target_metadata({"job": "x"})
assert prometheus.get_metric_metadata("backup_bytes"), "metadata of a pushed metric"
