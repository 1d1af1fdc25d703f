"""Line plots as plain SVG: axes with units, a legend, and colours that read on a light and on a dark page.

Each line has a colour, a dash and a mark of its own, so that a print in black, or an eye that does not tell colours, can follow it.
Knows nothing of proxies: it gets names and points.
"""

import math
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 44, 56
# (on a light page, on a dark page), dashes, mark
STYLES = [
    (("#0b5fa5", "#6cb6ff"), "", "circle"),
    (("#0b8a8f", "#56d4dd"), "7 4", "square"),
    (("#b35900", "#ffa657"), "", "triangle"),
    (("#7a4ab8", "#d2a8ff"), "2 4", "diamond"),
    (("#3d7a1f", "#7ee787"), "10 3 2 3", "circle"),
    (("#b3261e", "#ff7b72"), "5 3", "square"),
    (("#6e6e6e", "#b0b0b0"), "1 3", "diamond"),
]


def plot(title, x_label, y_label, lines, log=False, level=None):
    """An SVG document. `lines` maps a name to [(x, y)]; a `None` for y leaves a gap; `level` is a (name, y) drawn across."""
    points = [(x, y) for line in lines.values() for x, y in line if y is not None and (y > 0 or not log)]
    if not points:
        points = [(0, 1), (1, 1)]
    xs = sorted({x for x, _ in points})
    ys = [y for _, y in points] + ([level[1]] if level else [])
    if log:
        low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys) * 1.0001))
        ticks = [mark * 10 ** power for power in range(round(math.log10(low)), round(math.log10(high)) + 1) for mark in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        step = round_step(max(ys) / 5)
        low, high = 0, step * math.ceil(max(ys) / step)
        ticks = [step * n for n in range(round(high / step) + 1)]
    margin = (xs[-1] - xs[0]) * 0.04 or 0.5
    place = scales((xs[0] - margin, xs[-1] + margin), (low, high), log)
    body = [text(LEFT, 24, title, "title", "start")]
    body += grid(place, xs, ticks, x_label, y_label)
    if level:
        y = place(xs[0], level[1])[1]
        body.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        legend = TOP + 14 + 22 * len(lines)
        body.append(f'<line class="level" x1="{WIDTH - RIGHT + 18}" x2="{WIDTH - RIGHT + 48}" y1="{legend}" y2="{legend}"/>')
        body.append(text(WIDTH - RIGHT + 56, legend + 4, level[0], "tick", "start"))
    for index, (name, line) in enumerate(lines.items()):
        body += drawn(index, name, [(place(x, y) if y is not None and (y > 0 or not log) else None) for x, y in line])
    return document(title, body)


def round_step(least):
    """The next of 1, 2, 5, 10, 20, … at or above."""
    power = 10 ** math.floor(math.log10(max(least, 1e-9)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)


def scales(x_range, y_range, log):
    """From values to places on the paper."""
    def share(value, low, high):
        return (value - low) / (high - low) if high > low else 0.5

    def place(x, y):
        across = share(x, *x_range)
        up = share(math.log10(y), *map(math.log10, y_range)) if log else share(y, *y_range)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)
    return place


def grid(place, xs, ticks, x_label, y_label):
    """Axes with their ticks and labels."""
    base, found = HEIGHT - BOTTOM, []
    for tick in ticks:
        y = place(xs[0], tick)[1]
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(text(LEFT - 8, y + 4, number(tick), "tick", "end"))
    for x in xs:
        at = place(x, ticks[-1])[0]
        found.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 5}"/>')
        found.append(text(at, base + 20, number(x), "tick", "middle"))
    found.append(f'<path class="axis" d="M{LEFT} {TOP}V{base}H{WIDTH - RIGHT}"/>')
    found.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, "label", "middle"))
    middle = (TOP + base) / 2
    found.append(f'<text class="label" text-anchor="middle" transform="translate(18 {middle:.0f}) rotate(-90)">{escape(y_label)}</text>')
    return found


def drawn(index, name, places):
    """One line with its marks, and its entry in the legend."""
    _, dash, shape = STYLES[index % len(STYLES)]
    path, is_pen_up = "", True
    for place in places:
        if place:
            path += f'{"M" if is_pen_up else "L"}{place[0]:.1f} {place[1]:.1f}'
        is_pen_up = place is None
    kind = f"s{index % len(STYLES)}"
    found = [f'<path class="line {kind}" stroke-dasharray="{dash or "none"}" d="{path}"/>'] if path else []
    found += [mark(shape, kind, *place) for place in places if place]
    x, y = WIDTH - RIGHT + 18, TOP + 14 + 22 * index
    found.append(f'<line class="line {kind}" stroke-dasharray="{dash or "none"}" x1="{x}" x2="{x + 30}" y1="{y}" y2="{y}"/>')
    return found + [mark(shape, kind, x + 15, y), text(x + 38, y + 4, name, "tick", "start")]


def mark(shape, kind, x, y):
    """A point."""
    if shape == "circle":
        return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    corners = {"square": [(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
               "triangle": [(0, -5), (4.6, 3.6), (-4.6, 3.6)],
               "diamond": [(0, -5), (5, 0), (0, 5), (-5, 0)]}[shape]
    return f'<polygon class="mark {kind}" points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def text(x, y, words, kind, anchor):
    """A piece of text."""
    return f'<text class="{kind}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def number(value):
    """Without needless zeros, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def document(title, body):
    """The whole, with both palettes."""
    def palette(which):
        rules = [f".s{n}{{stroke:{colours[which]}}}.mark.s{n}{{fill:{colours[which]}}}" for n, (colours, _, _) in enumerate(STYLES)]
        paper, ink, faint = (("#ffffff", "#1f2328", "#d8dee4"), ("#0d1117", "#e6edf3", "#30363d"))[which]
        return "".join(rules) + f".paper{{fill:{paper}}}text{{fill:{ink}}}.axis,.level{{stroke:{ink}}}.grid{{stroke:{faint}}}"

    style = ("text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}.label{font-size:13px}"
             ".line{fill:none;stroke-width:2}.axis,.grid,.level{fill:none;stroke-width:1}.level{stroke-dasharray:4 4}"
             + palette(0) + "@media (prefers-color-scheme: dark){" + palette(1) + "}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">\n'
            f"<title>{escape(title)}</title>\n<style>{style}</style>\n"
            f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(body) + "\n</svg>\n")
