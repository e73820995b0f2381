"""A lab of an ordinary user that lives on: its holder is in a user namespace, clients are not."""

from __future__ import annotations

import json

from faces_ordinary_user import OrdinaryUser

_SESSION = """
import json, os, subprocess, sys
os.mkdir("run", 0o700)
os.environ["XDG_RUNTIME_DIR"] = os.path.abspath("run")
def testbed(*words):
    done = subprocess.run([sys.executable, "-m", "testbed", *words], text=True, capture_output=True)
    return done.returncode, (done.stdout or done.stderr).strip()
script = "hostname; id -u; ping -c 1 b >&2; exit 4"
told = {
    "up": testbed("up", "lab.yaml"),
    "exec": testbed("exec", "lab", "a", "--", "sh", "-c", script),
    "capabilities here": open("/proc/self/status").read().split("CapEff:")[1].split()[0],
    "cut": testbed("cut", "lab", "a", "b"),
    "sockets": testbed("show", "lab", "a", "sockets", "--json"),
    "down": testbed("down", "lab"),
}
print(json.dumps(told | {"left": os.listdir("run/testbed")}))
"""
_TOPOLOGY = "name: lab\nnodes: {a: {}, b: {}}\nlinks: [{endpoints: [a, b], delay: 1ms}]\n"


def test_a_lab_lives_on_without_privileges(ordinary_user: OrdinaryUser) -> None:
    (ordinary_user.home / "lab.yaml").write_text(_TOPOLOGY)
    done = ordinary_user.run("-c", _SESSION)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert int(told["capabilities here"], 16) == 0
    assert told["up"][0] == 0, told["up"]
    assert told["exec"] == [4, "a\n65534"]
    assert told["cut"][0] == 0 and told["cut"][1].count(": cut, 1ms") == 2
    assert told["sockets"] == [0, "[]"]
    assert told["down"] == [0, ""] and told["left"] == []
