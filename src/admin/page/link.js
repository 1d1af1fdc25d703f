// The line to the gate: calls, the admin token, and the event stream, read by hand because an EventSource can send no token.
//
// When the stream breaks, or says nothing for longer than it may, it is opened again, each time after a longer pause; meanwhile
// whoever shows what it said is told how old that is. A page that nobody sees lets go of its stream: browsers allow six
// connections to one address, and the gate counts its listeners.

const TOKEN = "tidegate.token";
/** The gate speaks every second, and with very many listeners every fifth. */
const SILENCE_MAX_MS = 12_000;
const PAUSES_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const HIDDEN_MS = 20_000;
/** Longer than any view: one that grows beyond is not the gate's. */
const EVENT_MAX = 16 * 1024 * 1024;

/** What the gate answered instead of what was asked for. */
export class Refused extends Error {
  constructor(status, detail, body = null) {
    super(detail);
    this.status = status;
    this.body = body;
  }
}

function fields(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(TOKEN, token);
  else sessionStorage.removeItem(TOKEN);
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return new Refused(response.status, body?.detail ?? `the gate answered ${response.status}`, body);
}

/** One call: its JSON, or `null` where there is none. Throws `Refused` with the gate's own sentence. */
export async function call(method, path, body) {
  const kind = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: fields(kind),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(10_000),
    });
  } catch {
    throw new Refused(0, "the gate did not answer; nothing is known of what became of it");
  }
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? null : response.json();
}

/** Reads events off a stream: lines, an empty one after each event. */
async function read(stream, heard) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    if (rest.length > EVENT_MAX) throw new Error("an event without an end");
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const lines = event.split("\n");
      const of = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      heard(of("event"), JSON.parse(of("data")));
    }
  }
}

/**
 * Keeps a stream open. `told` is an object of functions: `event(name, data)`, `state(word, { since, again })` with the words `live`, `lost` and
 * `paused`, and `refused(Refused)` when asking again would not help.
 */
export function listen(told) {
  let stop = null;
  let wake = null;
  let tries = 0;
  let last = null;
  let hiding;

  const nap = (ms) =>
    new Promise((done) => {
      const timer = setTimeout(done, ms);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });

  async function once() {
    stop = new AbortController();
    let watch;
    const pat = () => {
      clearTimeout(watch);
      watch = setTimeout(() => stop.abort(), SILENCE_MAX_MS);
    };
    pat();
    try {
      const response = await fetch("/v1/events", { headers: fields(), cache: "no-store", signal: stop.signal });
      if (!response.ok) throw await refusal(response);
      await read(response.body, (name, data) => {
        pat();
        tries = 0;
        last = Date.now();
        told.state("live", {});
        told.event(name, data);
      });
    } finally {
      clearTimeout(watch);
      stop.abort();
    }
  }

  async function keep() {
    for (;;) {
      if (document.hidden && last !== null) {
        told.state("paused", { since: last });
        await nap(3_600_000);
        continue;
      }
      try {
        await once();
      } catch (error) {
        if (error instanceof Refused && [401, 403].includes(error.status)) {
          told.refused(error);
          await nap(3_600_000);
          continue;
        }
      }
      if (document.hidden) continue;
      const pause = PAUSES_MS[Math.min(tries++, PAUSES_MS.length - 1)] * (0.8 + 0.4 * Math.random());
      told.state("lost", { since: last, again: Date.now() + pause });
      await nap(pause);
    }
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => stop?.abort(), HIDDEN_MS);
    else wake?.();
  });
  addEventListener("online", () => wake?.());
  keep();
  return { again: () => wake?.() };
}
