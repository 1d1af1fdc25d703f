"""What stands between load and origin: the gate, its peers, and nothing at all.

All know the origin's number of workers, but for Envoy, which finds its limit by itself, and for the naive version, which has
none. Queues are equally long in the load sweep. Their configurations are the files of `conf/`, with @NAMES@ filled in.
Programs are started, pinned, measured and ended as in the proxy bench.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "proxy"))

import proxies
from proxies import TARGET, BenchError, Proxy

ORIGIN = 19300
PROGRAM = TARGET / "release/examples/overload"
# Requests may wait for a quarter of the time within which an answer is good: enough to keep every worker busy, and what is
# admitted then has three quarters left.
QUEUE_SHARE = 0.25
# The timeout is three times that: who finds the queue full is refused at once, and who got in hardly ever waits in vain.
TIMEOUT_TIMES = 3


@dataclass
class World:
    """What the configurations are made from."""

    run: Path  # the folder of this run
    places: int
    mean_ms: float
    accounts: int  # of the load sweep
    most_accounts: int  # of any step

    def queued(self):
        """Requests that may wait in all: what the origin serves in that share of 10 times the mean."""
        return max(self.accounts, round(QUEUE_SHARE * 10 * self.places))

    def values(self, port):
        """What stands for the names in the files."""
        per_account = -(-self.queued() // self.accounts)
        return {
            "PORT": port, "ADMIN": port + 100, "ORIGIN": ORIGIN, "PLACES": self.places, "QUEUED": self.queued(),
            "PER_ACCOUNT": per_account, "LENGTH": per_account * max(self.accounts, self.most_accounts),
            "WAIT_MS": max(1, round(TIMEOUT_TIMES * QUEUE_SHARE * 10 * self.mean_ms)),
        }

    def conf(self, name, port):
        """A configuration, filled in."""
        values = self.values(port)
        text = re.sub(r"@([A-Z_]+)@", lambda found: str(values[found[1]]), (HERE / "conf" / name).read_text())
        path = self.run / name
        path.write_text(text)
        path.chmod(0o644)
        return path


def program():
    """The two ends, built."""
    if not PROGRAM.is_file():
        raise BenchError(f"no {PROGRAM}: cargo build --release --example overload")
    return PROGRAM


def origin(places):
    """The origin."""
    return Proxy("origin", "origin", ORIGIN, [program(), "origin", "--port", ORIGIN, "--workers", places])


def tidegate(name, what, port, world, binary):
    """The gate; which binary, the proxy bench decides."""
    path = proxies.tidegate(binary).command[0]
    return Proxy(name, what, port, [path, "serve", "-c", world.conf(f"{name}.yaml", port)])


def nginx(name, what, port, world):
    """nginx with one worker."""
    return proxies.nginx(name, what, port, world.conf(f"{name}.conf", port))


def haproxy(world):
    """HAProxy with one thread."""
    return proxies.haproxy("haproxy", "maxconn, one queue", 19303, world.conf("haproxy.cfg", 19303))


def envoy(world):
    """Envoy with one thread, started as in the proxy bench."""
    command = list(proxies.envoy().command)
    command[command.index("-c") + 1] = world.conf("envoy.yaml", 19305)
    return Proxy("envoy", "adaptive concurrency", 19305, command)


# In the order of the report; each is made from the world and the gate's binary.
CONTENDERS = {
    "tidegate": lambda world, binary: tidegate("tidegate", "queue, fair by account", 19301, world, binary),
    "tidegate-reject": lambda world, binary: tidegate("tidegate-reject", "no queue", 19302, world, binary),
    "haproxy": lambda world, _: haproxy(world),
    "nginx-limit": lambda world, _: nginx("nginx-limit", "limit_conn, no queue", 19304, world),
    "envoy": lambda world, _: envoy(world),
    "plain": lambda world, _: nginx("plain", "nginx, no limit", 19306, world),
}
