"""What the overload bench says: tables, verdicts and plots from the figures of its steps.

Judges Tidegate only, and only by goals of the project; the peers' figures stand beside it. Never measures.
"""

import contenders  # noqa: F401 (it makes the proxy bench's modules known)
import plot
from report import table, verdict_lines

# Where the project means to be.
GOODPUT_GOAL = 0.95  # of the best, at the highest load
REFUSAL_GOAL_MS = 1.0  # p99 above the unloaded round trip
MOUSE_GOAL = 1.2  # its p99 beside elephants, to alone
COMPLETION_GOAL = 0.99
# Below it the load itself was the bottleneck, or the machine was busy with other things.
LATE_GOAL_MS = 1.0
# A p99 of fewer requests is a matter of luck.
ENOUGH_REQUESTS = 300


def jain(values):
    """1 where all are alike, 1/n where one has everything; nothing where nobody has anything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None


def fair_shares(demands, capacity):
    """What max-min fairness gives each: nobody more than it asks, and what one leaves goes to the others."""
    shares, left = {}, capacity
    for count, name in enumerate(sorted(demands, key=demands.get)):
        shares[name] = min(demands[name], left / (len(demands) - count))
        left -= shares[name]
    return shares


def fairness(step, capacity):
    """Jain's index over goodput, each account's as a share of what max-min fairness gives it."""
    shares = fair_shares({name: found["offered_rate"] for name, found in step["accounts"].items()}, capacity)
    return jain([found["goodput"] / shares[name] for name, found in step["accounts"].items() if shares[name]])


def shown(value, digits=1):
    """A number, or a dash for nothing."""
    return "–" if value is None else f"{value:,.{digits}f}"


def sweep_table(results):
    """Every contender at every load."""
    rows = []
    for name, found in results["contenders"].items():
        for load, step in found["sweep"].items():
            everything = step["all"]
            admitted, refusal = everything["admitted_ms"], everything["refusal_ms"]
            share = everything["refused"] / max(1, everything["offered"])
            rows.append([f"{name} ({found['what']})", load, shown(everything["offered_rate"], 0), shown(everything["goodput"], 0),
                         *[shown(admitted[p]) for p in ("p50", "p90", "p99", "p999")],
                         shown(refusal["p50"], 2), shown(refusal["p99"], 2), f"{100 * share:.1f} %",
                         str(everything["gave_up"]), str(everything["failed"]), shown(step["cpu_us"], 1),
                         shown(everything["load_late_ms"]["p99"], 2)])
    head = ["proxy", "× capacity", "offered/s", "goodput/s", "p50 ms", "p90", "p99", "p99.9", "refusal p50 ms", "refusal p99",
            "refused", "gave up", "failed", "CPU µs/request", "load late p99"]
    return table(head, rows)


def herd_table(results):
    """The mouse beside each herd."""
    rows = []
    for name, found in results["contenders"].items():
        for herd, pair in found["herds"].items():
            mouse, alone = pair["beside"]["accounts"]["mouse"], pair["alone"]["accounts"]["mouse"]
            ratio = p99_ratio(pair)
            rows.append([f"{name} ({found['what']})", herd, f"{100 * completion(mouse):.1f} %",
                         f"{100 * completion(alone):.1f} %", shown(mouse["admitted_ms"]["p99"]), shown(alone["admitted_ms"]["p99"]),
                         shown(ratio, 2), shown(pair["jain"], 3), shown(pair["beside"]["all"]["goodput"], 0),
                         shown(pair["beside"]["all"]["load_late_ms"]["p99"], 2)])
    head = ["proxy", "elephants × share", "mouse's good answers", "alone", "mouse p99 ms", "alone", "ratio", "Jain",
            "goodput/s of all", "load late p99 ms"]
    return table(head, rows)


def completion(account):
    """The share of its requests that had a good answer."""
    return account["good"] / max(1, account["offered"])


def p99_ratio(pair):
    """The mouse's p99 beside elephants over alone."""
    beside, alone = (pair[key]["accounts"]["mouse"]["admitted_ms"]["p99"] for key in ("beside", "alone"))
    return beside / alone if beside and alone else None


def verdicts(results, is_quick):
    """(what, passed, figures) for each goal; `None` where too little was measured to tell."""
    found = []
    if not any(name.startswith("tidegate") for name in results["contenders"]):
        return found

    def judge(what, passed, figures, is_enough=True):
        if is_quick or not is_enough:
            found.append((what, None, figures + "; too little was measured for a verdict"))
        else:
            found.append((what, passed, figures))

    for name in ("tidegate", "tidegate-reject"):
        if name in results["contenders"]:
            sweep_verdicts(results, name, judge)
    for herd, pair in results["contenders"].get("tidegate", {"herds": {}})["herds"].items():
        mouse = pair["beside"]["accounts"]["mouse"]
        is_enough = mouse["offered"] >= ENOUGH_REQUESTS
        ratio = p99_ratio(pair)
        judge(f"a mouse's p99 beside {herd}, to alone", ratio is not None and ratio <= MOUSE_GOAL,
              f"{shown(ratio, 2)}, at most {MOUSE_GOAL}", is_enough)
        judge(f"a mouse's good answers beside {herd}", completion(mouse) >= COMPLETION_GOAL,
              f"{100 * completion(mouse):.2f} %, at least {100 * COMPLETION_GOAL:.0f} %", is_enough)
    late = max((step["all"]["load_late_ms"]["p99"] or 0.0, name) for name, step in steps(results) if name.startswith("tidegate"))
    judge("the load was punctual (else the figures are the machine's)", late[0] <= LATE_GOAL_MS,
          f"p99 of the worst step {late[0]:.2f} ms ({late[1]}), at most {LATE_GOAL_MS:.0f} ms")
    return found


def sweep_verdicts(results, name, judge):
    """Goodput and refusals at the highest load."""
    load, step = max(results["contenders"][name]["sweep"].items(), key=lambda item: float(item[0]))
    goodput = step["all"]["goodput"]
    own = max(other["all"]["goodput"] for other in results["contenders"][name]["sweep"].values())
    best = max(other["sweep"][load]["all"]["goodput"] for other in results["contenders"].values())
    judge(f"{name}: goodput at {load}×, to its own best", own > 0 and goodput / own >= GOODPUT_GOAL,
          f"{goodput:,.0f} of {own:,.0f} ({goodput / max(own, 1e-9):.3f}), at least {GOODPUT_GOAL}")
    if len(results["contenders"]) > 1:
        judge(f"{name}: goodput at {load}×, to the best of all", best > 0 and goodput / best >= GOODPUT_GOAL,
              f"{goodput:,.0f} of {best:,.0f} ({goodput / max(best, 1e-9):.3f}), at least {GOODPUT_GOAL}")
    refusal, trip = step["all"]["refusal_ms"]["p99"], results["contenders"][name]["unloaded"]["all"]["admitted_ms"]["p50"]
    if refusal is not None and trip is not None:
        judge(f"{name}: p99 of refusals at {load}×, above the unloaded round trip", refusal - trip < REFUSAL_GOAL_MS,
              f"{refusal:.2f} − {trip:.2f} = {refusal - trip:.2f} ms, below {REFUSAL_GOAL_MS:.0f} ms",
              step["all"]["refused"] >= ENOUGH_REQUESTS)


def steps(results):
    """Every step of every contender, with a name."""
    for name, found in results["contenders"].items():
        for load, step in found["sweep"].items():
            yield f"{name} at {load}×", step
        for herd, pair in found["herds"].items():
            yield f"{name}, mouse alone before {herd}", pair["alone"]
            yield f"{name} beside {herd}", pair["beside"]


def plots(results):
    """File names and SVG documents."""
    everybody, slo = results["contenders"], (f"good below {results['slo_ms']:.0f} ms", results["slo_ms"])

    def by_load(value):
        return {name: [(float(load), value(step)) for load, step in found["sweep"].items()] for name, found in everybody.items()}

    def by_herd(value):
        return {name: [(pair["elephants"], value(pair)) for pair in found["herds"].values()] for name, found in everybody.items()}

    offered, elephants = "offered load (× capacity)", "elephants beside the mouse (number)"
    found = {}
    if any(contender["sweep"] for contender in everybody.values()):
        found["goodput.svg"] = plot.plot(
            "Goodput under overload", offered, "good answers (1/s)", by_load(lambda step: step["all"]["goodput"]),
            level=("capacity", results["capacity"]))
        found["p99.svg"] = plot.plot(
            "Latency of what is admitted", offered, "p99 from the intended arrival (ms, log)",
            by_load(lambda step: step["all"]["admitted_ms"]["p99"]), log=True, level=slo)
        found["refusals.svg"] = plot.plot(
            "Latency of refusals", offered, "p99 from the intended arrival (ms, log)",
            by_load(lambda step: step["all"]["refusal_ms"]["p99"]), log=True)
    if any(contender["herds"] for contender in everybody.values()):
        found["mouse-p99.svg"] = plot.plot(
            "A mouse beside elephants", elephants, "the mouse's p99 (ms, log)",
            by_herd(lambda pair: pair["beside"]["accounts"]["mouse"]["admitted_ms"]["p99"]), log=True, level=slo)
        found["mouse-good.svg"] = plot.plot(
            "A mouse beside elephants", elephants, "the mouse's good answers (%)",
            by_herd(lambda pair: 100 * completion(pair["beside"]["accounts"]["mouse"])))
    return found


def markdown(results, names):
    """The report; `names` are the plots beside it."""
    lines = ["## Overload bench", ""]
    lines += [f"* {name}: {value}" for name, value in results["facts"].items()] + [""]
    lines += [f"Good is an answer 2xx within {results['slo_ms']:.1f} ms (10 × (mean + round trip)) of the instant at which the request was "
              "due; latencies count from there. CPU is the proxy's, over all requests, refused ones too.", ""]
    lines += ["### Load sweep", "", sweep_table(results), ""]
    if any(found["herds"] for found in results["contenders"].values()):
        lines += ["### Elephants and mice", "",
                  "The mouse asks for half its fair share, the elephants for so many times theirs. Jain's index is over goodput as a share of "
                  "what max-min fairness gives; 1 is perfect.", "", herd_table(results), ""]
    if results["verdicts"]:
        lines += ["### Verdicts", "", "```text", verdict_lines([tuple(one.values()) for one in results["verdicts"]]), "```", ""]
    return "\n".join(lines + [f"![{name}]({name})" for name in names])
