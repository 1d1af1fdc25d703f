"""Documents of verbs as the vendor's helper library for Python builds them, and signatures as it computes and checks them.

Reads one JSON object from standard input: `documents`, each a list of verbs in the words of tests/it/presence/instructions.rs, and
`signatures`, each a request with a signature of ours. Prints the documents as text, and of each request what the library signs and
whether it accepts ours.
"""

import json
import re
import sys

from twilio.request_validator import RequestValidator
from twilio.twiml.messaging_response import MessagingResponse
from twilio.twiml.voice_response import VoiceResponse

asked = json.load(sys.stdin)


def snake(name):
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def keywords(attributes):
    """The library's names of attributes; a list is joined as its documentation shows."""
    return {
        {"from": "from_"}.get(name, snake(name)): " ".join(value) if isinstance(value, list) else value
        for name, value in attributes.items()
    }


def noun(dial, said):
    positional = [] if said.get("text") is None else [said["text"]]
    built = getattr(dial, said["noun"])(*positional, **keywords(said.get("attributes", {})))
    if said.get("identity") is not None:
        built.identity(said["identity"])
    for name, value in said.get("parameters", []):
        built.parameter(name=name, value=value)


def verb(response, said):
    positional = [] if said.get("text") is None else [said["text"]]
    built = getattr(response, said["verb"])(*positional, **keywords(said.get("attributes", {})))
    for one in said.get("nouns", []):
        noun(built, one)
    if said.get("body") is not None:
        built.body(said["body"])


def document(verbs):
    response = MessagingResponse() if any(said["verb"] == "message" for said in verbs) else VoiceResponse()
    for said in verbs:
        verb(response, said)
    return str(response)


class Form(dict):
    """A form as web frameworks hand it to the library: a name may have several values."""

    def __init__(self, pairs):
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, []).append(value)

    def getlist(self, name):
        return self[name]


def signature(request):
    validator = RequestValidator(request["token"])
    form = request.get("body")
    signed = None if form is not None else Form(request["pairs"])
    form = signed if form is None else form
    return {
        "computed": validator.compute_signature(request["url"], signed),
        "accepted": validator.validate(request["url"], form, request["signature"]),
        "forged": validator.validate(request["url"] + "x", form, request["signature"]),
    }


json.dump({
    "documents": [document(verbs) for verbs in asked["documents"]],
    "signatures": [signature(request) for request in asked["signatures"]],
}, sys.stdout)
