"""What the parsers of the package `prometheus_client` read of expositions, a JSON object a line.

    parse.py FOLDER FILE...

First writes pages of that package's own into FOLDER. Then reads these and every FILE, as OpenMetrics where the name
ends in `.om` and as Prometheus' text where it ends in `.txt`. A sample is its name, labels, the bits of its value, its
timestamp in ms, and its exemplar in the same form; bounds and quantiles of typed families are spelled as OpenMetrics
spells them.
"""

import json
import math
import pathlib
import struct
import sys

import prometheus_client as pc
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.utils import floatToGoString


def own_pages(folder):
    registry = pc.CollectorRegistry()
    odd = ['plain', 'say "hi"', 'back\\slash', 'line\nfeed', 'all \\n "of"\n\\them\\', '', 'grüße 温度 🌡', '} 1', 'a,b="c"']
    counter = pc.Counter('asked', 'Help with \\ and "quotes"\nand a second line', ['who'], registry=registry)
    gauge = pc.Gauge('depth_bytes', 'Depth.', ['who', 'where'], unit='bytes', registry=registry)
    histogram = pc.Histogram('took_seconds', 'Durations.', ['who'], buckets=(0.005, 0.1, 1, 2.5, 25), registry=registry)
    summary = pc.Summary('size_bytes', 'Sizes.', ['who'], registry=registry)
    info = pc.Info('build', 'What was built.', registry=registry)
    states = pc.Enum('mode', 'What it does.', states=['idle', 'busy', 'ill "really"'], registry=registry)
    values = [0, 1, -1, 0.1, 1e6, 1e21, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 2**53 + 2]
    info.info({'version': '1.2.3', 'flags': '-O2 "fast"'})
    states.state('busy')
    for i, who in enumerate(odd):
        counter.labels(who).inc(i * 1.25, exemplar={'trace_id': f'{i:x}', 'note': 'say "hi"'} if i % 2 else None)
        summary.labels(who).observe(i * 1000)
        for value in values:
            gauge.labels(who, repr(value)).set(value)
        for value in (0.001 * i, 0.05 * i, i):
            histogram.labels(who).observe(value, exemplar={'trace_id': f'{i}-{value}'} if i % 3 else None)
    pc.Gauge('dotted.name', 'A name with a dot.', ['dotted.label'], registry=registry).labels('x').set(7)
    (folder / 'own_utf8.txt').write_bytes(generate_latest(registry, escaping='allow-utf-8'))
    (folder / 'own_utf8.om').write_bytes(generate_openmetrics(registry, escaping='allow-utf-8', version='1.0.0'))
    # Its own parser takes no exemplars of counters whose names are escaped otherwise.
    (folder / 'own_underscores.om').write_bytes(
        generate_openmetrics(registry, escaping='underscores', version='1.0.0'))
    for escaping in ('underscores', 'dots', 'values'):
        (folder / f'own_{escaping}.txt').write_bytes(generate_latest(registry, escaping=escaping))
    default = pc.CollectorRegistry()
    pc.ProcessCollector(registry=default)
    pc.PlatformCollector(registry=default)
    pc.GCCollector(registry=default)
    (folder / 'own_process.txt').write_bytes(generate_latest(default))
    (folder / 'own_process.om').write_bytes(generate_openmetrics(default))


def bits(value):
    return struct.pack('>d', math.nan if math.isnan(value) else value).hex()


def milliseconds(timestamp):
    # Those of OpenMetrics, which have parts, are cut; those of text were whole and have been divided.
    if timestamp is None:
        return None
    if isinstance(timestamp, float):
        return round(timestamp * 1000)
    negative = timestamp.nsec < 0
    seconds = timestamp.sec + timestamp.nsec / 1e9 if negative else float(f'{timestamp.sec}.{timestamp.nsec:09}')
    return math.trunc(seconds * 1000)


def samples(family):
    for sample in family.samples:
        labels = dict(sample.labels)
        bound = {'histogram': 'le', 'gaugehistogram': 'le', 'summary': 'quantile'}.get(family.type)
        if bound in labels:
            labels[bound] = floatToGoString(float(labels[bound]))
        exemplar = sample.exemplar
        if exemplar is not None:
            exemplar = [sorted(exemplar.labels.items()), bits(exemplar.value), milliseconds(exemplar.timestamp)]
        yield [sample.name, sorted(labels.items()), bits(sample.value), milliseconds(sample.timestamp), exemplar]


def read(path):
    text = path.read_bytes().decode('utf-8')
    parse = parse_openmetrics if path.suffix == '.om' else parse_text
    try:
        found = [sample for family in parse(text) for sample in samples(family)]
        return {'file': str(path), 'samples': found}
    except Exception as error:  # Whatever it says, it refuses the page.
        return {'file': str(path), 'error': repr(error)}


folder = pathlib.Path(sys.argv[1])
own_pages(folder)
for path in sorted(folder.glob('own_*')) + [pathlib.Path(name) for name in sys.argv[2:]]:
    print(json.dumps(read(path)))
