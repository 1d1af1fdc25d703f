// A mock of the media that the voice SDK takes from a browser: Node has no WebRTC. Nothing is captured, sent or heard.
//
// The peer connection gives a session description for each offer and answer, goes through the signalling states that it would go
// through (W3C WebRTC §4.3), and takes any description of the other side. So all that the SDK says to a gate in a call is real, and
// none of what it says to its peer is. Each connection is named in its descriptions, so that a test sees whose it was that arrived.
"use strict";

let made = 0;

/** A session description of that connection, with the codecs that the SDK sorts. */
function description(name) {
  const lines = ["v=0", `o=- ${process.pid} ${made} IN IP4 127.0.0.1`, `s=${name}`, "t=0 0", "m=audio 9 UDP/TLS/RTP/SAVPF 111 0", "c=IN IP4 0.0.0.0"];
  return `${[...lines, "a=rtpmap:111 opus/48000/2", "a=rtpmap:0 PCMU/8000", "a=setup:actpass", "a=sendrecv"].join("\r\n")}\r\n`;
}

/** The name in a session description. */
const nameIn = (sdp) => /^s=(.*?)\r?$/m.exec(sdp)?.[1];

/** RTCPeerConnection, as far as the SDK asks it. */
class PeerConnection {
  constructor() {
    made += 1;
    Object.assign(this, { name: `phone-${process.pid}-${made}`, signalingState: "stable", localDescription: null, remoteDescription: null, ontrack: null });
  }

  addTrack() {}

  getSenders() {
    return [];
  }

  getTransceivers() {
    return [{ setCodecPreferences() {} }];
  }

  async getStats() {
    return new Map();
  }

  async createOffer() {
    return { type: "offer", sdp: description(this.name) };
  }

  async createAnswer() {
    return { type: "answer", sdp: description(this.name) };
  }

  async setLocalDescription(local) {
    this.localDescription = local;
    this.enter(local.type === "offer" ? "have-local-offer" : "stable");
  }

  async setRemoteDescription(remote) {
    this.remoteDescription = remote;
    this.enter(remote.type === "offer" ? "have-remote-offer" : "stable");
  }

  enter(state) {
    this.signalingState = state;
    this.onsignalingstatechange?.();
  }

  close() {
    this.signalingState = "closed";
  }
}

/** A microphone with one track, which is silent. */
function stream() {
  const track = { kind: "audio", enabled: true, readyState: "live", stop() {} };
  return { getAudioTracks: () => [track], getTracks: () => [track] };
}

/** Puts in place what the SDK reads from the browser by itself, and answers the options for the rest. */
function install() {
  globalThis.window = { navigator: globalThis.navigator, crypto: globalThis.crypto, Uint8Array };
  globalThis.RTCSessionDescription = class {
    constructor(of) {
      Object.assign(this, of);
    }
  };
  const codecs = [{ mimeType: "audio/opus" }, { mimeType: "audio/PCMU" }];
  globalThis.RTCRtpReceiver = { getCapabilities: () => ({ codecs }) };
  globalThis.MediaStreamTrack = class {
    stop() {}
  };
  return { RTCPeerConnection: PeerConnection, getUserMedia: async () => stream() };
}

module.exports = { install, nameIn };
