"""Writes points with InfluxDB's clients of both versions."""
import sys
import time

import influxdb
import influxdb_client
from influxdb_client.client.write_api import SYNCHRONOUS

host, port = sys.argv[1].split(":")
now_ns = time.time_ns()

old = influxdb.InfluxDBClient(host=host, port=int(port), database="telegraf")
assert old.ping() == "1.8.0"
old.create_database("telegraf")
point = {"measurement": "cpu", "tags": {"host": "a b", "cpu": "0"}, "time": now_ns,
         "fields": {"usage_idle": 97.5, "cores": 4, "up": True, "model": "text, with = and \"quotes\""}}
assert old.write_points([point])
assert old.write_points([dict(point, time=now_ns // 10**9 - 60)], time_precision="s", tags={"zone": "z"})

with influxdb_client.InfluxDBClient(url=f"http://{host}:{port}", token="t", org="o", enable_gzip=True) as new:
    assert new.ping() and new.health().status == "pass"
    writer = new.write_api(write_options=SYNCHRONOUS)
    points = [influxdb_client.Point("mem").tag("host", f"h{i}").field("used_percent", i / 2).time(now_ns) for i in range(1000)]
    writer.write(bucket="metrics", record=points)
    try:
        writer.write(bucket="metrics", record="mem,host=bad used_percent=x\nmem,host=good used_percent=7")
    except influxdb_client.rest.ApiException as e:
        assert e.status == 400 and "invalid field value" in str(e), e
    else:
        raise AssertionError("a wrong line was taken")
