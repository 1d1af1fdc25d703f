"""What the bench says: medians with quartiles, ratios within a round, the verdicts, as Markdown and as JSON.

A ratio is taken between two legs of the same round, because a machine's speed drifts from round to round; the median of the ratios
is what is judged. Absolute figures are for orientation only.
"""

import statistics

ENOUGH_ROUNDS = 9
# Where the project means to be: (what is compared with, most that the ratio may be, what is meant).
RATIO_GOALS = [
    ("nginx", 1.03, "CPU per request, to nginx with one limit_conn"),
    ("haproxy", 1.03, "CPU per request, to HAProxy with one stick table"),
    ("l4", 1.10, "CPU per request, to a TCP forwarder that parses nothing (an aim)"),
]
REFUSAL_GOAL = 0.6
IDLE_GOAL_MIB = 25
BAR_WIDTH = 48


def spread(values):
    """Median and quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def ratios(samples, field, subject, peer):
    """The subject's value over the peer's, round by round."""
    return [getattr(a, field) / getattr(b, field)
            for a, b in zip(samples[subject], samples[peer]) if getattr(b, field)] or [float("nan")]


def shown(values, digits=2):
    """`median (quartile–quartile)`."""
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def absolute_table(legs, samples, idle, loaded):
    """Every leg by itself."""
    rows = []
    for name, what in legs.items():
        taken = samples[name]
        values = {field: [getattr(s, field) for s in taken] for field in ("cpu_us", "rate", "p50_ms", "p99_ms", "busy")}
        rows.append([f"{name} ({what})", shown(values["cpu_us"]), f"{spread(values['rate'])[0]:,.0f}",
                     shown(values["p50_ms"]), shown(values["p99_ms"]), f"{100 * spread(values['busy'])[0]:.0f} %",
                     f"{idle[name]:.1f}" if name in idle else "", f"{loaded[name]:.1f}" if name in loaded else "",
                     str(sum(s.failed for s in taken))])
    head = ["proxy", "CPU µs/request", "requests/s", "p50 ms", "p99 ms", "of its core", "MiB idle", "MiB after", "failed"]
    return table(head, rows)


def ratio_table(subject, legs, samples, idle, loaded):
    """The subject over each of the others; below 1 it is the cheaper one, but for requests/s."""
    rows = []
    for name in legs:
        if name == subject or name not in idle:  # the subject's own refusals, and the control, are told elsewhere
            continue
        rest, memory = f"{idle[subject] / idle[name]:.2f}", f"{loaded[subject] / loaded[name]:.2f}"
        rows.append([f"{subject} / {name}"]
                    + [shown(ratios(samples, field, subject, name), 3) for field in ("cpu_us", "rate", "p50_ms", "p99_ms")]
                    + [rest, memory])
    return table(["ratio", "CPU/request", "requests/s", "p50", "p99", "idle memory", "memory after"], rows)


def bars(samples):
    """CPU time per request as bars of text."""
    medians = {name: spread([s.cpu_us for s in taken])[0] for name, taken in samples.items()}
    longest, width = max(medians.values()), max(map(len, medians))
    lines = [f"{name:<{width}} {'█' * max(1, round(BAR_WIDTH * value / longest))} {value:.2f}"
             for name, value in sorted(medians.items(), key=lambda item: item[1])]
    return "CPU µs per request, median\n" + "\n".join(lines)


def verdicts(samples, idle, rounds):
    """(name, passed, figures) for each goal that this run measured; `None` where the rounds are too few to tell."""
    found = []
    for peer, goal, what in RATIO_GOALS:
        if peer in samples:
            found.append(judged(what, ratios(samples, "cpu_us", "tidegate", peer), goal, rounds))
    if "refusal" in samples:
        found.append(judged("CPU per refusal, to a forwarded request", ratios(samples, "cpu_us", "refusal", "tidegate"),
                            REFUSAL_GOAL, rounds))
    rest = idle["tidegate"]
    found.append(("resident memory idle", rest <= IDLE_GOAL_MIB, f"{rest:.1f} MiB, at most {IDLE_GOAL_MIB}"))
    failed = sum(s.failed for taken in samples.values() for s in taken)
    total = sum(s.requests for taken in samples.values() for s in taken)
    found.append(("every answer as expected", failed == 0, f"{failed} of {total:,} were not"))
    return found


def judged(what, values, goal, rounds):
    """One goal that a median of ratios has to meet."""
    figures = f"{shown(values, 3)}, at most {goal:.2f}"
    if rounds < ENOUGH_ROUNDS:
        return what, None, f"{figures}; a verdict needs {ENOUGH_ROUNDS} rounds"
    return what, spread(values)[0] <= goal, figures


def verdict_lines(found):
    """`pass  what: figures`."""
    word = {True: "pass", False: "MISS", None: "open"}
    return "\n".join(f"{word[passed]}  {what}: {figures}" for what, passed, figures in found)


def as_json(facts, legs, samples, idle, loaded, found):
    """Everything measured, raw samples included."""
    return {
        "facts": facts,
        "legs": {name: {"what": what, "idle_mib": idle.get(name), "after_mib": loaded.get(name),
                        "samples": [vars(s) for s in samples[name]]} for name, what in legs.items()},
        "verdicts": [{"goal": what, "passed": passed, "figures": figures} for what, passed, figures in found],
    }
