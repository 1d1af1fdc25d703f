// One device of the vendor's SDK, unmodified: it obeys lines on its standard input and prints what happens to it.
//
//   node device.js HOST:PORT [OPTIONS]      OPTIONS is JSON: more options of the SDK, and `userAgent` of the browser it plays
//   token TOKEN | register | unregister | update TOKEN | destroy
//   call {"To": NAME, …} | accept | reject | hangup | message TEXT | digits DIGITS | print EVENT
//
// `token` makes the device and comes first: a token is a secret, and arguments can be seen by others. `print` tells that the lines before
// it were obeyed, as far as they do not wait for anything. Each line printed is
// `{"event": …}`; of its call, `{"event": "call.…"}` with the call's SDK status and identifier. Media is a mock, of `media.js`. The
// end of its input ends it, so that it never outlives whoever started it. The SDK trusts the gate's certificate by
// NODE_EXTRA_CA_CERTS; verification is never turned off.
"use strict";

const readline = require("node:readline");
const WebSocket = require("ws");
const media = require("./media.js");

const [gate, json = "{}"] = process.argv.slice(2);
const { userAgent = "Mozilla/5.0 (test) Device/1", ...options } = JSON.parse(json);

// What the SDK takes from a browser. Without `Audio` it plays no sounds.

// Read once, when the SDK is loaded. A browser says who it is in each handshake, which `ws` by itself does not.
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url, { headers: { "user-agent": userAgent } });
  }
};

// The constructor reads it without asking whether it is there, which it is not before Node 21; later it is not to be written.
Object.defineProperty(globalThis, "navigator", { value: { userAgent, platform: "test" }, configurable: true });

const ofBrowser = media.install();

const { Device } = require("@twilio/voice-sdk");

let device;
/** Its call: the one that it made, or that came, last. */
let call;

function print(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

/** An error of the SDK: its own code, and that of the gate which it was made from. */
function told(error) {
  const from = error.originalError;
  return { code: error.code, name: error.name, message: error.message, from: from && from.code };
}

function make(token) {
  // `chunderw` is the host of the signalling, `wss://<chunderw>/signal`; events would go to the vendor's own servers.
  device = new Device(token, { chunderw: gate, publishEvents: false, logLevel: "silent", ...ofBrowser, ...options });
  for (const event of ["registering", "registered", "unregistered", "tokenWillExpire", "destroyed"]) {
    device.on(event, () => print(event));
  }
  device.on("error", (error) => print("error", told(error)));
  device.on("incoming", (incoming) => {
    const { parameters, customParameters } = follow(incoming);
    print("incoming", { callsid: parameters.CallSid, from: parameters.From, to: parameters.To, custom: Object.fromEntries(customParameters) });
  });
  print("made", { version: Device.version, node: process.version });
}

/** Prints what happens to a call. */
function follow(of) {
  call = of;
  const say = (event, more = {}) => print(`call.${event}`, { callsid: of.parameters.CallSid, status: of.status(), ...more });
  for (const event of ["ringing", "cancel", "disconnect", "reject", "reconnected", "transportClose"]) {
    of.on(event, () => say(event));
  }
  // Whose session description it has: that of the other side arrived whole, and was taken.
  of.on("accept", () => say("accept", { peer: media.nameIn(of._mediaHandler.version.pc.remoteDescription.sdp) }));
  of.on("reconnecting", (error) => say("reconnecting", told(error)));
  of.on("error", (error) => say("error", told(error)));
  of.on("messageReceived", ({ content, messageType }) => say("messageReceived", { content, messageType }));
  of.on("messageSent", () => say("messageSent"));
  return of;
}

const commands = {
  token: make,
  register: () => device.register(),
  unregister: () => device.unregister(),
  update: (token) => device.updateToken(token),
  destroy: () => device.destroy(),
  call: async (params) => follow(await device.connect({ params: JSON.parse(params) })),
  accept: () => call.accept(),
  reject: () => call.reject(),
  hangup: () => call.disconnect(),
  message: (text) => call.sendMessage({ content: text, messageType: "user-defined-message" }),
  digits: (digits) => call.sendDigits(digits),
  print: (event) => print(event),
};

async function obey(line) {
  const [, word, argument] = /^(\S+) ?(.*)$/.exec(line);
  try {
    await commands[word](argument);
  } catch (error) {
    print("failed", { command: word, message: error.message });
  }
}

const lines = readline.createInterface({ input: process.stdin });
// Not one after another: `register` takes until the gate has answered, which it may never do.
lines.on("line", (line) => void obey(line));
lines.on("close", () => process.exit(0));
