"""Two hosts, a lossy 20 ms link, real TCP: `sudo .venv/bin/python examples/first_lab.py`."""

from testbed import Lab, loads
from testbed.traffic import transfer

topology = loads("""
name: first-lab
nodes: {client: {congestion_control: cubic}, server: {congestion_control: cubic}}
links: [{endpoints: [client, server], delay: 20ms, rate: 50mbit, loss: 0.1%}]
""")
with Lab(topology) as lab:
    print(f"ping {lab['client'].ping('server') * 1000:.1f} ms")
    done = transfer(lab["client"], lab["server"], 10_000_000)
    print(f"{done.goodput / 1e6:.1f} Mbit/s, {done.info.total_retrans} retransmissions")
    lab.link("client", "server").set(loss=0.05)
    print(lab["server"].run(["ip", "-brief", "address", "show", "eth0"]).stdout.strip())
