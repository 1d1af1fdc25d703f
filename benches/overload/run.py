#!/usr/bin/env python3
"""Overload and fairness: the same requests through Tidegate and its peers, at up to 1.6 times what the origin can serve.

    make overload                                  everything, with what is installed (some 15 minutes; as in the README: `OVERLOAD="--seconds 20"`)
    benches/overload/run.py --quick                a smoke test: 2 s a step, two loads, one herd; no verdicts
    benches/overload/run.py --peers haproxy,plain --seconds 20 --distribution bimodal --out FOLDER

Prints a report in Markdown; the folder gets the same, the plots as SVG and everything measured as JSON. It needs Python 3.9, the
program beside this file and the gate (cargo build --release --example overload; cargo build --profile dist --bin tidegate), and
for the peers what it says when they are missing.

How it measures. The origin has S workers and a queue of its own (origin.rs says why so); its capacity is S ÷ mean service time.
The load is an open loop: Poisson arrivals on a schedule made beforehand from a seed, latencies counted from the instant at which a
request was due, clients that give up after 2 s and never retry (load.rs). All contenders get the same requests, one contender
after the other, pinned to one core; origin and load have another (each its own where there are three). A step begins when the
origin has finished all work of the one before, and its first second is not counted.

1. Load sweep: several accounts with equal shares of 0.5 to 1.6 times the capacity.
2. Elephants and mice: one mouse at half its fair share, beside n elephants at k times theirs (`--herds n*k`), and the same
   requests of the mouse alone.

Closed loops, and proxies that are compared at different times of a busy machine, mislead: see `the load was punctual` among the
verdicts, and run it on a quiet machine. Loopback only; nothing that it did not start is ever ended.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import http.client
import json
import os
import resource
import subprocess
import time
from pathlib import Path

import contenders
import figures
import machine
import proxies
from contenders import CONTENDERS
from proxies import BenchError

LOADS = "0.5,0.9,1.1,1.4,1.6"
# 16 elephants at 2 times their share already are 1.9 times the capacity, and 1 at 8 times is 4 times it.
HERDS = "1*8,4*4,16*2"
# Unloaded: so few requests that none meets another, and no work.
PROBE_RATE, PROBE_SECONDS = 100, 2.0
# Files a process may have open: 1,000 connections on either side of a proxy, and some more.
FILES = 8192
# For the origin to finish what clients have given up: without a limit, four times as much as it can do for as long as a step takes.
IDLE_SECONDS = 300


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="seconds that count, a step (default 8)")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds of load before them (default %(default)s)")
    parser.add_argument("--loads", help=f"times the capacity (default {LOADS})")
    parser.add_argument("--herds", help=f"elephants*times their fair share (default {HERDS}); `none` leaves them out")
    parser.add_argument("--accounts", type=int, default=8, help="accounts of the load sweep (default %(default)s)")
    parser.add_argument("--connections", type=int, default=1000, help="keep-alive connections at most (default %(default)s)")
    parser.add_argument("--places", type=int, default=32, help="workers of the origin, and the limit (default %(default)s)")
    # Shorter, and on two cores the elephants' load takes its core from the origin beside it: then the mouse waits for the machine.
    parser.add_argument("--mean-ms", type=float, default=20.0, help="mean service time (default %(default)s)")
    parser.add_argument("--distribution", choices=["exponential", "constant", "bimodal"], default="exponential",
                        help="of service times (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same load (default %(default)s)")
    parser.add_argument("--peers", help=f"of {','.join(CONTENDERS)}; default: those that are installed")
    parser.add_argument("--tidegate", metavar="PATH", help="the binary (default: that of profile dist, then of release)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=proxies.TARGET / "overload", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="2 s a step, two loads, one herd: a smoke test")
    asked = parser.parse_args()
    quick = {"seconds": 2.0, "loads": "0.9,1.6", "herds": "4*4"}
    usual = {"seconds": 8.0, "loads": LOADS, "herds": HERDS}
    for name, value in (quick if asked.quick else usual).items():
        if getattr(asked, name) is None:
            setattr(asked, name, value)
    try:
        asked.loads = sorted({float(load) for load in asked.loads.split(",")})
        asked.herds = [] if asked.herds == "none" else [read_herd(herd) for herd in asked.herds.split(",")]
    except ValueError:
        parser.error("--loads are numbers, --herds are NUMBER*TIMES, each with commas between them")
    unknown = set((asked.peers or "").split(",")) - set(CONTENDERS) - {""}
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    most = max([asked.accounts] + [number + 1 for number, _ in asked.herds])
    if asked.seconds <= 0 or asked.warm < 0 or asked.mean_ms <= 0 or asked.places < 1 or asked.accounts < 1 or asked.loads[0] <= 0:
        parser.error("seconds, mean, places, accounts and loads are above 0")
    if asked.connections < most:
        parser.error(f"--connections is at least {most}, one for each account")
    asked.most_accounts = most
    return asked


def read_herd(text):
    """`4*2.5` is four elephants, each at 2.5 times its fair share."""
    number, times = text.split("*")
    if int(number) < 1 or float(times) <= 0:
        raise ValueError(text)
    return int(number), float(times)


def chosen(asked, run):
    """The contenders to run; one that was not asked for by name may be missing, but not the gate."""
    world = contenders.World(run, asked.places, asked.mean_ms, asked.accounts, asked.most_accounts)
    found = []
    for name, make in CONTENDERS.items():
        if asked.peers is not None and name not in asked.peers.split(","):
            continue
        try:
            found.append(make(world, asked.tidegate))
        except BenchError as missing:
            if asked.peers is not None or name.startswith("tidegate"):
                raise
            print(f"without {name}: {missing}", file=sys.stderr)
    if not found:
        raise BenchError("nothing to measure")
    return found


def allow_files():
    """What this process starts may open as many files as it needs; some machines begin at 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Bench:
    """One run: its options, the cores, and the SLO once the round trip is known."""

    def __init__(self, asked, placed):
        self.asked, self.placed = asked, placed
        self.capacity = asked.places / asked.mean_ms * 1000
        self.slo_ms = None

    def load(self, port, rates, seconds, warm, mean_ms, slo_ms):
        """One step's load to that port; what came of it."""
        command = [str(contenders.program()), "load", "--target", f"127.0.0.1:{port}", f"--seconds={seconds}", f"--warm={warm}",
                   f"--connections={self.asked.connections}", f"--distribution={self.asked.distribution}",
                   f"--mean-ms={mean_ms}", f"--slo-ms={slo_ms}", f"--seed={self.asked.seed}"]
        command += [f"--account={name}={rate}" for name, rate in rates.items()]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 preexec_fn=lambda: os.sched_setaffinity(0, {self.placed[2]}))
        try:
            printed, said = child.communicate(timeout=seconds + warm + 60)
        except BaseException as error:
            child.kill()
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchError("the load did not end") from error
            raise
        if child.returncode != 0:
            raise BenchError(f"the load failed: {said.strip()[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads(printed)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found["load_busy"] = spent / (time.monotonic() - began)
        return found

    def unloaded(self, port):
        """Requests without work, one at a time: the round trip."""
        found = self.load(port, {"probe": PROBE_RATE}, PROBE_SECONDS, 0.5, 0, 1000)
        # An adaptive limit may be at its lowest before it has seen any load, and refuse a few.
        if 2 * found["all"]["answered"] <= found["all"]["offered"]:
            raise BenchError(f"unloaded, most was not answered: {found['all']['ends']}")
        return found

    def step(self, proxy, rates):
        """One step through a proxy, begun when the origin is idle."""
        wait_until_idle()
        cpu = proxy.cpu_seconds()
        found = self.load(proxy.port, rates, self.asked.seconds, self.asked.warm, self.asked.mean_ms, self.slo_ms)
        if proxy.process.poll() is not None:
            raise BenchError(f"{proxy.name} ended by itself; see its output:\n{proxy.log.read_text(errors='replace')[-2000:]}")
        found["cpu_us"] = (proxy.cpu_seconds() - cpu) / found["sent_with_warm_up"] * 1e6
        return found

    def sweep(self, proxy):
        """Experiment 1."""
        found = {}
        for load in self.asked.loads:
            each = load * self.capacity / self.asked.accounts
            step = found[f"{load:g}"] = self.step(proxy, {f"account-{n}": each for n in range(self.asked.accounts)})
            everything = step["all"]
            progress(f"{proxy.name} at {load:g}×: goodput {everything['goodput']:,.0f}/s of {everything['offered_rate']:,.0f}/s, "
                     f"p99 {figures.shown(everything['admitted_ms']['p99'])} ms, "
                     f"{100 * everything['refused'] / max(1, everything['offered']):.0f} % refused")
        return found

    def herds(self, proxy):
        """Experiment 2."""
        found = {}
        for number, times in self.asked.herds:
            share = self.capacity / (number + 1)
            mouse = {"mouse": share / 2}
            # The mouse has as many connections alone as beside the others.
            beside = {**mouse, **{f"elephant-{n}": times * share for n in range(number)}}
            pair = {"elephants": number, "times": times, "alone": self.step(proxy, mouse), "beside": self.step(proxy, beside)}
            pair["jain"] = figures.fairness(pair["beside"], self.capacity)
            found[f"{number} × {times:g}"] = pair
            account = pair["beside"]["accounts"]["mouse"]
            progress(f"{proxy.name}, a mouse beside {number} elephants at {times:g}×: {100 * figures.completion(account):.1f} % good, "
                     f"p99 to alone {figures.shown(figures.p99_ratio(pair), 2)}, Jain {figures.shown(pair['jain'], 3)}")
        return found


def wait_until_idle():
    """Until the origin has done all its work, that of clients who left too."""
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", contenders.ORIGIN, timeout=5)
        try:
            connection.request("GET", "/idle")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"the origin does not answer: {error!r}") from error
        finally:
            connection.close()
        time.sleep(0.1)
    raise BenchError(f"the origin still works, {IDLE_SECONDS} s after the load's end")


def progress(line):
    """For whoever waits."""
    print(line, file=sys.stderr, flush=True)


def duration(asked, count):
    """About how many seconds the whole takes; a step has some overhead, and a naive one drains for a while."""
    steps = len(asked.loads) + 2 * len(asked.herds)
    return count * (steps * (asked.seconds + asked.warm + 0.5) + PROBE_SECONDS + 3)


def bench(asked, run, started):
    """The whole run. What it starts goes to `started`, for the caller to end."""
    allow_files()
    placed = machine.cores()
    running = chosen(asked, run)
    this = Bench(asked, placed)
    origin = contenders.origin(asked.places)
    where = facts(asked, running, placed)
    progress(f"{len(running)} contenders, about {duration(asked, len(running)) / 60:.0f} minutes")
    started.append(origin)
    origin.start(run, placed[1])
    trip = this.unloaded(contenders.ORIGIN)["all"]["admitted_ms"]["p50"]
    this.slo_ms = 10 * (asked.mean_ms + trip)
    where["round trip to the origin"] = f"{trip:.2f} ms"
    results = {"facts": where, "capacity": this.capacity, "slo_ms": this.slo_ms, "contenders": {}}
    taken, all_before = machine.stolen()
    for proxy in running:
        started.append(proxy)
        proxy.start(run, placed[0])
        # The first requests meet cold caches, and no connections.
        this.unloaded(proxy.port)
        results["contenders"][proxy.name] = {
            "what": proxy.what, "unloaded": this.unloaded(proxy.port), "sweep": this.sweep(proxy), "herds": this.herds(proxy)}
        proxy.stop()
    taken_after, all_after = machine.stolen()
    where["stolen by the host"] = f"{100 * (taken_after - taken) / max(1, all_after - all_before):.1f} % of all CPU time"
    where["load busy"] = f"{100 * max((step['load_busy'] for _, step in figures.steps(results)), default=0):.0f} % of its core at most"
    results["verdicts"] = [dict(zip(("goal", "passed", "figures"), one)) for one in figures.verdicts(results, asked.quick)]
    write(asked.out, results)


def facts(asked, running, placed):
    """Where, when and with what: figures without these mean nothing."""
    return {
        **machine.facts(proxies.ROOT),
        "cores": "proxy {}, origin {}, load {}".format(*placed),
        "origin": f"{asked.places} workers, {asked.distribution} service times of mean {asked.mean_ms:g} ms: "
                  f"{asked.places / asked.mean_ms * 1000:,.0f} requests/s",
        "load": f"seed {asked.seed}, {asked.seconds:g} s a step after {asked.warm:g} s, {asked.accounts} accounts, "
                f"at most {asked.connections:,} connections",
        **{proxy.name: machine.version(proxy.command[0]) for proxy in running},
    }


def write(folder, results):
    """The report to standard output and to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = figures.plots(results)
    for name, drawing in pictures.items():
        (folder / name).write_text(drawing)
    text = figures.markdown(results, pictures)
    (folder / "report.md").write_text(text + "\n")
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(text)
    progress(f"report, plots and results.json: {folder}")


def main():
    """Exit status: 0 measured (met or not), 1 could not measure, 2 wrong usage, 130 interrupted."""
    asked = arguments()
    return proxies.guarded("overload", lambda run, started: bench(asked, run, started))


if __name__ == "__main__":
    sys.exit(main())
