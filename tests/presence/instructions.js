// Documents of verbs as the vendor's helper library for Node builds them, and signatures as it computes and checks them.
//
// The twin of instructions.py: the same input, the same output, in this library's dialect.
"use strict";

const fs = require("node:fs");
const { twiml, getExpectedTwilioSignature, validateRequest, validateRequestWithBody } = require("twilio");

const asked = JSON.parse(fs.readFileSync(0, "utf8"));

function built(parent, name, said) {
  // The library takes text alone, attributes alone, or both.
  const attributes = said.attributes ?? {};
  return said.text === undefined ? parent[name](attributes) : parent[name](attributes, said.text);
}

function noun(dial, said) {
  const made = built(dial, said.noun, said);
  if (said.identity !== undefined) made.identity(said.identity);
  for (const [name, value] of said.parameters ?? []) made.parameter({ name, value });
}

function document(verbs) {
  const isMessage = verbs.some((said) => said.verb === "message");
  const response = isMessage ? new twiml.MessagingResponse() : new twiml.VoiceResponse();
  for (const said of verbs) {
    const made = built(response, said.verb, said);
    for (const one of said.nouns ?? []) noun(made, one);
    if (said.body !== undefined) made.body(said.body);
  }
  return response.toString();
}

/** A form as web frameworks hand it to the library: a name with several values has an array of them. */
function form(pairs) {
  const values = {};
  for (const [name, value] of pairs) (values[name] ??= []).push(value);
  return values;
}

function signature({ token, url, pairs, body, signature }) {
  const accepts = (url) => body === undefined
    ? validateRequest(token, signature, url, form(pairs)) : validateRequestWithBody(token, signature, url, body);
  return {
    computed: getExpectedTwilioSignature(token, url, body === undefined ? form(pairs) : {}),
    accepted: accepts(url),
    forged: accepts(`${url}x`),
  };
}

process.stdout.write(JSON.stringify({
  documents: asked.documents.map(document),
  signatures: asked.signatures.map(signature),
}));
