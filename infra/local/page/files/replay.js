// Sends a dead letter again; what became of that is said in `notice`.

/** Replay the dead letter of that number. Gives whether it was sent. */
export async function replay(number, notice) {
  say(notice, `Dead letter ${number} is being sent again …`);
  try {
    const answer = await fetch(`/_platform/dead-letters/${number}/replay`, { method: "POST" });
    const said = await answer.json();
    const text = answer.ok ? `Dead letter ${number} was sent again: ${said.replay}.` : `Dead letter ${number}: ${said.detail}`;
    say(notice, text);
    return answer.ok;
  } catch {
    say(notice, `Dead letter ${number}: the platform does not answer.`);
    return false;
  }
}

function say(notice, text) {
  notice.textContent = text;
  notice.hidden = false;
}
