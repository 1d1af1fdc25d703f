// The limits: how full each is now and was in the last minutes, for whom, and how its maximum is overridden for a while.
//
// The last minutes are a ring of bounded length for each limit. A limit's row never moves: limits stand in the order of the file.

import { Rows, attribute, byId, draw, make, shown, text } from "./dom.js";
import { call } from "./link.js";
import { count, keyName, plural, rate, span, whose } from "./words.js";

const WINDOW_SECONDS = 300;
const POINTS_MAX = 160;
const [WIDE, HIGH] = [300, 40];
/** Rates are over this many seconds. */
const RATE_SECONDS = 5;

/** What was heard of the limits in the last minutes. */
export class Past {
  #step = 2;
  #byName = new Map();
  #counters = [];

  /** What the gate remembers; replaces everything. */
  history(history) {
    this.#step = history.step_seconds;
    this.#byName = new Map(
      history.limits.map((limit) => {
        const points = history.at.map((at, index) => ({ at, used: limit.used[index], refused: limit.refused[index], queued: limit.queued[index] }));
        return [limit.name, points.filter((point) => point.used !== null).slice(-POINTS_MAX)];
      }),
    );
    // Rates are known at once from the last two points.
    this.#counters = history.at.slice(-3).map((at, index, all) => {
      const from = history.at.length - all.length + index;
      const of = (limit) => [limit.name, { refused: limit.refused[from], would: null }];
      return { at, limits: new Map(history.limits.filter((limit) => limit.refused[from] !== null).map(of)), decisions: new Map() };
    });
  }

  /** A view of the moment. */
  note(seen) {
    const names = new Set(seen.limits.map((limit) => limit.name));
    for (const name of this.#byName.keys()) if (!names.has(name)) this.#byName.delete(name);
    for (const limit of seen.limits) {
      const points = this.#byName.get(limit.name) ?? [];
      this.#byName.set(limit.name, points);
      const last = points.at(-1);
      if (last && seen.at - last.at < this.#step * 0.9) continue;
      points.push({ at: seen.at, used: limit.used_ratio, refused: limit.refused, queued: limit.queued });
      if (points.length > POINTS_MAX) points.shift();
    }
    const counted = (limit) => [limit.name, { refused: limit.refused, would: limit.would.rejected }];
    const decisions = seen.decisions.map((of) => [`${of.decision} ${of.reason}`, of.count]);
    const candidates = seen.candidates.map((of) => [of.name, of.rejected]);
    this.#counters.push({ at: seen.at, limits: new Map(seen.limits.map(counted)), decisions: new Map(decisions), candidates: new Map(candidates) });
    // What the gate remembers has no decisions; once enough was heard here, all rates are over the same seconds.
    const heard = this.#counters.filter((of) => of.candidates !== undefined);
    if (heard.length > 2) this.#counters = heard;
    while (this.#counters.length > 2 && this.#counters[0].at < seen.at - RATE_SECONDS - 1) this.#counters.shift();
  }

  #rate(pick) {
    const last = this.#counters.at(-1);
    const now = last && pick(last);
    const first = this.#counters.find((of) => pick(of) != null);
    if (now == null || !first || last.at - first.at < 0.5) return null;
    const before = pick(first);
    // A counter that went back was begun anew.
    return now < before ? null : (now - before) / (last.at - first.at);
  }

  limit(name) {
    const of = (field) => this.#rate((at) => at.limits.get(name)?.[field]);
    return { refused: of("refused"), would: of("would") };
  }

  decision(name) {
    return this.#rate((at) => (at.decisions.size === 0 ? null : (at.decisions.get(name) ?? 0)));
  }

  candidate(name) {
    return this.#rate((at) => at.candidates?.get(name));
  }

  /** The line, the area under it, and a mark for each step in which the limit refused. */
  lines(name, now) {
    const points = (this.#byName.get(name) ?? []).filter((point) => point.at >= now - WINDOW_SECONDS);
    const x = (at) => (WIDE * (1 - (now - at) / WINDOW_SECONDS)).toFixed(1);
    const y = (used) => (HIGH - 1 - Math.min(used, 1.15) * ((HIGH - 4) / 1.15)).toFixed(1);
    let line = "";
    let area = "";
    let marks = "";
    let from = null;
    points.forEach((point, index) => {
      const before = points[index - 1];
      const isGap = !before || point.at - before.at > this.#step * 4;
      if (isGap && from !== null) area += `L${x(before.at)} ${HIGH}Z`;
      line += `${isGap ? "M" : "L"}${x(point.at)} ${y(point.used)}`;
      area += isGap ? `M${x(point.at)} ${HIGH}L${x(point.at)} ${y(point.used)}` : `L${x(point.at)} ${y(point.used)}`;
      from = point;
      if (!isGap && point.refused > before.refused) marks += `M${x(before.at)} ${HIGH - 1}H${x(point.at)}`;
    });
    if (from) area += `L${x(from.at)} ${HIGH}Z`;
    return { line, area, marks, full: y(1) };
  }
}

function sparkline() {
  const [full, area, line, marks] = ["full", "area", "line", "marks"].map((kind) => draw("path", { class: kind }));
  const drawing = draw("svg", { class: "spark", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" }, full, area, line, marks);
  return {
    drawing,
    show(lines, label) {
      attribute(full, "d", `M0 ${lines.full}H${WIDE}`);
      attribute(area, "d", lines.area);
      attribute(line, "d", lines.line);
      attribute(marks, "d", lines.marks);
      attribute(drawing, "aria-label", label);
    },
  };
}

/** How full: now, and palely the most of the last seconds, which is what a refusal met. */
function bar() {
  const [most, fill] = [make("span", { class: "most" }), make("span", { class: "fill" })];
  const track = make("span", { class: "bar", role: "meter", "aria-valuemin": "0" }, most, fill);
  const width = (of) => `${(100 * Math.min(Math.max(of, 0), 1)).toFixed(2)}%`;
  return {
    track,
    show(ratio, now, max, label, tone, peak = 0) {
      fill.style.width = width(ratio);
      most.style.width = width(Math.max(ratio, peak / Math.max(max, 1)));
      attribute(track, "data-tone", tone);
      attribute(track, "aria-valuemax", Math.max(max, now));
      attribute(track, "aria-valuenow", now);
      attribute(track, "aria-label", label);
    },
  };
}

/** A name that, where it has an account, narrows the page to it. */
function who(pick) {
  const button = make("button", { type: "button", class: "account" });
  const plainly = make("span", { class: "key-name" });
  let account;
  button.addEventListener("click", () => pick(account));
  return {
    nodes: [button, plainly],
    show(key, per) {
      account = key.account;
      const rest = Object.entries(key).filter(([name]) => name !== "account").map(([, value]) => value);
      shown(button, account !== undefined);
      text(button, account ?? "");
      attribute(button, "title", account !== undefined ? `Show only ${account}` : null);
      text(plainly, account === undefined ? (per.length ? rest.join(" · ") : "in flight") : rest.length ? ` · ${rest.join(" · ")}` : "");
    },
  };
}

function keyRow(view, limit, said) {
  const name = who(view.pick);
  const meter = bar();
  const number = make("span", { class: "numbers" });
  const waits = make("span", { class: "meta" });
  const change = make("button", { type: "button", class: "quiet" }, "Override…");
  let item;
  change.addEventListener("click", () => openOverride(limit(), item, change, said));
  const element = make("li", { class: "key-row" }, make("span", { class: "who" }, ...name.nodes), meter.track, number, waits, change);
  return {
    element,
    update(of) {
      item = of;
      name.show(of.key, limit().per);
      meter.show(of.in_flight / Math.max(of.max, 1), of.in_flight, of.max, `${keyName(of.key)}: ${of.in_flight} of ${of.max}`, null, of.peak);
      text(number, `${count(of.in_flight)} of ${count(of.max)}`);
      text(waits, of.queued ? `${count(of.queued)} waiting` : `most ${count(Math.max(of.peak, of.in_flight))}`);
      attribute(change, "aria-label", `Override ${limit().name} for ${keyName(of.key)}`);
      element.toggleAttribute("data-picked", view.account() !== null && of.key.account === view.account());
    },
  };
}

function overrideRow(limit, said, seen) {
  const sentence = make("span");
  const end = make("button", { type: "button", class: "quiet" }, "End it now");
  let item;
  end.addEventListener("click", async () => {
    const { account, group } = item;
    const query = account != null ? `?account=${encodeURIComponent(account)}` : group != null ? `?group=${encodeURIComponent(group)}` : "";
    end.disabled = true;
    try {
      await call("DELETE", `/v1/limits/${encodeURIComponent(limit().name)}/override${query}`);
      said("The override has ended.", false);
      seen();
    } catch (error) {
      said(error.message, true);
    }
    end.disabled = false;
  });
  const element = make("li", { class: "override" }, sentence, end);
  return {
    element,
    update(of) {
      item = of;
      text(sentence, `Override: ${count(of.max)} for ${whose(of)}, ${span(of.seconds_left)} left`);
      attribute(end, "aria-label", `End the override of ${limit().name} for ${whose(of)}`);
    },
  };
}

function limitRow(view, first) {
  let limit = first;
  const name = make("h3", {}, first.name);
  const tag = make("span", { class: "tag paper", hidden: true });
  const per = make("p", { class: "meta" });
  const top = who(view.pick);
  const number = make("strong", { class: "numbers", "data-figure": "use" });
  const meter = bar();
  const below = make("p", { class: "meta" });
  const spark = sparkline();
  const refused = make("strong", { class: "numbers" });
  const refusedWord = make("span", { class: "meta" });
  const change = make("button", { type: "button" }, "Override…");
  const overrides = make("ul", { class: "overrides" });
  const saying = make("p", { class: "said", role: "status" });
  const list = make("ul", { class: "keys" });
  const summary = make("summary");
  const keys = make("details", { class: "of-keys" }, summary, list);
  const said = (sentence, isError) => {
    text(saying, sentence);
    attribute(saying, "data-tone", isError ? "trouble" : "calm");
    clearTimeout(said.timer);
    if (!isError) said.timer = setTimeout(() => text(saying, ""), 8_000);
  };
  const keyRows = new Rows(list, () => keyRow(view, () => limit, said));
  const overrideRows = new Rows(overrides, () => overrideRow(() => limit, said, view.look));
  change.addEventListener("click", () => openOverride(limit, null, change, said));
  const element = make(
    "article", { class: "limit", role: "listitem", "data-limit": first.name },
    make("div", { class: "title" }, make("div", { class: "name" }, name, tag), per),
    make("div", { class: "now" }, make("div", { class: "line" }, make("span", { class: "who" }, ...top.nodes), number), meter.track, below),
    make("div", { class: "past" }, spark.drawing),
    make("div", { class: "refused" }, refused, refusedWord),
    make("div", { class: "action" }, change),
    make("div", { class: "under" }, overrides, saying, keys),
  );
  return {
    element,
    update(of) {
      limit = of;
      showLimit(of, view, { name, tag, per, top, number, meter, below, spark, refused, refusedWord, change, element });
      overrideRows.show(of.overrides, (each) => `${each.account} ${each.group}`);
      const known = of.per.length ? (of.fullest ?? []) : [];
      shown(keys, of.per.length > 0);
      text(summary, known.length < of.keys ? `The ${known.length} fullest of ${plural(of.keys, "key")}` : plural(known.length, "key"));
      keyRows.show(known, (each) => JSON.stringify(each.key), view.isHeld(list));
    },
  };
}

function showLimit(of, view, parts) {
  const rates = view.past.limit(of.name);
  const isShadow = of.mode !== "enforce";
  // Of the account that the page is narrowed to, where the gate tells of it; else the fullest.
  const key = of.fullest?.find((each) => view.account() !== null && each.key.account === view.account()) ?? of.fullest?.[0];
  const refusals = (isShadow ? rates.would : rates.refused) ?? 0;
  const tone = isShadow ? "paper" : refusals > 0 ? "trouble" : null;
  attribute(parts.element, "data-tone", tone);
  shown(parts.tag, isShadow);
  text(parts.tag, of.mode);
  text(parts.per, of.per.length ? `for each ${of.per.join(" and ")}` : "for all together");
  parts.top.show(key?.key ?? {}, of.per);
  if (!key && of.per.length) text(parts.top.nodes[1], "nobody");
  const [now, max] = key ? [key.in_flight, key.max] : [of.per.length ? 0 : of.in_flight, of.max];
  const ratio = key ? now / Math.max(max, 1) : of.used_ratio;
  text(parts.number, `${count(now)} of ${count(max)}`);
  parts.meter.show(ratio, now, max, `${of.name}${key && of.per.length ? `, ${keyName(key.key)}` : ""}: ${now} of ${max} in flight`, tone, key?.peak);
  const facts = [];
  if (of.per.length) facts.push(`${count(of.in_flight)} in flight over ${plural(of.keys, "key")}`);
  if (of.queued > 0) facts.push(`${count(of.queued)} waiting`);
  if (of.demand != null) facts.push(`demand ${of.demand < 10 ? of.demand.toFixed(1) : count(of.demand)}`);
  text(parts.below, facts.join(" · ") || " ");
  parts.spark.show(view.past.lines(of.name, view.now()), `${of.name}: how full in the last five minutes, now ${Math.round(ratio * 100)} %`);
  text(parts.refused, `${rate(isShadow ? rates.would : rates.refused)} / s`);
  const since = isShadow ? of.would.rejected : of.refused;
  text(parts.refusedWord, `${count(since)} ${isShadow ? "on paper" : "refused"}`);
  attribute(parts.change, "aria-label", `Override ${of.name} for a while`);
}

export class Limits {
  #rows;

  /** `view`: `past`, `pick(account)`, `account()`, `isHeld(element)`, `now()`, `look()`. */
  constructor(view) {
    this.view = view;
    this.#rows = new Rows(byId("limits"), (limit) => limitRow(view, limit));
    dialog(view.look);
  }

  show(seen) {
    this.#rows.show(seen.limits, (limit) => limit.name);
    const more = seen.limits_total - seen.limits.length;
    const none = seen.limits.length === 0 ? "No limit is configured: the gate counts, and holds nothing back." : "";
    text(byId("limits-more"), more > 0 ? `${plural(more, "more limit")} not shown here; /v1/status has all of them.` : none);
  }
}

/** Whose override the dialog is about. */
let subject = null;

function openOverride(limit, key, from, said) {
  subject = { limit, from, said };
  const [whom, name, max] = ["override-whom", "override-name", "override-max"].map(byId);
  const account = key?.key.account;
  const at = key ?? (limit.per.length ? null : limit.fullest?.[0]);
  text(byId("override-title"), `Override ${limit.name} for a while`);
  const now = at ? `${key ? keyName(key.key) : "Now"}: ${count(at.in_flight)} of ${count(at.max)} in flight.` : `Its maximum is ${count(limit.max)} for each ${limit.per.join(" and ")}.`;
  text(byId("override-now"), `${now} The configuration file is not touched.`);
  for (const option of whom.options) option.hidden = option.disabled = option.value === "account" && !limit.per.includes("account");
  text(whom.options[0], limit.per.length ? `every ${limit.per.join(" and ")}` : "all together");
  whom.value = account !== undefined ? "account" : "everyone";
  name.value = account ?? "";
  max.value = String(at?.max ?? limit.max);
  byId("override-for").value = "10m";
  text(byId("override-said"), "");
  whom.dispatchEvent(new Event("change"));
  max.dispatchEvent(new Event("input"));
  byId("override").showModal();
  max.focus();
  max.select();
}

function dialog(look) {
  const [box, form, whom, max, saying] = ["override", "override-form", "override-whom", "override-max", "override-said"].map(byId);
  whom.addEventListener("change", () => {
    shown(byId("override-name-field"), whom.value !== "everyone");
    byId("override-name").required = whom.value !== "everyone";
    text(byId("override-name-label"), whom.value === "group" ? "Group" : "Account");
  });
  max.addEventListener("input", () => {
    const { limit } = subject;
    const name = byId("override-name").value;
    const key = limit.per.length ? limit.fullest?.find((of) => of.key.account === name) : limit.fullest?.[0];
    const over = (key?.in_flight ?? 0) - Number(max.value);
    const lower = max.value !== "" && over > 0 ? `${plural(over, "request")} more than that ${over === 1 ? "is" : "are"} in flight now: they finish, and nothing new comes in until then.` : "";
    text(byId("override-hint"), max.value === "0" ? "With 0 places nothing is let in." : lower || "It takes effect at once, survives a reload, and ends by itself.");
  });
  byId("override-keep").addEventListener("click", () => box.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { limit, said } = subject;
    const wanted = { max: Number(max.value), for: byId("override-for").value.trim() };
    if (whom.value !== "everyone") wanted[whom.value] = byId("override-name").value.trim();
    const submit = form.querySelector("[type=submit]");
    submit.disabled = true;
    try {
      const of = await call("PUT", `/v1/limits/${encodeURIComponent(limit.name)}/override`, wanted);
      box.close();
      said(`In force: ${count(of.max)} for ${whose(of)}, for ${span(of.seconds_left)}.`, false);
      look();
    } catch (error) {
      text(saying, error.message);
    }
    submit.disabled = false;
  });
}
