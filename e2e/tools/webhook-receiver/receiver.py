"""A receiver of webhooks for trials: verifies each call with the reference library of Standard Webhooks, and keeps a journal.

What it does with a call is in the file --mode: `accept`; `lose` (it takes the event over, and the connection ends before the answer);
`busy` (429 with Retry-After: 2); `broken` (503); `hang` (it never answers).
"""

import argparse
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
for option in ("address", "port", "certificate", "secret", "library", "journal", "mode"):
    parser.add_argument("--" + option, required=True)
arguments = parser.parse_args()
sys.path.insert(0, arguments.library)

from standardwebhooks import Webhook, WebhookVerificationError  # noqa: E402

lock = threading.Lock()
taken = set()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        at = time.time()
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(arguments.secret).verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            self.note({"at": at, "id": self.headers.get("webhook-id", ""), "outcome": "unverified", "why": str(error)})
            return self.answer(401)
        with open(arguments.mode) as mode:
            mode = mode.read().strip()
        takes = mode in ("accept", "lose")
        with lock:
            outcome = mode if not takes else "again" if event["id"] in taken else "taken"
            if takes:
                taken.add(event["id"])
        self.note({"at": at, "id": event["id"], "outcome": outcome, "sequence": int(event["sequence"]),
                   "backend": event["data"]["backend"], "type": event["type"],
                   "signatures": len(self.headers["webhook-signature"].split())})
        if mode == "hang":
            time.sleep(3600)
        if mode == "lose":
            self.close_connection = True
            return None
        return self.answer({"busy": 429, "broken": 503}.get(mode, 204))

    def answer(self, status):
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "2")
        self.send_header("content-length", "0")
        self.end_headers()

    def note(self, entry):
        with lock, open(arguments.journal, "a") as journal:
            journal.write(json.dumps(entry) + "\n")

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(arguments.certificate)
ThreadingHTTPServer.daemon_threads = True
server = ThreadingHTTPServer((arguments.address, int(arguments.port)), Receiver)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("listening", flush=True)
server.serve_forever()
