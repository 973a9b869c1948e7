"""Pushes metrics of a batch job with Prometheus' client."""
import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, delete_from_gateway, push_to_gateway, pushadd_to_gateway

gateway = sys.argv[1]
registry = CollectorRegistry()
Gauge("backup_last_success_timestamp_seconds", "When it worked", registry=registry).set(1.7e9)
Counter("backup_files", "Files", ["kind"], registry=registry).labels("new").inc(3)
Histogram("backup_seconds", "Time", registry=registry, buckets=[1, 10]).observe(2)
push_to_gateway(gateway, job="backup", registry=registry, grouping_key={"instance": "db/1", "path": "/var/tmp"})

more = CollectorRegistry()
Gauge("backup_bytes", "Bytes", registry=more).set(5e9)
pushadd_to_gateway(gateway, job="backup", registry=more, grouping_key={"instance": "db/1", "path": "/var/tmp"})

push_to_gateway(gateway, job="gone", registry=more)
delete_from_gateway(gateway, job="gone")
