// A contact list that is alive, over one socket to the gate and nothing else.
//
// `hello` signs in and registers this page as a device; `presence.sub` brings the list once and then what changed. Heartbeats are echoed;
// when none came for a while, or the socket breaks, it comes back with its resume token and goes on where it was. What others say of
// themselves is put on the page as text, never as markup.
"use strict";

/** Silence after which the gate is taken for gone: it beats at least every 12 s. */
const SILENCE = 15_000;
/** First wait before coming back, doubled up to the longest. */
const [BACK, BACK_MAX] = [250, 20_000];

const at = (id) => document.getElementById(id);

/** One connection to a gate, made again for as long as it is wanted. */
class Presence {
  constructor(gate, token, list) {
    Object.assign(this, { gate, token, list, resume: null, back: BACK, isWanted: true });
    this.device = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
    this.open();
  }

  open() {
    const socket = new WebSocket(`${this.gate}/signal`);
    this.socket = socket;
    show("connecting");
    socket.onopen = () => {
      const { token, device, resume } = this;
      this.say("hello", { token, device, app: "contacts", ...(resume && { resume }) });
      this.listen();
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.hear(data);
    socket.onclose = ({ code }) => socket === this.socket && this.lose(code);
  }

  say(type, payload) {
    this.socket.send(JSON.stringify({ type, payload, version: "1.6" }));
  }

  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lose("silence"), SILENCE);
  }

  hear(data) {
    this.listen();
    if (data.trim() === "") return this.socket.send(data);
    counted.messages += 1;
    const { type, payload } = JSON.parse(data);
    this[type]?.(payload);
  }

  welcome({ resume, resumed, identity }) {
    Object.assign(this, { resume, back: BACK });
    show("on", `${identity}${resumed ? ", back again" : ""}`, { resumed });
    this.say("presence.sub", { id: "list", list: this.list });
  }

  "presence.snapshot"({ presence }) {
    rows.clear();
    at("contacts").replaceChildren();
    counted.snapshots += 1;
    Object.values(presence).forEach(put);
    at("caption").textContent = `${this.list}: ${rows.size}`;
  }

  "presence.delta"({ presence }) {
    counted.deltas += 1;
    Object.values(presence).forEach(put);
  }

  // Said to all devices of the list's owner; those who are on it now come with a fresh list by themselves.
  "contacts.delta"({ list, identities = [], deleted }) {
    if (list === this.list) at("caption").textContent = deleted ? `${list} is gone` : `${list}: ${identities.length}`;
  }

  error({ error, retry_after: after }) {
    // A gate at which all come at once says when to come back; a token that it does not believe will not do better then.
    if (after) this.back = after * 1000;
    else this.isWanted &&= ![31201, 31202, 31204, 31205, 31207].includes(error.code);
    show("error", `${error.code}: ${error.message}`);
  }

  bye({ retry_after: after }) {
    if (after) this.back = after * 1000;
  }

  lose(code) {
    clearTimeout(this.silence);
    const { socket } = this;
    this.socket = null;
    socket.close();
    if (!this.isWanted || code === 4009) return;
    show("lost", `connection lost (${code})`);
    setTimeout(() => this.isWanted && this.open(), this.back);
    this.back = Math.min(this.back * 2, BACK_MAX);
  }

  leave() {
    this.isWanted = false;
    if (this.socket?.readyState === WebSocket.OPEN) this.say("bye", {});
    else this.socket?.close();
    show("off", "signed out");
  }
}

/** What came since the page was loaded. */
const counted = { messages: 0, snapshots: 0, deltas: 0 };
/** The rows of the table by identity. */
const rows = new Map();

function put({ identity, status, reason, text, ringable }) {
  const row = rows.get(identity) ?? at("contacts").insertRow();
  rows.set(identity, row);
  Object.assign(row.dataset, { identity, status, ringable });
  const cells = { identity, status: status.replaceAll("_", " "), reason, text, ringable: ringable ? "yes" : "no" };
  row.replaceChildren(...Object.entries(cells).map(([name, value]) => {
    const cell = document.createElement("td");
    cell.className = name;
    cell.textContent = value ?? "";
    return cell;
  }));
}

function show(state, text = state, more = {}) {
  Object.assign(at("link").dataset, { state, ...more });
  at("link").textContent = text;
}

let presence = null;

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  presence?.leave();
  presence = new Presence(at("gate").value, at("token").value, at("list").value);
});
at("leave").addEventListener("click", () => presence?.leave());
