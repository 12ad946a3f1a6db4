"""People in the fake Slack, and what Slack tells the app of what they and the app do: several times, as it does."""

from __future__ import annotations

import copy
import itertools
import queue
import threading
from typing import Any

from tests.parts import slack as wire
from tests.parts.slack import BOT, CHANNEL, DIRECT, PERSON, Slack
from tests.slack.fake import FakeSlack, Message


class Workspace:
    """Sends the app its events at `url`. What the app posts comes back to it as events too, as in a real workspace."""

    def __init__(self, fake: FakeSlack, url: str, secret: str) -> None:
        self.fake = fake
        self._slack = Slack(url, secret)
        self._event_ids = itertools.count(1)
        self._echoes: queue.Queue[dict[str, Any] | None] = queue.Queue()
        fake.on_change = self._echo
        self._thread = threading.Thread(target=self._send_echoes, daemon=True)
        self._thread.start()

    def mention(self, text: str, thread: str | None = None, user: str = PERSON) -> Message:
        """Mention the bot in a channel. Slack tells of it twice, and once more because it believes it was not heard."""
        message = self.fake.say(CHANNEL, user, f"<@{BOT}> {text}", thread)
        mention = wire.mention(message["text"], **_fields(message))
        self._tell(mention)
        self._tell(wire.message(message["text"], **_fields(message)))
        self._tell(mention, X_Slack_Retry_Num="1", X_Slack_Retry_Reason="http_timeout")
        return message

    def reply(self, text: str, thread: str, user: str = PERSON) -> Message:
        """Say something in a thread without mentioning anybody."""
        message = self.fake.say(CHANNEL, user, text, thread)
        self._tell(wire.message(text, **_fields(message), parent_user_id=PERSON))
        return message

    def direct(self, text: str) -> Message:
        """Write to the bot directly."""
        message = self.fake.say(DIRECT, PERSON, text)
        self._tell(wire.direct(text, **_fields(message)))
        return message

    def command(self, text: str) -> str:
        """Type the slash command; what Slack shows at once."""
        answer = self._slack.run(wire.command(text))
        assert answer.status == 200, answer.body
        shown: str = answer.json()["text"]
        return shown

    def press(self, value: str, message: Message) -> None:
        """Press a button on a message of the bot's."""
        where = {"type": "message", "message_ts": message["ts"], "channel_id": CHANNEL, "thread_ts": message["thread_ts"]}
        assert self._slack.use(wire.press(value, container=where)).status == 200

    def close(self) -> None:
        """Send no more."""
        self._echoes.put(None)
        self._thread.join(20)

    def _tell(self, envelope: dict[str, Any], **headers: str) -> None:
        numbered = wire.but(envelope, event_id=f"Ev{next(self._event_ids):08d}")
        assert self._slack.send(numbered, **headers).status == 200

    def _echo(self, kind: str, channel: str, message: Message) -> None:
        direct = {"channel": channel, "channel_type": "im" if channel.startswith("D") else "channel"}
        if kind == "posted":
            event = {**message, **direct, "event_ts": message["ts"]}
        else:
            event = {**direct, "type": "message", "subtype": f"message_{kind}", "hidden": True, "ts": message["ts"],
                     "message": message}  # fmt: skip
        self._echoes.put(wire.callback(copy.deepcopy(event)))

    def _send_echoes(self) -> None:
        while (envelope := self._echoes.get()) is not None:
            self._tell(envelope)


def _fields(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {name: message[name] for name in ("user", "ts", "thread_ts") if name in message}
    return {**fields, "event_ts": message["ts"]}
