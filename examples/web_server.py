"""nginx in a container behind 20 ms: `sudo .venv/bin/python examples/web_server.py`.

Needs a container engine; the image is built first, which takes a minute the first time.
"""

from pathlib import Path

from testbed import Lab, loads

IMAGES = Path(__file__).resolve().parent.parent / "images"

topology = loads(f"""
name: web-server
nodes:
  client: {{congestion_control: reno}}
  server: {{kind: container, build: {IMAGES}/nginx}}
links: [{{endpoints: [client, server], delay: 20ms, rate: 10mbit}}]
""")
with Lab(topology) as lab:
    done = lab["client"].run(
        ["curl", "--silent", "--write-out", "%{time_total} s", "http://server/"]
    )
    print(done.stdout)
    print(lab["server"].run(["nginx", "-v"]).stderr.strip())
    print(lab["server"].log(1))
