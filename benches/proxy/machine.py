"""Where, when and with what a bench ran: figures without these mean nothing.

Never measures anything, and never changes the machine.
"""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from proxies import BenchError

# Programs that tell their version another way than by `--version`.
VERSION_FLAGS = {"nginx": "-v", "haproxy": "-v"}


def cores():
    """The cores of proxy, origin and load, on different physical cores as far as there are any."""
    siblings, first, rest = set(), [], []
    for core in sorted(os.sched_getaffinity(0)):
        try:
            group = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            group = str(core)
        (rest if group in siblings else first).append(core)
        siblings.add(group)
    usable = first + rest
    if len(usable) < 2:
        raise BenchError("at least two cores are needed: one for the proxy, one for the load")
    return usable[0], usable[1], usable[2 if len(first) > 2 else 1]


def first_line(*command):
    """What a program says of its version, on either stream."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    if done.returncode != 0 and not done.stdout:
        return "unknown"
    return ((done.stdout + done.stderr).strip().splitlines() or ["unknown"])[0]


def version(program):
    """What a program says of its version."""
    told = first_line(str(program), VERSION_FLAGS.get(Path(program).name, "--version"))
    return told.replace(str(program), Path(program).name)  # some begin with the path by which they were called


def facts(root):
    """The machine, the date, the commit of the checkout, and how busy the machine was before."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    commit = first_line("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    dirty = first_line("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {
        "machine": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit + ("" if dirty == "unknown" else " with changes"),
        "load before": "{:.2f}".format(os.getloadavg()[0]),
    }


def stolen():
    """Ticks that the host took away from this machine's cores, and all ticks."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)
