// A phone in a page, over one socket to the gate: `hello` registers it, `presence.sub` tells who is there, `call.…` makes calls. Voices go
// from page to page by WebRTC; the gate passes session descriptions and candidates on. A call outlives its socket: the page comes back
// with the call's reconnect token. What others say of themselves is put on the page as text, never as markup.
"use strict";

/** Silence after which the gate is taken for gone: it beats at least every 12 s. */
const SILENCE = 15_000;
/** First wait before coming back, doubled up to the longest. */
const [BACK, BACK_MAX] = [250, 10_000];
/** How often levels are read. */
const LOOK = 150;

const at = (id) => document.getElementById(id);
const { identity, people, token } = document.body.dataset;
delete document.body.dataset.token;

/** What the gate says of the end of a call, for people. */
const ENDS = {
  busy: (peer) => (known.get(peer)?.status === "offline" ? `${peer} is not there` : `${peer} is busy`),
  no_answer: (peer) => `${peer} did not answer`,
  failed: () => "The call could not be put through",
  answered_elsewhere: () => "Answered on another device",
  rejected: () => "Rejected",
  timeout: (peer) => `Missed call from ${peer}`,
  caller_left: (peer) => `Missed call from ${peer}`,
  time_limit: () => "The time for talking is up",
  draining: () => "The gate goes down",
  no_place: () => "Too many calls at once",
};

/** The socket, made again for as long as the page is there. */
class Link {
  constructor() {
    Object.assign(this, { back: BACK, resume: null, asked: new Map(), unsaid: [], isIn: false, next: 0 });
    this.device = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
    this.open();
  }

  open() {
    const socket = new WebSocket(`wss://${location.host}/signal`);
    this.socket = socket;
    show("link", "connecting", "off");
    socket.onopen = () => {
      const { device, resume } = this;
      this.send("hello", { token, device, app: "phone", audio: true, ...(resume && { resume }) });
      this.listen();
    };
    socket.onmessage = ({ data }) => socket === this.socket && this.hear(data);
    socket.onclose = ({ code }) => socket === this.socket && this.lose(code);
  }

  send(type, payload) {
    this.socket.send(JSON.stringify({ type, payload, version: "1.6" }));
  }

  /** Says something now, or when it is back. */
  say(type, payload) {
    if (this.isIn) this.send(type, payload);
    else this.unsaid.push([type, payload]);
  }

  /** Asks, and waits for the reply. */
  ask(type, payload) {
    const id = (this.next += 1);
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.say(type, { ...payload, id });
    });
  }

  hear(data) {
    this.listen();
    if (data.trim() === "") return this.socket.send(data);
    const { type, payload } = JSON.parse(data);
    const asked = this.asked.get(payload.re);
    this.asked.delete(payload.re);
    if (asked) return type === "error" ? asked.reject(new Error(payload.error.message)) : asked.resolve(payload);
    if (type === "welcome") return this.enter(payload);
    // A gate at which all come at once, or that goes down, says when to come back.
    if (payload.retry_after) this.back = payload.retry_after * 1000;
    if (type === "error") return show("link", payload.error.message, "lost");
    heard[type]?.(payload);
  }

  enter({ resume }) {
    Object.assign(this, { resume, back: BACK, isIn: true });
    show("link", "connected", "on");
    this.send("presence.sub", { identities: people.split(" ") });
    this.send("presence.set", { status: at("status").value });
    call?.comeBack();
    for (const [type, payload] of this.unsaid.splice(0)) this.send(type, payload);
  }

  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lose("silence"), SILENCE);
  }

  lose(code) {
    clearTimeout(this.silence);
    const { socket } = this;
    Object.assign(this, { socket: null, isIn: false });
    socket.close();
    show("link", code === 4009 ? "opened elsewhere" : "connection lost", "lost");
    if (code === 4009) return;
    setTimeout(() => this.open(), this.back);
    this.back = Math.min(this.back * 2, BACK_MAX);
  }
}

/** One call: its peer connection, and how far it is. */
class Call {
  constructor(peer, state, detail) {
    Object.assign(this, { peer, callsid: null, reconnect: null, early: [], candidates: [], isOver: false });
    this.enter(state, detail);
  }

  enter(state, detail = "") {
    this.state = state;
    const words = { asking: `Calling ${this.peer}`, ringing: `${this.peer} rings`, incoming: `${this.peer} calls`, joining: `Answering ${this.peer}`, talking: `Talking to ${this.peer}` };
    render(state, words[state], detail);
  }

  /** Opens the microphone, and a connection that knows nobody yet. */
  async prepare() {
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    this.microphone = microphone;
    if (this.isOver) return this.close();
    const connection = new RTCPeerConnection();
    this.connection = connection;
    for (const track of microphone.getTracks()) connection.addTrack(track, microphone);
    connection.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.tell("call.candidate", { candidate: candidate.candidate, mid: candidate.sdpMid });
      else if (!candidate) this.tell("call.end_of_candidates", {});
    };
    connection.ontrack = ({ streams: [stream] }) => {
      at("voice").srcObject = stream;
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") this.hangUp("The pages found no way to each other");
    };
  }

  /** Says something about the call, once it has a name. */
  tell(type, payload) {
    if (this.callsid === null) this.early.push([type, payload]);
    else link.say(type, { callsid: this.callsid, ...payload });
  }

  name(callsid) {
    this.callsid = callsid;
    for (const [type, payload] of this.early.splice(0)) this.tell(type, payload);
  }

  async make() {
    await this.prepare();
    if (this.isOver) return;
    await this.connection.setLocalDescription(await this.connection.createOffer());
    const { callsid } = await link.ask("call.invite", { to: this.peer, sdp: this.connection.localDescription.sdp });
    this.name(callsid);
  }

  async answer() {
    this.enter("joining");
    await this.prepare();
    if (this.isOver) return;
    await this.take({ type: "offer", sdp: this.offer });
    await this.connection.setLocalDescription(await this.connection.createAnswer());
    this.tell("call.accept", { bridge: this.bridge, sdp: this.connection.localDescription.sdp });
  }

  /** The other side's session description, and then what came before it. */
  async take(description) {
    await this.connection.setRemoteDescription(description);
    for (const candidate of this.candidates.splice(0)) this.candidate(candidate);
  }

  candidate({ candidate, mid }) {
    if (!this.connection?.remoteDescription) this.candidates.push({ candidate, mid });
    // One that cannot be used leaves the others.
    else if (candidate) this.connection.addIceCandidate({ candidate, sdpMid: mid }).catch(() => {});
  }

  /** It is put through; or, again, gone on with. */
  async accepted({ sdp, reconnect }) {
    if (reconnect) this.reconnect = reconnect;
    if (sdp && this.connection.signalingState === "have-local-offer") await this.take({ type: "answer", sdp });
    if (this.isOver || this.state === "talking") return;
    this.began = Date.now();
    this.enter("talking");
    this.looking = setInterval(() => void this.look(), LOOK);
  }

  /** After its socket was lost. */
  comeBack() {
    if (this.reconnect) link.send("call.invite", { callsid: this.callsid, reconnect: this.reconnect });
  }

  mute() {
    const [track] = this.microphone.getAudioTracks();
    track.enabled = !track.enabled;
    at("mute").setAttribute("aria-pressed", String(!track.enabled));
  }

  /** How loud both are, and what came and went. */
  async look() {
    const stats = [...(await this.connection.getStats()).values()];
    const of = (type) => stats.find((one) => one.type === type && one.kind === "audio") ?? {};
    const [source, sent, received] = [of("media-source"), of("outbound-rtp"), of("inbound-rtp")];
    if (this.isOver) return;
    level("own", source.audioLevel);
    level("theirs", received.audioLevel);
    Object.assign(at("levels").dataset, { sent: sent.bytesSent ?? 0, received: received.bytesReceived ?? 0 });
    const seconds = Math.floor((Date.now() - this.began) / 1000);
    const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    const [out, back] = [sent.bytesSent, received.bytesReceived].map((bytes) => Math.round((bytes ?? 0) / 1000));
    at("detail").textContent = `${time} · ${out} kB out, ${back} kB back`;
  }

  hangUp(why) {
    this.tell(this.state === "incoming" ? "call.reject" : "call.hangup", {});
    this.end(why);
  }

  end(why) {
    if (this.isOver) return;
    this.isOver = true;
    this.close();
    if (call === this) call = null;
    render("idle", "No call", why);
  }

  close() {
    clearInterval(this.looking);
    this.connection?.close();
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    at("voice").srcObject = null;
  }
}

/** The call that there is. */
let call = null;
/** What is known of the others, by identity. */
const known = new Map();
/** The call of that name, if it is the one. */
const of = (payload) => (call && call.callsid === payload.callsid ? call : null);

/** What the gate says. */
const heard = {
  "presence.snapshot": ({ presence }) => Object.values(presence).forEach(put),
  "presence.delta": ({ presence }) => Object.values(presence).forEach(put),
  "call.invite"({ callsid, from, sdp, bridge }) {
    // One call at a time: the gate rings nobody who has one, but both may begin at once.
    if (call) return link.say("call.reject", { callsid });
    call = new Call(from.replace(/^client:/, ""), "incoming", "Enter answers, Esc rejects");
    Object.assign(call, { offer: sdp, bridge });
    call.name(callsid);
    call.tell("call.ringing", {});
    at("answer").focus();
  },
  "call.ringing": (payload) => of(payload)?.enter("ringing"),
  "call.accept": (payload) => attempt(of(payload), (own) => own.accepted(payload)),
  "call.candidate": (payload) => of(payload)?.candidate(payload),
  "call.say": (payload) => of(payload) && (at("detail").textContent = payload.text),
  "call.cancel": (payload) => over(payload),
  "call.hangup": (payload) => over(payload),
};

function over(payload) {
  const own = of(payload);
  own?.end(ENDS[payload.reason]?.(own.peer) ?? payload.error?.message ?? "The call is over");
}

/** Does something with a call; if that fails, the call is over. */
async function attempt(own, act) {
  if (!own) return;
  try {
    await act(own);
  } catch (error) {
    if (own.callsid === null) own.end(error.message);
    else own.hangUp(error.message);
  }
}

function show(id, text, state) {
  at(id).textContent = text;
  at(id).dataset.state = state;
}

/** How a call is shown, and what can be done with it. */
function render(state, words, detail) {
  at("call").dataset.state = state;
  at("state").textContent = words;
  at("detail").textContent = detail;
  at("other").textContent = call?.peer ?? "Other";
  const can = { answer: state === "incoming", reject: state === "incoming", mute: state === "talking", hangup: !["idle", "incoming"].includes(state) };
  for (const [id, may] of Object.entries(can)) at(id).hidden = !may;
  at("mute").setAttribute("aria-pressed", "false");
  document.title = state === "idle" ? identity : `${words} – ${identity}`;
  known.forEach(put);
}

function level(id, loudness = 0) {
  // Half of what is heard is in the lowest tenth.
  const percent = Math.round(100 * Math.sqrt(loudness));
  at(id).style.setProperty("--level", `${percent}%`);
  at(id).setAttribute("aria-valuenow", String(percent));
  if (percent > Number(at(id).dataset.peak ?? 0)) at(id).dataset.peak = String(percent);
}

/** Puts one of the others on the list, or what is new of them. */
function put(item) {
  known.set(item.identity, item);
  if (item.identity === identity) return;
  let row = at("people").querySelector(`li[data-identity="${CSS.escape(item.identity)}"]`);
  if (!row) {
    row = document.createElement("li");
    const [about, name, status, button] = ["div", "b", "span", "button"].map((tag) => document.createElement(tag));
    name.textContent = item.identity;
    about.append(name, status);
    button.textContent = "Call";
    button.setAttribute("aria-label", `Call ${item.identity}`);
    button.onclick = () => begin(item.identity);
    row.append(about, button);
    row.dataset.identity = item.identity;
    at("people").append(row);
  }
  row.dataset.status = item.status;
  row.querySelector("span").textContent = [item.status.replaceAll("_", " "), item.reason?.replaceAll("_", " ")].filter(Boolean).join(", ");
  row.querySelector("button").disabled = call !== null;
}

function begin(peer) {
  call = new Call(peer, "asking");
  at("hangup").focus();
  void attempt(call, (own) => own.make());
}

at("answer").onclick = () => void attempt(call, (own) => own.answer());
at("reject").onclick = () => call?.hangUp("Rejected");
at("hangup").onclick = () => call?.hangUp("You hung up");
at("mute").onclick = () => call?.mute();
at("status").onchange = () => link.say("presence.set", { status: at("status").value });
addEventListener("keydown", ({ key }) => key === "Escape" && call?.hangUp(call.state === "incoming" ? "Rejected" : "You hung up"));
addEventListener("offline", () => link.socket && link.lose("offline"));

render("idle", "No call", "Call somebody below, or wait to be called.");
const link = new Link();
