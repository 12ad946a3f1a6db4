"""Breaking everything at random while people ask, then verifying every request from outside.

`python -m tests.chaos` (make chaos). What it looks at: the HTTP API, the tables and a log that a trigger of its own keeps of
each change of a request, what the stand-ins for Slack and the webhooks were sent, and what the model was asked. It does not
catch: what only happens on several machines (clocks that differ, a network that splits), a disk that loses what was
flushed, faults of Slack or of a webhook's receiver, and it says nothing about speed.
"""
