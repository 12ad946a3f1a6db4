// Talking to the request layer: sending a message once, following its answer, reading a conversation.

const SILENT_MS = 45_000; // the server says something every 15 s; a connection that is quieter is dead
const PAUSES_MS = [300, 700, 1500, 3000, 5000];

/** What went wrong, in a sentence for people. `retry`: the same call may work later. */
export class Problem extends Error {
  constructor(sentence, { status = 0, retry = false, afterMs = 0 } = {}) {
    super(sentence);
    Object.assign(this, { status, retry, afterMs });
  }
}

const SENTENCES = {
  401: "You have been signed out. Please sign in and open this page again.",
  403: "This belongs to somebody else.",
  413: "Your message is too long.",
  429: "That was a lot at once. Please wait a moment.",
};

/** A problem+json answer (RFC 9457) as a sentence: ours for what people can do something about, else the server's. */
async function problemOf(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // Something between us and the server answered in its own way.
  }
  const fields = (document.errors ?? []).map((one) => one.msg).join(" ");
  const detail = [document.detail, fields].filter(Boolean).join(" ") || "Something went wrong.";
  const retry = response.status >= 500 || response.status === 429;
  const afterMs = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  return new Problem(SENTENCES[response.status] ?? detail, { status: response.status, retry, afterMs });
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The connection is gone.", { retry: true });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Wait `ms`, or less if the browser comes back online. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    window.addEventListener("online", done);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Run `attempt` until it works; `waiting(true, problem)` while it does not. Throws the problem that no repeating solves. */
async function patiently(attempt, waiting, signal) {
  for (let failures = 0; ; failures += 1) {
    try {
      const result = await attempt(() => {
        failures = 0;
        waiting(false);
      });
      waiting(false);
      return result;
    } catch (problem) {
      if (signal?.aborted || !(problem instanceof Problem) || !problem.retry) throw problem;
      waiting(true, problem);
      const wait = PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)];
      await pause(Math.max(problem.afterMs, wait * (0.8 + 0.4 * Math.random())), signal);
      if (signal?.aborted) throw problem;
    }
  }
}

/** Send a message; the request's id. However often it must be sent, the key makes it one request. */
export function send({ key, content, userId, token }, waiting, signal) {
  const body = JSON.stringify({ user_id: userId, content, session_token: token });
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  return patiently(
    async () => (await (await call("/api/v1/requests/web", { method: "POST", headers, body, signal })).json()).request_id,
    waiting,
    signal,
  );
}

/** A conversation as it is stored, or null when there is none of that id that we may see. */
export async function conversation(sessionId, waiting, signal) {
  try {
    return await patiently(
      async () => (await call(`/api/v1/sessions/${encodeURIComponent(sessionId)}`, { signal })).json(),
      waiting,
      signal,
    );
  } catch (problem) {
    if (problem.status === 404 || problem.status === 403) return null;
    throw problem;
  }
}

/**
 * Follow a request until it is finished; its last state. `on.status`, `on.chunk` and `on.reset` are called as the events come;
 * a connection that breaks is taken up after the last event, so nothing is lost or told twice.
 */
export function follow(requestId, on, waiting, signal) {
  let last = "";
  let missing = 0;
  const once = async (connected) => {
    const quiet = new AbortController();
    const abort = () => quiet.abort();
    signal?.addEventListener("abort", abort, { once: true });
    let timer = setTimeout(abort, SILENT_MS);
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const path = `/api/v1/requests/${encodeURIComponent(requestId)}/events`;
      const response = await call(path, { headers, signal: quiet.signal });
      connected();
      for await (const event of eventsOf(response.body, () => {
        clearTimeout(timer);
        timer = setTimeout(abort, SILENT_MS);
      })) {
        last = event.id || last;
        if (event.name === "chunk") on.chunk(event.data.content);
        else if (event.name === "reset") on.reset();
        else if (event.name === "status") {
          on.status(event.data);
          if (event.data.status === "completed" || event.data.status === "failed") return event.data;
        }
      }
      throw new Problem("The connection is gone.", { retry: true });
    } catch (problem) {
      if (problem instanceof Problem) {
        // It was accepted, so it comes: a queue may be long.
        if (problem.status === 404 && (missing += 1) < 60) throw new Problem(problem.message, { retry: true });
        throw problem;
      }
      if (signal?.aborted) throw problem;
      throw new Problem("The connection is gone.", { retry: true });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  };
  return patiently(once, waiting, signal);
}

/** Server-sent events of a body (HTML standard, "Server-sent events"), as {id, name, data}. */
async function* eventsOf(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = {};
        for (const line of block.split("\n")) {
          const colon = line.indexOf(":");
          if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
        }
        if (fields.data) yield { id: fields.id, name: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
