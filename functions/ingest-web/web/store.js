// What this browser remembers: whose conversation goes on here, and what was sent and has no answer yet.

const PREFIX = "self-service:";
const memory = new Map(); // where the browser keeps nothing for us (a private window, storage switched off)

function get(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return memory.get(name) ?? null;
  }
}

function set(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Full or switched off: it lasts as long as this page.
  }
}

/** Who uses this page where nobody signs in; "" for not said yet. */
export const storedName = () => get("name") ?? "";
export const rememberName = (name) => set("name", name);

/** An id that nobody can guess. */
export function randomId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // a page without TLS that is not on this machine
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The conversation of a user: `token` names it to the server, `sessionId` is where it is read, `pending` are the messages whose
 * answer has not been seen: [{key, content, requestId}].
 */
export class Conversation {
  constructor(userId) {
    this.name = `conversation:${userId}`;
    this.begin();
    try {
      const kept = JSON.parse(get(this.name) ?? "null");
      if (kept?.token) Object.assign(this, { pending: [], ...kept });
    } catch {
      // Not ours, or of another version.
    }
  }

  /** Forget the conversation and begin another. */
  begin() {
    this.token = randomId();
    this.sessionId = null;
    this.pending = [];
  }

  save() {
    const { token, sessionId, pending } = this;
    set(this.name, JSON.stringify({ token, sessionId, pending }));
  }

  /** Remember a message before it is sent, so that sending it again sends the same one. */
  add(content) {
    const message = { key: randomId(), content, requestId: null };
    this.pending.push(message);
    this.save();
    return message;
  }

  /** Its answer is here, or there will be none. */
  drop(message) {
    this.pending = this.pending.filter((one) => one.key !== message.key);
    this.save();
  }
}
