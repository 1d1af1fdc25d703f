#!/usr/bin/env python3
"""Tidegate and its peers side by side: the same origin, the same load, one core each, in alternating rounds.

    make bench                                       everything, with what is installed
    benches/proxy/run.py --rounds 9 --seconds 3      the same, when tidegate is built (cargo build --profile dist)
    benches/proxy/run.py --peers nginx,l4 --json out.json

Prints CPU time per request, requests/s, latencies and memory, as medians with quartiles, as ratios within each round, and says
which of the project's goals were met. It needs Python 3.9, nginx and wrk (Debian: nginx-light wrk), and for the other peers
what it says when they are missing.

How it measures. All proxies are pinned to one core, and only one works at a time; the origin and wrk have another (each its own
where there are three). All are started once, and every round loads each of them once, in an order that moves on by one a round.
CPU time is what the kernel charged to the proxy and its children during a leg, over the requests that wrk counted. The load is
a closed loop of 64 connections, so latencies compare proxies but are no promise; and where a proxy used much less than its core,
requests/s tell what origin and wrk could do. `nginx again` is nginx a second time: its ratio to nginx is what this run's noise
amounts to. Nothing that it did not start is ever ended.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import time
from pathlib import Path

import machine
import proxies
import report
from proxies import BenchError, PEERS

CONTROL = "nginx again"


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=report.ENOUGH_ROUNDS, help="alternating rounds (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load a leg (default %(default)s)")
    parser.add_argument("--peers", help=f"of {','.join(PEERS)}; default: those that are installed")
    parser.add_argument("--tidegate", metavar="PATH", help="the binary (default: that of profile dist, then of release)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything measured to FILE")
    parser.add_argument("--without-tidegate", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    unknown = set((asked.peers or "").split(",")) - set(PEERS) - {""}
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return asked


def chosen(asked):
    """The proxies to run; a peer that was not asked for by name may be missing."""
    found = [] if asked.without_tidegate else [proxies.tidegate(asked.tidegate)]
    for name, make in PEERS.items():
        if asked.peers is not None and name not in asked.peers.split(","):
            continue
        try:
            found.append(make())
        except BenchError as missing:
            if asked.peers is not None:
                raise
            print(f"without {name}: {missing}", file=sys.stderr)
    if not found:
        raise BenchError("nothing to measure")
    return found


def facts(asked, running, placed):
    """Where, when and with what: figures without these mean nothing."""
    versions = {p.name: machine.version(p.command[0]) for p in running if p.name != "pingora"}
    return {
        **machine.facts(proxies.ROOT),
        "rounds": asked.rounds,
        "seconds a leg": asked.seconds,
        "cores": "proxy {}, origin {}, wrk {}".format(*placed),
        "wrk": machine.version(proxies.tool("wrk", "wrk")),
        **versions,
    }


def plan(running):
    """The legs of a round: (name, what, proxy, account, whether refusals are expected)."""
    legs = [(p.name, p.what, p, proxies.ACCOUNT, False) for p in running]
    for p in running:
        if p.name == "tidegate":
            legs.append(("refusal", "tidegate, a limit of 0", p, proxies.CLOSED_ACCOUNT, True))
        if p.name == "nginx":
            legs.append((CONTROL, "the noise", p, proxies.ACCOUNT, False))
    return legs


def prove(legs):
    """Every leg answers as it should, before anything is measured."""
    for name, _, proxy, account, refused in legs:
        status, body = proxy.get(account)
        if (refused and status != 429) or (not refused and (status, body) != (200, b"ok\n")):
            raise BenchError(f"{name} answered {status} {body[:200]!r}; see {proxy.log}")


def measured(asked, legs, core):
    """All rounds: samples by leg."""
    for name, _, proxy, account, refused in legs:
        proxies.load(proxy, account, 1, core, refused)  # connections, caches and branch predictors are warm after this
    samples = {leg[0]: [] for leg in legs}
    for turn in range(asked.rounds):
        shift = turn % len(legs)
        for name, _, proxy, account, refused in legs[shift:] + legs[:shift]:
            samples[name].append(proxies.load(proxy, account, asked.seconds, core, refused))
        line = "  ".join(f"{name} {taken[-1].cpu_us:.2f}" for name, taken in samples.items())
        print(f"round {turn + 1}/{asked.rounds}, CPU µs/request: {line}", file=sys.stderr, flush=True)
    return samples


def bench(asked, run, started):
    """The whole run. What it starts goes to `started`, for the caller to end."""
    placed = machine.cores()
    running = chosen(asked)
    where = facts(asked, running, placed)
    for program, core in [(proxies.origin(), placed[1])] + [(p, placed[0]) for p in running]:
        started.append(program)
        program.start(run, core)
    time.sleep(1)
    idle = {p.name: p.resident_mib() for p in running}
    legs = plan(running)
    prove(legs)
    taken, all_before = machine.stolen()
    samples = measured(asked, legs, placed[2])
    taken_after, all_after = machine.stolen()
    where["stolen by the host"] = f"{100 * (taken_after - taken) / max(1, all_after - all_before):.1f} % of all CPU time"
    loaded = {p.name: p.resident_mib() for p in running}
    show(asked, where, {leg[0]: leg[1] for leg in legs}, samples, idle, loaded)


def show(asked, where, legs, samples, idle, loaded):
    """Prints the report, and writes the file."""
    subject = "tidegate" if "tidegate" in samples else next(iter(samples))
    found = report.verdicts(samples, idle, asked.rounds) if "tidegate" in samples else []
    print("## Proxy bench\n")
    print("\n".join(f"* {name}: {value}" for name, value in where.items()), "\n")
    print("Medians, with quartiles in brackets.\n")
    print(report.absolute_table(legs, samples, idle, loaded), "\n")
    print(report.ratio_table(subject, legs, samples, idle, loaded), "\n")
    if CONTROL in samples:
        print(f"Noise (nginx again / nginx, CPU/request): {report.shown(report.ratios(samples, 'cpu_us', CONTROL, 'nginx'), 3)}\n")
    print("```text\n" + report.bars(samples) + "\n```\n")
    if found:
        print("```text\n" + report.verdict_lines(found) + "\n```")
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(where, legs, samples, idle, loaded, found), indent=1) + "\n")


def main():
    """Exit status: 0 measured (met or not), 1 could not measure, 2 wrong usage, 130 interrupted."""
    asked = arguments()
    return proxies.guarded("bench", lambda run, started: bench(asked, run, started))


if __name__ == "__main__":
    sys.exit(main())
