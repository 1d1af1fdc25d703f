// Who holds places and who waits: accounts, requests, and ending one of them.
//
// Ending a request takes two presses on the same row, and is bound to the request's number: a row that was there a moment ago never
// ends another. Lists hold still while somebody points at them.

import { Rows, attribute, byId, isHeld, make, shown, text } from "./dom.js";
import { call } from "./link.js";
import { count, span } from "./words.js";

const ASKED_MAX = 100;
/** As many of a kind as the overview tells of. */
const TOLD_MAX = 25;
/** How long a row says what became of its request. */
const FAREWELL_MS = 6_000;

const ENDS = {
  queued: "End its wait? Its client gets 503.",
  forwarded: "End it? Its client gets 503.",
  streaming: "Break its answer off?",
  tunnel: "Close the connection?",
  lease: "Give its place back?",
};

function requestRow(view, first) {
  let request = first;
  let isBusy = false;
  const cell = (...children) => make("td", {}, ...children);
  const age = make("td", { class: "number", "data-cell": "age" });
  const account = make("button", { type: "button", class: "account" });
  const method = make("span", { class: "method" });
  const path = make("span", { class: "path" });
  const where = make("span", { class: "meta" });
  const state = make("span", { class: "state" });
  const end = make("button", { type: "button", class: "quiet" }, "Cancel");
  const actions = make("td", { class: "action" }, end);
  account.addEventListener("click", () => view.pick(request.account));
  const rest = (...nodes) => actions.replaceChildren(...nodes);
  const restore = () => {
    isBusy = false;
    rest(end);
    end.focus({ preventScroll: true });
  };
  const farewell = (sentence, tone, seconds = FAREWELL_MS) => {
    rest(make("span", { class: "said", role: "status", "data-tone": tone }, sentence));
    setTimeout(() => {
      isBusy = false;
      rest(end);
      view.again();
    }, seconds);
  };
  const cancel = async () => {
    rest(make("span", { class: "said", role: "status" }, "ending it …"));
    try {
      await call("DELETE", `/v1/requests/${request.id}`);
      farewell("cancelled", "calm");
    } catch (error) {
      if (error.status === 404) farewell("it had ended by itself", "calm");
      else farewell(error.message, "trouble", 2 * FAREWELL_MS);
    }
  };
  end.addEventListener("click", () => {
    isBusy = true;
    const sure = make("button", { type: "button", class: "danger" }, "End it");
    const keep = make("button", { type: "button", class: "quiet" }, "Keep it");
    sure.addEventListener("click", cancel);
    keep.addEventListener("click", restore);
    const asked = make("span", { class: "ask" }, make("span", { class: "asked" }, ENDS[request.state] ?? "End it?"), sure, keep);
    asked.addEventListener("keydown", (event) => {
      if (event.key === "Escape") restore();
    });
    rest(asked);
    sure.focus({ preventScroll: true });
  });
  const element = make("tr", { "data-request": first.id }, age, cell(account), make("td", { class: "what" }, make("span", { class: "call" }, method, " ", path), where), cell(state), actions);
  return {
    element,
    isBusy: () => isBusy,
    update(of) {
      request = of;
      text(age, span(of.age_seconds));
      text(account, of.account);
      attribute(account, "title", `Show only ${of.account}`);
      text(method, of.method);
      text(path, of.path);
      attribute(path, "title", of.path);
      text(where, `${of.resource} → ${of.upstream}`);
      text(state, of.state);
      attribute(state, "data-state", of.state);
      attribute(end, "aria-label", `Cancel ${of.method} ${of.path} of ${of.account}`);
    },
  };
}

/** One of the two lists. */
class Requests {
  #rows;
  #name;

  constructor(view, name) {
    this.#name = name;
    this.#rows = new Rows(byId(name), (request) => requestRow(view, request));
  }

  show(requests, all, nothing) {
    const isStill = isHeld(byId(`${this.#name}-scroll`));
    const isBehind = this.#rows.show(requests, (request) => request.id, isStill);
    text(byId(`${this.#name}-count`), all == null ? "" : count(all));
    text(byId(`${this.#name}-empty`), nothing);
    shown(byId(`${this.#name}-empty`), requests.length === 0 && byId(this.#name).childElementCount === 0);
    const more = requests.length >= TOLD_MAX && all > requests.length ? `the ${requests.length} oldest of ${count(all)}` : "";
    text(byId(`${this.#name}-still`), isStill && isBehind ? "held still while you point here" : more);
  }
}

export class Work {
  #view;
  #holding;
  #waiting;
  #accounts;
  #asking = false;
  #ofAccount = null;

  /** `view`: `pick(account)`, `account()`, `again()`, which draws anew. */
  constructor(view) {
    this.#view = view;
    this.#holding = new Requests(view, "holding");
    this.#waiting = new Requests(view, "waiting");
    this.#accounts = new Rows(byId("accounts"), () => accountRow(view));
    byId("older").addEventListener("change", view.again);
  }

  show(seen) {
    this.#showAccounts(seen);
    const account = this.#view.account();
    if (account === null) {
      this.#ofAccount = null;
      const { holding, leases, waiting } = seen.requests;
      this.#list([...holding, ...leases], waiting, seen.in_flight, seen.queued);
      return;
    }
    if (this.#ofAccount?.account === account) {
      const { rows } = this.#ofAccount;
      const waiting = rows.filter((of) => of.state === "queued");
      this.#list(rows.filter((of) => of.state !== "queued"), waiting, null, null);
    } else this.#list([], [], null, null);
    this.#ask(account);
  }

  #list(holding, waiting, held, queued) {
    const older = Number(byId("older").value);
    const byAge = (a, b) => b.age_seconds - a.age_seconds || a.id - b.id;
    const old = holding.filter((of) => of.age_seconds >= older).sort(byAge);
    const of = this.#view.account() === null ? "" : ` of ${this.#view.account()}`;
    const nothing = holding.length > 0 ? `Nothing${of} is older than ${span(older)}.` : `Nothing${of} is in flight.`;
    this.#holding.show(old, older ? old.length : (held ?? old.length), nothing);
    this.#waiting.show(waiting, queued ?? waiting.length, of ? `Nothing${of} waits.` : "Nobody waits.");
  }

  /** The overview has the oldest of all accounts; those of one are asked for. */
  async #ask(account) {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const rows = await call("GET", `/v1/requests?account=${encodeURIComponent(account)}&limit=${ASKED_MAX}`);
      const isFirst = this.#ofAccount?.account !== account;
      this.#ofAccount = { account, rows };
      if (isFirst && this.#view.account() === account) this.#view.again();
    } catch {
      // The stream says that the gate is away.
    } finally {
      this.#asking = false;
    }
  }

  #showAccounts(seen) {
    const list = byId("accounts");
    // The most of the last seconds is noted now and then; what is there this moment was there.
    const noted = seen.accounts.map((of) => ({ ...of, peak: Math.max(of.in_flight, of.peak) }));
    const most = Math.max(1, ...noted.map((of) => of.peak));
    const accounts = noted.map((of) => ({ ...of, most }));
    // By what does not change from one moment to the next.
    accounts.sort((a, b) => b.peak - a.peak || (a.account < b.account ? -1 : 1));
    this.#accounts.show(accounts, (of) => of.account, isHeld(list));
    shown(byId("accounts-empty"), accounts.length === 0 && list.childElementCount === 0);
  }
}

function accountRow(view) {
  const name = make("button", { type: "button", class: "account" });
  const peak = make("span", { class: "most" });
  const fill = make("span", { class: "fill" });
  const track = make("span", { class: "bar", "aria-hidden": "true" }, peak, fill);
  const number = make("span", { class: "numbers" });
  let account;
  name.addEventListener("click", () => view.pick(account));
  const element = make("li", {}, name, track, number);
  return {
    element,
    update(of) {
      ({ account } = of);
      text(name, account);
      attribute(name, "title", `Show only ${account}`);
      attribute(name, "aria-pressed", view.account() === account ? "true" : "false");
      fill.style.width = `${((100 * of.in_flight) / of.most).toFixed(2)}%`;
      peak.style.width = `${((100 * of.peak) / of.most).toFixed(2)}%`;
      text(number, `${count(of.in_flight)} · ${count(of.peak)}`);
      element.toggleAttribute("data-picked", view.account() === account);
    },
  };
}
