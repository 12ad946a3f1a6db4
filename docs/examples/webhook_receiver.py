"""A webhook receiver to start from: takes an answer once, and only from who knows the secret (docs/tools.md).

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… PORT=9000 python webhook_receiver.py

Several secrets, separated by spaces, are good at once. It must be reached by https: put it behind what ends TLS.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MAX_BYTES = 1024 * 1024
REMEMBER_SECONDS = 24 * 3600  # answers are sent again for as long as this end does not take them: use your database
VERIFIERS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRET"].split()]
seen: dict[str, float] = {}
lock = threading.Lock()


def verify(body: bytes, headers: dict[str, str]) -> dict:
    """The message, if one of the secrets signed it in the last 5 minutes (the library looks). Else an error."""
    for verifier in VERIFIERS:
        try:
            return verifier.verify(body, headers)
        except WebhookVerificationError:
            continue
        except ValueError:  # headers or a body that nobody of ours sends
            break
    raise WebhookVerificationError("no secret of ours signed this")


def is_new(message_id: str) -> bool:
    """Whether this id comes for the first time: every repeat of an answer has the same."""
    now = time.time()
    with lock:
        for old in [one for one, at in seen.items() if at < now - REMEMBER_SECONDS]:
            del seen[old]
        return seen.setdefault(message_id, now) == now


def handle(message: dict) -> None:
    """What your tool does with the answer: here it is printed. Quick, or queued: the sender waits for the 204."""
    data = message["data"]
    sys.stdout.write(json.dumps({key: data[key] for key in ("request_id", "status", "content", "tool_context")}) + "\n")
    sys.stdout.flush()


class Receiver(BaseHTTPRequestHandler):
    """204: taken, or taken before. 401: not from us. Anything else but 2xx and the sender tries again or gives up."""

    timeout = 10

    def do_POST(self) -> None:
        """Verify, handle once, say so."""
        length = self.headers.get("content-length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() and int(length) <= MAX_BYTES else b""
        try:
            message = verify(body, dict(self.headers.items()))
        except WebhookVerificationError:
            self.send_response(401)
        else:
            if is_new(self.headers["webhook-id"]):
                handle(message)  # if this can fail: forget the id again and answer 500, and it will be sent again
            self.send_response(204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, _format: str, *args: object) -> None:
        """The status alone."""
        sys.stderr.write(f"POST {args[1]}\n" if len(args) == 3 else "not HTTP\n")


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "9000"))), Receiver).serve_forever()
