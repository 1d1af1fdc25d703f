// The live page: hears the gate once a second and hands what it said to the parts that show it.
//
// Nothing is kept but the newest view and the last five minutes. While nobody looks, nothing is drawn.

import { attribute, byId, isHeld, make, pairs, shown, text } from "./dom.js";
import { Facts } from "./facts.js";
import { Limits, Past } from "./limits.js";
import { call, hasToken, keepToken, listen } from "./link.js";
import { Work } from "./work.js";
import { count, headline, notes, rate, span, spoken } from "./words.js";

/** A changed headline is read out at most so often. */
const SPOKEN_MS = 5_000;

const past = new Past();
let newest = null;
let account = null;
let frame = 0;

const again = () => {
  if (newest && !frame) frame = requestAnimationFrame(draw);
};

/** Asks for a view outside of the rhythm, after something was changed. */
async function look() {
  try {
    heard("overview", await call("GET", "/v1/overview"));
  } catch {
    // The stream brings the next one, or says that the gate is away.
  }
}

function pick(wanted) {
  account = wanted === account ? null : (wanted ?? null);
  shown(byId("filter"), account !== null);
  text(byId("filter-account"), account ?? "");
  again();
}

const view = { past, pick, look, again, isHeld, account: () => account, now: () => newest.at };
const [limits, work, facts] = [new Limits(view), new Work(view), new Facts(view)];
byId("filter-clear").addEventListener("click", () => pick(null));

function sentence(place, parts) {
  const mark = JSON.stringify(parts);
  if (place.dataset.parts === mark) return;
  place.dataset.parts = mark;
  place.replaceChildren(...parts.map((part) => (part.strong ? make("strong", {}, part.strong) : part.code ? make("code", {}, part.code) : part)));
}

const said = { kind: null, at: 0 };

function showHeadline(seen) {
  const { tone, kind, parts } = headline(seen, past);
  sentence(byId("headline"), parts);
  attribute(byId("headline"), "data-tone", tone);
  // Read out when the state changes, not when a number does.
  if (kind !== said.kind && Date.now() - said.at > SPOKEN_MS) {
    [said.kind, said.at] = [kind, Date.now()];
    text(byId("spoken"), spoken(parts));
  }
  const lines = notes(seen, past);
  const list = byId("notes");
  while (list.childElementCount > lines.length) list.lastElementChild.remove();
  lines.forEach((line, index) => {
    if (!list.children[index]) list.append(make("li"));
    attribute(list.children[index], "data-tone", line.tone);
    sentence(list.children[index], line.parts);
  });
  const mark = tone === "trouble" ? "● " : "";
  if (document.title !== `${mark}Tidegate`) document.title = `${mark}Tidegate`;
}

/** What the decisions of a kind add up to, a second. */
function speed(seen, isWanted) {
  const of = seen.decisions.filter(isWanted).map((each) => past.decision(`${each.decision} ${each.reason}`));
  const known = of.filter((each) => each !== null);
  return of.length > 0 && known.length === 0 ? null : known.reduce((sum, each) => sum + each, 0);
}

function showTotals(seen) {
  const refused = speed(seen, (of) => of.decision === "rejected");
  const through = speed(seen, (of) => of.decision !== "rejected");
  pairs(byId("totals"), [
    ["in flight", count(seen.in_flight)],
    ["waiting", count(seen.queued), seen.queued > 0 ? "busy" : null],
    ["let through", `${rate(through)} / s`],
    ["refused", `${rate(refused)} / s`, refused > 0 ? "trouble" : null],
    ["leases", count(seen.leases)],
    ["connections", count(seen.connections)],
  ]);
}

function draw() {
  frame = 0;
  if (document.hidden) return;
  const seen = newest;
  shown(byId("main"), true);
  text(byId("version"), `version ${seen.version}`);
  text(byId("uptime"), `up ${span(seen.uptime_seconds)}`);
  text(byId("generation-short"), `generation ${count(seen.generation)}`);
  shown(byId("phase"), seen.phase !== "running");
  text(byId("phase"), seen.phase);
  showHeadline(seen);
  showTotals(seen);
  limits.show(seen);
  work.show(seen);
  facts.show(seen);
}

function heard(name, data) {
  if (name === "history") {
    past.history(data);
    // Another gate, or one whose clock went back: what it says now is what counts.
    newest = null;
  }
  if (name !== "overview" || (newest && data.at < newest.at)) return;
  past.note(data);
  newest = data;
  again();
}

const link = { word: "connecting", since: null, again: null };

/** Says how old is what is shown, in the corner, and dims it when it is no longer true. */
function showLink() {
  attribute(document.body, "data-link", link.word);
  const old = link.since === null ? "" : `shown is ${span(Math.max(1, Math.round((Date.now() - link.since) / 1000)))} old`;
  const next = link.again === null ? "" : `, trying again in ${span(Math.max(0, Math.ceil((link.again - Date.now()) / 1000)))}`;
  const words = {
    live: "live",
    connecting: "connecting",
    paused: `paused; ${old}`,
    lost: old ? `no word from the gate; ${old}${next}` : `the gate does not answer${next}`,
    refused: "not allowed",
  };
  text(byId("link"), words[link.word]);
}

setInterval(showLink, 1_000);

function state(word, { since = null, again: next = null }) {
  const isNew = word !== link.word;
  Object.assign(link, { word, since, again: next });
  if (word === "live" && isNew) {
    shown(byId("banner"), false);
    shown(byId("sign-in"), false);
  }
  if (isNew && (word === "lost" || link.wasLost)) {
    link.wasLost = word === "lost";
    text(byId("spoken"), link.wasLost ? "No word from the gate; what is shown is old." : "The gate is heard again.");
  }
  showLink();
}

const line = listen({
  event: heard,
  state,
  refused(refusal) {
    state("refused", {});
    const isToken = refusal.status === 401;
    shown(byId("main"), false);
    shown(byId("sign-in"), isToken);
    shown(byId("banner"), !isToken);
    text(byId("banner"), isToken ? "" : `The gate refuses to show this: ${refusal.message}.`);
    text(byId("sign-in-said"), isToken && hasToken() ? "This token is not the right one." : "");
    if (isToken) {
      keepToken(null);
      byId("token").focus();
    }
  },
});

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value);
  byId("token").value = "";
  line.again();
});

document.addEventListener("visibilitychange", again);
