"""Tokens as the vendor's helper library for Python makes them, and forgeries of them, each with what must come of it.

Reads the accounts and keys as a JSON object from standard input and prints an array of cases, in the form that
tests/it/presence_token.rs reads: a name, a token, and either `refused` (the socket's and the API's code) or `granted`.
What the library would not make is made by hand from what it makes.
"""

import base64
import hashlib
import hmac
import json
import sys
import time

import jwt
from twilio.jwt.access_token import AccessToken, AccessTokenGrant
from twilio.jwt.access_token.grants import ChatGrant, VoiceGrant
from twilio.jwt.client import ClientCapabilityToken

known = json.load(sys.stdin)
ACCOUNT, KEY, SECRET = known["account"], known["key"], known["secret"]
OTHER, OTHER_KEY, OTHER_SECRET = known["other_account"], known["other_key"], known["other_secret"]
APPLICATION, AUTH_TOKEN = known["application"], known["auth_token"]
NOW = int(time.time())

NOT_JWT, HEADER, ISSUER, SIGNATURE = [31204, 20101], [31204, 20102], [31204, 20103], [31202, 20107]
EXPIRED, LIFETIME, NOT_YET = [31205, 20104], [31207, 20104], [31204, 20105]
MISSING, MALFORMED, BAD_GRANT = [31201, 20106], [31105, 20106], [31204, 20101]

cases = []


class PresenceGrant(AccessTokenGrant):
    """Our own grant, as a customer would add it."""

    key = "presence"

    def __init__(self, **claims):
        self.claims = claims

    def to_payload(self):
        return self.claims


def access(*grants, account=ACCOUNT, key=KEY, secret=SECRET, identity="alice", **options):
    return AccessToken(account, key, secret, grants=list(grants), identity=identity, **options)


def capability(name=None, account=ACCOUNT, secret=AUTH_TOKEN, **options):
    token = ClientCapabilityToken(account, secret, **options)
    if name is not None:
        token.allow_client_incoming(name)
    return token


def text(token):
    return token if isinstance(token, str) else token.to_jwt()


def granted(name, token, **expected):
    cases.append({"name": name, "token": text(token), "granted": {"identity": "alice", **expected}})


def refused(name, codes, token):
    cases.append({"name": name, "token": text(token), "refused": codes})


def with_header(token, **changes):
    """The token under another header, signed with the same secret as if that header were true."""
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")
    headers = {name: value for name, value in {**token.headers, **changes}.items() if value is not None}
    parts = [part(json.dumps(value).encode()) for value in (headers, token.payload)]
    signed = b".".join(parts)
    return (signed + b"." + part(hmac.digest(token.secret_key.encode(), signed, hashlib.sha256))).decode()


def access_tokens_that_are_good():
    receive, call_out = VoiceGrant(incoming_allow=True), VoiceGrant(outgoing_application_sid=APPLICATION)
    everything = VoiceGrant(True, APPLICATION, {"k": "v", "n": 1}, push_credential_sid="CR1", endpoint_id="desk")
    presence = PresenceGrant(publish=True, subscribe=["team:*", "bob"], query=500)
    granted("everything", access(everything, presence, region="us1"), receive=True, give=True, application=APPLICATION,
            parameters={"k": "v", "n": "1"}, endpoint_id="desk", query=500, sees=["alice", "team:", "team:a", "bob"],
            sees_not=["team", "bobby", "eve"])
    granted("receive", access(receive), receive=True, give=True, sees=["alice"], sees_not=["bob"])
    granted("call out", access(call_out), application=APPLICATION)
    granted("a voice grant that allows nothing", access(VoiceGrant()))
    granted("incoming refused", access(VoiceGrant(incoming_allow=False)))
    granted("no grants", access())
    granted("give without receive", access(PresenceGrant(publish=True)), give=True)
    granted("receive without give", access(receive, PresenceGrant(publish=False)), receive=True)
    granted("see all, ask nothing", access(PresenceGrant(subscribe=["*"], query=0)), query=0, sees=["eve"])
    granted("another product's grant beside", access(receive, ChatGrant(service_sid="IS1")), receive=True, give=True)
    granted("no nbf", access(receive, nbf=None), receive=True, give=True)
    granted("an nbf in the past", access(nbf=NOW - 3600, ttl=60))
    granted("an nbf within the skew", access(nbf=NOW + 30))
    granted("an end within the skew", access(ttl=-20))
    granted("a lifetime of a day", access(ttl=24 * 60 * 60))
    granted("the secret before", access(secret=known["old_secret"]))
    granted("the other account", access(account=OTHER, key=OTHER_KEY, secret=OTHER_SECRET), account=1)
    for name in ["alice/mobile", "日本 語", "é" * 121, "a+b@c%2F", "😀"]:
        granted(f"the identity {name}", access(receive, identity=name), identity=name, receive=True, give=True)


def restrictions():
    restrict = {"calls": 2, "to": ["client:team-*", "+1*"], "media": ["voice"], "hours": ["00:00-24:00Z"]}
    granted("restrictions", access(PresenceGrant(subscribe=["*"], restrict=restrict)), sees=["alice", "team-a"],
            sees_not=["bob"], calls=[
                {"to": "client:team-a", "medium": "voice", "now": 1},
                {"to": "+14155550100", "medium": "voice", "now": 0},
                {"to": "client:team-a", "medium": "voice", "now": 2, "forbidden_by": "calls"},
                {"to": "client:bob", "medium": "voice", "now": 0, "forbidden_by": "to"},
                {"to": "+4930", "medium": "voice", "now": 0, "forbidden_by": "to"},
                {"to": "client:team-a", "medium": "message", "now": 0, "forbidden_by": "media"}])
    never = [{"to": "client:bob", "medium": "voice", "now": 0, "forbidden_by": "hours"}]
    granted("no hours", access(PresenceGrant(restrict={"hours": []})), calls=never)
    for name, restrict in {"a restriction of another name": {"call": 2}, "half a day": {"hours": ["08:00-18:00"]},
                           "a medium of another name": {"media": ["fax"]}, "a target in the middle": {"to": ["a*b"]}}.items():
        refused(name, BAD_GRANT, access(PresenceGrant(restrict=restrict)))
    refused("a presence grant that is no object", BAD_GRANT, access(type("Grant", (PresenceGrant,), {"to_payload": lambda _: True})()))


def access_tokens_that_are_not():
    good = access(VoiceGrant(incoming_allow=True))
    parts = good.to_jwt().split(".")
    for name, broken in {"nothing": "", "two parts": ".".join(parts[:2]), "four parts": ".".join(parts + parts[:1]),
                         "padding": ".".join(parts) + "=", "a line": ".".join(parts) + "\n", "no JSON": f"{parts[2]}.{parts[1]}.{parts[2]}",
                         "an array": f"{parts[0]}.W10.{parts[2]}"}.items():
        refused(name, NOT_JWT, broken)
    refused("more than 16 KiB", NOT_JWT, access(VoiceGrant(True, APPLICATION, {"k": "v" * 16384})))
    refused("no algorithm", HEADER, jwt.encode(good.payload, None, algorithm="none", headers={"cty": "twilio-fpa;v=1"}))
    refused("HS512", HEADER, jwt.encode(good.payload, SECRET, algorithm="HS512", headers={"cty": "twilio-fpa;v=1"}))
    for name, changes in {"RS256": {"alg": "RS256"}, "another content type": {"cty": "twilio-fpa;v=2"}, "no type": {"typ": None},
                          "an extension": {"crit": ["exp"]}}.items():
        refused(f"a header with {name}", HEADER, with_header(good, **changes))
    refused("an access token as a capability token", ISSUER, with_header(good, cty=None))
    refused("an unknown key", ISSUER, access(key="SK" + "9" * 32))
    refused("an account for a key", ISSUER, access(key=ACCOUNT, secret=AUTH_TOKEN))
    refused("another account's key", ISSUER, access(key=OTHER_KEY, secret=OTHER_SECRET))
    refused("a foreign account", ISSUER, access(account=OTHER))
    refused("a wrong secret", SIGNATURE, access(secret=OTHER_SECRET))
    refused("the auth token for a secret", SIGNATURE, access(secret=AUTH_TOKEN))
    refused("expired", EXPIRED, access(ttl=-120))
    refused("no end", EXPIRED, with_payload(good, exp=None))
    refused("a lifetime over a day", LIFETIME, access(ttl=25 * 60 * 60))
    refused("a long lifetime that began long ago", LIFETIME, access(nbf=NOW - 25 * 60 * 60))
    refused("not yet", NOT_YET, access(nbf=NOW + 300))
    refused("no identity", MISSING, access(identity=None))
    # The library leaves an empty one out.
    refused("an empty identity", MISSING, access(identity=""))
    for name in ["é" * 122, "a\nb", "a\u0000", "a\u2028b", "a\u202eb", 7]:
        refused(f"the identity {name!r}", MALFORMED, access(identity=name))


def with_payload(token, **changes):
    payload = {name: value for name, value in {**token.payload, **changes}.items() if value is not None}
    return jwt.encode(payload, token.secret_key, algorithm="HS256", headers=token.headers)


def capability_tokens():
    for name in ["jenny", "j +/@&=%?#", "日本", "x" * 121]:
        both = capability(name)
        both.allow_client_outgoing(APPLICATION, foo="bar baz", x="a&b=c")
        granted(f"capability of {name}", both, identity=name, receive=True, give=True, application=APPLICATION,
                parameters={"foo": "bar baz", "x": "a&b=c"}, issuer=ACCOUNT, sees_not=["bob"])
    watching = capability("alice")
    watching.allow_event_stream(a="1")
    granted("capability to see all", watching, receive=True, give=True, sees=["bob"])
    watching = capability("alice")
    watching.allow_event_stream(identity=["team:*", "bob"])
    granted("capability to see some", watching, receive=True, give=True, sees=["team:a", "bob"], sees_not=["eve"])
    granted("capability without nbf", capability("alice", nbf=None), receive=True, give=True)
    granted("capability by the auth token before", capability("alice", secret=known["old_auth_token"]), receive=True, give=True)
    nameless = capability()
    nameless.allow_client_outgoing(APPLICATION)
    refused("capability of nobody", MISSING, nameless)
    refused("capability without scopes", MISSING, capability())
    refused("capability of too long a name", MALFORMED, capability("x" * 122))
    refused("capability of an empty name", MALFORMED, capability(""))
    refused("capability of a line", MALFORMED, capability("a\nb"))
    middle = capability("alice")
    middle.allow_event_stream(identity="a*b")
    refused("capability to see what is no pattern", BAD_GRANT, middle)
    refused("capability, expired", EXPIRED, capability("alice", ttl=-120))
    refused("capability, not yet", NOT_YET, capability("alice", nbf=NOW + 300))
    refused("capability for more than a day", LIFETIME, capability("alice", ttl=25 * 60 * 60))
    refused("capability by a key's secret", SIGNATURE, capability("alice", secret=SECRET))
    refused("capability of an account without auth token", SIGNATURE, capability("alice", account=OTHER))
    refused("capability of an unknown account", ISSUER, capability("alice", account="AC" + "9" * 32))
    refused("capability without an algorithm", HEADER, jwt.encode(capability("alice").payload, None, algorithm="none"))


access_tokens_that_are_good()
restrictions()
access_tokens_that_are_not()
capability_tokens()
json.dump(cases, sys.stdout)
