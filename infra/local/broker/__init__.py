"""A stand-in for the Knative Broker and its Triggers, for a laptop and for tests.

It keeps the multi-tenant channel broker's contract (knative/eventing: pkg/broker, pkg/kncloudevents): what
an answer of a subscriber means, retries and backoff, replies, filters, the hop limit and dead letters. An
event is acknowledged only when it and its deliveries are in the store, which outlives a kill -9 of the
process. Delivery is at least once and unordered.

What it does otherwise than Knative, on purpose:
- a dead letter that its sink does not take is never dropped; it is tried for ever, at most 30 s apart;
- a CloudEvent that the dead-letter sink answers enters the broker (as with the Kafka broker);
- a 2xx answer that is no CloudEvent dead-letters with code 502 and with the knativeerror* extensions
  (Knative leaves them out in this one case, because its filter answers 502 without a body);
- a reply over 1 MiB dead-letters its event at once, with code 413 (with Kafka it cannot be stored either);
- a delivery whose Trigger left the topology table goes to the dead-letter sink with code 404;
- `Retry-After` is not looked at (Knative: only where the Trigger sets `retryAfterMax`).
"""
