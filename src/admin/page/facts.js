// What is read more than acted on: decisions, what would be refused on paper, upstreams, presence, the configuration, and what would
// become of a request.

import { Rows, attribute, byId, make, pairs, shown, text } from "./dom.js";
import { call } from "./link.js";
import { REASONS, clock, count, keyName, plural, rate, span, standing } from "./words.js";

const cells = (...names) => names.map((name) => make("td", { class: name }));

function decisionRow(view) {
  const [what, why] = [make("span", { class: "decision" }), make("span", { class: "meta" })];
  const [now, since] = cells("number", "number");
  const element = make("tr", {}, make("td", {}, what, why), now, since);
  return {
    element,
    update(of) {
      const speed = view.past.decision(`${of.decision} ${of.reason}`);
      const reason = of.reason === "none" ? "" : of.reason;
      text(what, of.decision);
      text(why, reason);
      attribute(why, "title", REASONS[of.reason] ?? null);
      text(now, rate(speed));
      text(since, count(of.count));
      attribute(element, "data-tone", of.decision === "rejected" && speed > 0 ? "trouble" : null);
    },
  };
}

function paperRow() {
  const [name, kind] = [make("span", { class: "decision" }), make("span", { class: "meta" })];
  const [now, since] = cells("number", "number");
  const element = make("tr", {}, make("td", {}, name, kind), now, since);
  return {
    element,
    update(of) {
      text(name, of.name);
      const all = of.admitted + of.rejected;
      text(kind, `${of.kind} · ${count(of.rejected)}`);
      attribute(kind, "title", `${count(of.rejected)} of ${count(all)} would have been refused`);
      text(now, rate(of.speed));
      text(since, all ? `${Math.round((100 * of.rejected) / all)} %` : "–");
    },
  };
}

function upstreamRow() {
  const [address, name] = [make("span", { class: "address" }), make("span", { class: "meta" })];
  const health = make("span", { class: "health" });
  const [number] = cells("number");
  const element = make("tr", {}, make("td", {}, address, name), make("td", {}, health), number);
  return {
    element,
    update(of) {
      const left = of.ejected_until ? (Date.parse(of.ejected_until) - of.now) / 1000 : null;
      const words = left !== null ? `ejected, back in ${span(Math.max(left, 0))}` : of.passes_check === false ? "fails its check" : of.healthy ? "healthy" : "unhealthy";
      text(address, of.address);
      text(name, of.name);
      text(health, words);
      attribute(health, "data-tone", of.healthy ? "good" : "trouble");
      text(number, of.in_flight == null ? "–" : count(of.in_flight));
    },
  };
}

/** A diagnostic as the command line shows it: place, line, caret, way out. */
function diagnostic(of) {
  const isPlaced = of.line > 0;
  const where = isPlaced ? `${of.file}:${of.line}:${of.column}` : of.file;
  const block = make("article", { class: "diagnostic", "data-severity": of.severity }, make("p", { class: "where" }, make("code", {}, where), make("span", { class: "tag" }, of.code)), make("p", { class: "message" }, of.message));
  if (isPlaced && of.source_line) {
    const gutter = String(of.line);
    // A cropped line has its place elsewhere; then the line alone is shown.
    const isWhole = of.column > 0 && of.column - 1 <= of.source_line.length && of.source_line.length < 160;
    const caret = isWhole ? `\n${" ".repeat(gutter.length)} | ${" ".repeat(of.column - 1)}${"^".repeat(Math.min(Math.max(of.width, 1), 160))}` : "";
    block.append(make("pre", { tabindex: "0" }, `${gutter} | ${of.source_line}${caret}`));
  }
  if (of.hint) block.append(make("p", { class: "hint" }, make("strong", {}, "Way out: "), of.hint));
  return block;
}

export class Facts {
  #view;
  #decisions;
  #paper;
  #upstreams;
  #refusal = null;
  #generation = null;

  /** `view`: `past`, `now()`, `look()`. */
  constructor(view) {
    this.#view = view;
    this.#decisions = new Rows(byId("decisions"), () => decisionRow(view));
    this.#paper = new Rows(byId("paper-rows"), () => paperRow());
    this.#upstreams = new Rows(byId("upstreams"), () => upstreamRow());
    byId("reload").addEventListener("click", () => this.#reload());
    byId("yaml").addEventListener("toggle", () => this.#yaml());
    byId("explain").addEventListener("submit", (event) => {
      event.preventDefault();
      explain();
    });
  }

  show(seen) {
    // In one order: what was let in, then what was not.
    const order = ["admitted", "queued", "slowed", "marked", "rerouted", "rejected"];
    const rank = (of) => order.indexOf(of.decision);
    const decisions = [...seen.decisions].sort((a, b) => rank(a) - rank(b) || (a.reason < b.reason ? -1 : 1));
    this.#decisions.show(decisions, (of) => `${of.decision} ${of.reason}`);
    const shadows = seen.limits.filter((of) => of.mode === "shadow");
    const paper = [
      ...shadows.map((of) => ({ name: of.name, kind: "shadow", speed: this.#view.past.limit(of.name).would, ...of.would })),
      ...seen.candidates.map((of) => ({ ...of, kind: "candidate", speed: this.#view.past.candidate(of.name) })),
    ];
    shown(byId("paper"), paper.length > 0);
    this.#paper.show(paper, (of) => `${of.kind} ${of.name}`);
    const now = seen.at * 1000;
    const endpoints = seen.upstreams.flatMap((of) => of.endpoints.map((endpoint) => ({ ...endpoint, name: of.name, now })));
    this.#upstreams.show(endpoints, (of) => `${of.name} ${of.address}`);
    shown(byId("presence"), seen.presence !== null);
    if (seen.presence) {
      const { devices, sockets, calls } = seen.presence;
      pairs(byId("presence-totals"), [["devices", count(devices)], ["sockets", count(sockets)], ["calls", count(calls)]]);
    }
    this.#configuration(seen, now);
  }

  #configuration(seen, now) {
    const loaded = new Date(seen.loaded_at);
    pairs(byId("config"), [
      ["generation", count(seen.generation)],
      ["loaded", `${clock(loaded)}, ${span(Math.max(0, Math.floor((now - loaded) / 1000)))} ago`],
      ["hash", seen.hash.slice(0, 12), null, seen.hash],
    ]);
    const refusal = standing(seen);
    const mark = refusal && JSON.stringify(refusal);
    if (mark !== this.#refusal) {
      this.#refusal = mark;
      const place = byId("refusal");
      shown(place, refusal !== null);
      const title = refusal && `The file was refused at ${clock(new Date(refusal.at))}; generation ${count(seen.generation)} stays in force.`;
      place.replaceChildren(...(refusal ? [make("p", { class: "refused-title" }, title), ...refusal.diagnostics.slice(0, 20).map(diagnostic)] : []));
    }
    if (this.#generation !== seen.generation) {
      this.#generation = seen.generation;
      this.#yaml();
    }
  }

  async #yaml() {
    if (!byId("yaml").open) return;
    try {
      const { yaml } = await call("GET", "/v1/config");
      text(byId("yaml-text"), yaml);
    } catch (error) {
      text(byId("yaml-text"), error.message);
    }
  }

  async #reload() {
    const [button, saying] = [byId("reload"), byId("reload-said")];
    button.disabled = true;
    attribute(saying, "data-tone", null);
    text(saying, "reading the file …");
    try {
      const answer = await call("POST", "/v1/reload");
      text(saying, answer.result === "unchanged" ? `The file is the one in force already: generation ${answer.generation}.` : `In force: generation ${answer.generation}.`);
    } catch (error) {
      const found = error.body?.diagnostics?.length;
      text(saying, found ? `Refused for ${plural(found, "finding")}; what was in force stays.` : error.message);
      attribute(saying, "data-tone", "trouble");
    }
    button.disabled = false;
    this.#view.look();
  }
}

/** The header fields of the explain box; a line without a colon is named. */
function headerFields(lines) {
  const fields = {};
  for (const line of lines.split("\n").filter((of) => of.trim() !== "")) {
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`“${line.trim()}” is no header field: write name: value`);
    fields[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim();
  }
  return fields;
}

async function explain() {
  const [saying, place] = [byId("explain-said"), byId("explained")];
  text(saying, "");
  try {
    const client = byId("explain-client").value.trim();
    const ask = { method: byId("explain-method").value.trim() || "GET", path: byId("explain-path").value.trim(), headers: headerFields(byId("explain-headers").value), ...(client && { client }) };
    place.replaceChildren(...explained(await call("POST", "/v1/explain", ask)));
  } catch (error) {
    place.replaceChildren();
    text(saying, error.message);
  }
}

const line = (of) => of && make("code", { class: "source", title: `${of.file}:${of.line}` }, make("span", { class: "meta" }, `${of.file.split("/").at(-1)}:${of.line} `), of.text);

function explained(answer) {
  const outcome = answer.outcome ?? answer.judged?.outcome;
  const first = outcome && make("p", { class: "outcome", "data-tone": outcome.decision === "rejected" ? "trouble" : "good" }, make("strong", {}, [outcome.decision, outcome.status].filter(Boolean).join(" ")), ` ${outcome.sentence ?? ""}`);
  if (answer.refused) {
    const { status, reason, detail } = answer.refused;
    return [make("p", { class: "outcome", "data-tone": "trouble" }, make("strong", {}, `answered ${status} ${reason}`), ` ${detail}`)];
  }
  const { judged } = answer;
  const list = make("dl", { class: "pairs explained" });
  const value = (word, of) => make("span", {}, make("strong", {}, word), " ", of ?? "");
  pairs(list, [
    ["resource", value(judged.resource, line(judged.resource_line))],
    ["account", judged.exempt ? "not asked: the resource is exempt" : value(judged.account, line(judged.identified_by) ?? make("span", { class: "meta" }, "nothing names it"))],
    ...(judged.group ? [["group", judged.group]] : []),
    ["priority", judged.priority],
    ["cost", plural(judged.cost, "place")],
    ["upstream", judged.upstream],
  ]);
  const blocks = [{ title: "Limits, in the order in which they are asked", limits: judged.limits }, ...(judged.candidates ?? []).map((of) => ({ title: `On paper: the candidate ${of.name}${of.fits == null ? "" : of.fits ? " would admit it" : " would refuse it"}`, limits: of.limits }))];
  return [first, list, ...(judged.exempt ? [] : blocks.flatMap(limitsOf))].filter(Boolean);
}

function limitsOf({ title, limits }) {
  const head = make("h3", { class: "sub" }, limits.length ? title : "No limit applies");
  const row = (of) => {
    const use = of.in_flight == null ? "" : `${count(of.in_flight)} of `;
    const fits = of.fits == null ? "" : of.fits ? "fits" : "does not fit";
    return make(
      "li", {},
      make("span", { class: "use" }, make("strong", {}, of.name), make("span", { class: "meta" }, ` ${keyName(Object.fromEntries(of.key))}`), of.mode === "enforce" ? "" : make("span", { class: "tag paper" }, of.mode)),
      make("span", { class: "numbers" }, `${use}${plural(of.max, "place")}${of.queued ? `, ${count(of.queued)} waiting` : ""}`),
      fits && make("span", { class: "fits", "data-tone": of.fits ? "good" : "trouble" }, fits),
      line(of.line),
    );
  };
  return [head, make("ol", { class: "asked-limits" }, ...limits.map(row))];
}
