// Tokens as the vendor's helper library for Node makes them, and forgeries of them, each with what must come of it.
//
// The twin of mint.py: the same form of cases from the same accounts and keys, in this library's dialect. What the library would
// not make is made with the JWT library that it brings, or by hand from what it makes.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const jsonwebtoken = require("jsonwebtoken");
const { AccessToken, ClientCapability } = require("twilio").jwt;

const { VoiceGrant, ChatGrant } = AccessToken;
const { IncomingClientScope, OutgoingClientScope, EventStreamScope } = ClientCapability;

const known = JSON.parse(fs.readFileSync(0, "utf8"));
const NOW = Math.floor(Date.now() / 1000);
const DAY = 24 * 60 * 60;

const [NOT_JWT, HEADER, ISSUER, SIGNATURE] = [[31204, 20101], [31204, 20102], [31204, 20103], [31202, 20107]];
const [EXPIRED, LIFETIME, NOT_YET] = [[31205, 20104], [31207, 20104], [31204, 20105]];
const [MISSING, MALFORMED, BAD_GRANT] = [[31201, 20106], [31105, 20106], [31204, 20101]];

const cases = [];

/** Our own grant, as a customer would add it. */
const presence = (claims) => ({ key: "presence", toPayload: () => claims });
const receive = () => new VoiceGrant({ incomingAllow: true });

function access(grants, { account = known.account, key = known.key, secret = known.secret, identity = "alice", ...options } = {}) {
  // The library refuses to begin without an identity, so odd ones come afterwards.
  const token = new AccessToken(account, key, secret, { identity: "somebody", ...options });
  token.identity = identity;
  grants.forEach((grant) => token.addGrant(grant));
  return token;
}

function capability(scopes, { account = known.account, secret = known.auth_token, ttl } = {}) {
  const token = new ClientCapability({ accountSid: account, authToken: secret, ttl });
  scopes.forEach((scope) => token.addScope(scope));
  return token;
}

const text = (token) => (typeof token === "string" ? token : token.toJwt());
const granted = (name, token, expected = {}) =>
  cases.push({ name, token: text(token), granted: { identity: "alice", ...expected } });
const refused = (name, codes, token) => cases.push({ name, token: text(token), refused: codes });

/** The token under another header, signed with the same secret as if that header were true. */
function withHeader(token, changes) {
  const [header, claims] = token.toJwt().split(".");
  const changed = { ...JSON.parse(Buffer.from(header, "base64url")), ...changes };
  const signed = `${Buffer.from(JSON.stringify(changed)).toString("base64url")}.${claims}`;
  return `${signed}.${crypto.createHmac("sha256", known.secret).update(signed).digest("base64url")}`;
}

/** The token's claims, signed by the JWT library in another way. */
const signed = (token, secret, algorithm) =>
  jsonwebtoken.sign(jsonwebtoken.decode(token.toJwt()), secret, { algorithm, header: { cty: "twilio-fpa;v=1" } });

function accessTokensThatAreGood() {
  const everything = new VoiceGrant({
    incomingAllow: true, outgoingApplicationSid: known.application, outgoingApplicationParams: { k: "v", n: 1 },
    pushCredentialSid: "CR1", endpointId: "desk",
  });
  const seen = presence({ publish: true, subscribe: ["team:*", "bob"], query: 500 });
  granted("everything", access([everything, seen], { region: "us1" }), {
    receive: true, give: true, application: known.application, parameters: { k: "v", n: "1" }, endpoint_id: "desk", query: 500,
    sees: ["alice", "team:", "team:a", "bob"], sees_not: ["team", "bobby", "eve"],
  });
  const both = { receive: true, give: true };
  granted("receive", access([receive()]), { ...both, sees: ["alice"], sees_not: ["bob"] });
  granted("call out", access([new VoiceGrant({ outgoingApplicationSid: known.application })]), { application: known.application });
  granted("a voice grant that allows nothing", access([new VoiceGrant()]));
  granted("incoming refused", access([new VoiceGrant({ incomingAllow: false })]));
  granted("no grants", access([]));
  granted("give without receive", access([presence({ publish: true })]), { give: true });
  granted("receive without give", access([receive(), presence({ publish: false })]), { receive: true });
  granted("see all, ask nothing", access([presence({ subscribe: ["*"], query: 0 })]), { query: 0, sees: ["eve"] });
  granted("another product's grant beside", access([receive(), new ChatGrant({ serviceSid: "IS1" })]), both);
  granted("an nbf in the past", access([], { nbf: NOW - 3600 }));
  granted("an nbf within the skew", access([], { nbf: NOW + 30 }));
  granted("an end within the skew", access([], { ttl: -20 }));
  granted("a lifetime of a day", access([], { ttl: DAY }));
  granted("the secret before", access([], { secret: known.old_secret }));
  const other = { account: known.other_account, key: known.other_key, secret: known.other_secret };
  granted("the other account", access([], other), { account: 1 });
  for (const identity of ["alice/mobile", "日本 語", "é".repeat(121), "a+b@c%2F", "😀"])
    granted(`the identity ${identity}`, access([receive()], { identity }), { ...both, identity });
  // The library writes whole numbers as text.
  granted("a number for an identity", access([], { identity: 7 }), { identity: "7" });
}

function restrictions() {
  const restrict = { calls: 2, to: ["client:team-*", "+1*"], media: ["voice"], hours: ["00:00-24:00Z"] };
  granted("restrictions", access([presence({ subscribe: ["*"], restrict })]), {
    sees: ["alice", "team-a"], sees_not: ["bob"],
    calls: [
      { to: "client:team-a", medium: "voice", now: 1 },
      { to: "client:team-a", medium: "voice", now: 2, forbidden_by: "calls" },
      { to: "client:bob", medium: "voice", now: 0, forbidden_by: "to" },
      { to: "+14155550100", medium: "message", now: 0, forbidden_by: "media" },
    ],
  });
  for (const bad of [{ call: 2 }, { calls: "2" }, { hours: "08:00-18:00Z" }, { media: ["fax"] }, { to: [null] }])
    refused(`the restriction ${JSON.stringify(bad)}`, BAD_GRANT, access([presence({ restrict: bad })]));
}

function accessTokensThatAreNot() {
  const good = access([receive()]);
  const [header, claims, signature] = good.toJwt().split(".");
  refused("two parts", NOT_JWT, `${header}.${claims}`);
  refused("a text for claims", NOT_JWT, `${header}.${Buffer.from('"x"').toString("base64url")}.${signature}`);
  refused("no algorithm", HEADER, signed(good, "", "none"));
  const pair = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  refused("RS256", HEADER, signed(good, pair.privateKey, "RS256"));
  for (const algorithm of ["HS384", "HS512"]) refused(algorithm, HEADER, good.toJwt(algorithm));
  refused("another content type", HEADER, withHeader(good, { cty: "application/jwt" }));
  refused("an access token as a capability token", ISSUER, withHeader(good, { cty: undefined }));
  refused("an unknown key", ISSUER, access([], { key: `SK${"9".repeat(32)}` }));
  refused("another account's key", ISSUER, access([], { key: known.other_key, secret: known.other_secret }));
  refused("a foreign account", ISSUER, access([], { account: known.other_account }));
  refused("a wrong secret", SIGNATURE, access([], { secret: known.other_secret }));
  refused("another token's signature", SIGNATURE, `${header}.${access([]).toJwt().split(".")[1]}.${signature}`);
  refused("expired", EXPIRED, access([], { ttl: -120 }));
  refused("a lifetime over a day", LIFETIME, access([], { ttl: DAY + 1 }));
  refused("not yet", NOT_YET, access([], { nbf: NOW + 300 }));
  refused("no identity", MISSING, access([], { identity: null }));
  for (const identity of ["", "é".repeat(122), "a\tb", "a\u0000", "a\u2029b", "a\u2066b"])
    refused(`the identity ${JSON.stringify(identity)}`, MALFORMED, access([], { identity }));
}

function capabilityTokens() {
  const incoming = (name) => new IncomingClientScope(name);
  const outgoing = (clientName, params) => new OutgoingClientScope({ applicationSid: known.application, clientName, params });
  const both = { receive: true, give: true };
  for (const name of ["jenny", "j +/@&=%?#", "日本", "x".repeat(121)]) {
    const params = { foo: "bar baz", x: "a&b=c" };
    granted(`capability of ${name}`, capability([incoming(name), outgoing(name, params)]), {
      ...both, identity: name, application: known.application, parameters: params, issuer: known.account, sees_not: ["bob"],
    });
  }
  granted("capability to call out", capability([outgoing("alice")]), { application: known.application });
  granted("capability to see all", capability([incoming("alice"), new EventStreamScope({ a: "1" })]), { ...both, sees: ["bob"] });
  granted("capability to see some", capability([incoming("alice"), new EventStreamScope({ identity: "team:*" })]), {
    ...both, sees: ["team:a"], sees_not: ["bob"],
  });
  granted("capability by the auth token before", capability([incoming("alice")], { secret: known.old_auth_token }), both);
  refused("capability of two", MALFORMED, capability([incoming("alice"), outgoing("bob")]));
  refused("capability of nobody", MISSING, capability([outgoing()]));
  refused("capability of an empty name", MALFORMED, capability([incoming("")]));
  refused("capability of too long a name", MALFORMED, capability([incoming("x".repeat(122))]));
  refused("capability to call out twice", BAD_GRANT, capability([outgoing("alice"), outgoing("alice")]));
  refused("capability, expired", EXPIRED, capability([incoming("alice")], { ttl: -120 }));
  refused("capability for more than a day", LIFETIME, capability([incoming("alice")], { ttl: DAY + 1 }));
  refused("capability by a key's secret", SIGNATURE, capability([incoming("alice")], { secret: known.secret }));
  refused("capability of an account without auth token", SIGNATURE, capability([incoming("alice")], { account: known.other_account }));
  refused("capability of an unknown account", ISSUER, capability([incoming("alice")], { account: `AC${"9".repeat(32)}` }));
}

accessTokensThatAreGood();
restrictions();
accessTokensThatAreNot();
capabilityTokens();
process.stdout.write(JSON.stringify(cases));
