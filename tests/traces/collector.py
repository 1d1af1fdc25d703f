"""A collector for traces: reads OTLP over HTTP by the published definitions, and prints what it was sent, a line of JSON a span.

Its first line is the address it listens on. Arguments are how its first answers differ from the usual 200: a status (`503`), or
`reject:N`, which takes a batch but for N spans. A post that is no batch is answered 400, and printed as `{"broken": …}`.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

answers = sys.argv[1:]


def say(value):
    print(json.dumps(value), flush=True)


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def told(span, resource, scope, fields):
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "state": span.trace_state,
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span.attributes),
        "events": [{"name": event.name, "time": event.time_unix_nano} for event in span.events],
        "status": Status.StatusCode.Name(span.status.code),
        "flags": span.flags,
        "resource": attributes(resource.attributes),
        "scope": scope.name,
        "authorization": fields.get("authorization"),
    }


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        wanted = answers.pop(0) if answers else "200"
        reply = ExportTraceServiceResponse()
        batch = ExportTraceServiceRequest()
        is_ours = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        try:
            batch.ParseFromString(body)
        except DecodeError:
            is_ours = False
        # A field that the definitions do not have would be kept as unknown and written again: only what they have is shown as JSON.
        if not is_ours or type(batch).FromString(body).ByteSize() != len(body) or not MessageToDict(batch):
            say({"broken": [self.path, self.headers["content-type"], len(body)]})
            return self.answer(400, b"")
        if wanted.startswith("reject:"):
            reply.partial_success.rejected_spans = int(wanted.removeprefix("reject:"))
        elif wanted != "200":
            return self.answer(int(wanted), b"")
        for process in batch.resource_spans:
            for scope in process.scope_spans:
                for span in scope.spans:
                    say(told(span, process.resource, scope.scope, self.headers))
        self.answer(200, reply.SerializeToString())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
say(f"127.0.0.1:{server.server_port}")
server.serve_forever()
