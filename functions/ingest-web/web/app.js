// The page: who is asking, the conversation so far, and what is asked next.
import { Problem, conversation, follow, send } from "./api.js";
import { Conversation, rememberName, storedName } from "./store.js";
import { Answer, Question, announce, clear, toEnd } from "./view.js";

const $ = (id) => document.getElementById(id);
const [form, message, sendButton, notice, welcome, dialog] =
  ["form", "message", "send", "notice", "welcome", "name-dialog"].map($);
const TITLE = document.title;
const signedIn = document.querySelector('meta[name="user-id"]').content; // the server says it, where people sign in

let userId = "";
let current; // the conversation
let stopped = new AbortController(); // ends what belongs to a conversation that was left
let turn = Promise.resolve(); // one answer is followed at a time, as one is given at a time
let waitingSince = null;

// --- who ---

async function start() {
  userId = signedIn || storedName() || (await askName());
  $("who-name").textContent = userId;
  $("who").hidden = false;
  $("who").disabled = Boolean(signedIn);
  current = new Conversation(userId);
  await restore();
}

function askName() {
  $("name").value = storedName();
  $("name-error").textContent = "";
  dialog.showModal();
  return new Promise((resolve) => {
    $("name-form").onsubmit = (event) => {
      event.preventDefault();
      const name = $("name").value.trim();
      $("name-error").textContent = name ? "" : "Please write a name.";
      $("name").setAttribute("aria-invalid", String(!name));
      if (!name) return $("name").focus();
      rememberName(name);
      dialog.close();
      message.focus();
      resolve(name);
    };
  });
}
dialog.addEventListener("cancel", (event) => {
  if (!userId) event.preventDefault(); // without a name there is nothing behind it
});
$("who").addEventListener("click", async () => {
  const name = await askName();
  if (name === userId) return;
  leave();
  userId = name;
  await start();
});

// --- the conversation so far ---

async function restore() {
  clear();
  const { signal } = stopped;
  const pending = [...current.pending];
  let stored = null;
  try {
    stored = current.sessionId && (await conversation(current.sessionId, connection, signal));
  } catch (problem) {
    if (!signal.aborted) say(problem.message);
    return;
  }
  if (signal.aborted) return;
  if (current.sessionId && !stored) {
    current.sessionId = null;
    current.save();
  }
  const known = new Set();
  for (const one of stored?.messages ?? []) {
    if (one.role === "user") {
      known.add(one.request_id);
      const question = new Question(one.content, one.created_at);
      if (one.status === "queued" || one.status === "processing") {
        const kept = pending.find((other) => other.requestId === one.request_id);
        ask(kept ?? { key: one.request_id, content: one.content, requestId: one.request_id }, question);
      }
    } else if (one.content !== null) new Answer(one.created_at).finish(one.content, one.agent_id, one.created_at);
    else new Answer(one.created_at).fail(one.error?.message ?? "There is no answer.", null);
  }
  for (const one of pending) {
    if (!known.has(one.requestId)) ask(one, new Question(one.content));
    else if (!stored.messages.some((other) => other.request_id === one.requestId && isOpen(other))) current.drop(one);
  }
  showWelcome();
  toEnd();
}

const isOpen = (one) => one.status === "queued" || one.status === "processing";

function showWelcome() {
  welcome.hidden = $("log").childElementCount > 0;
}

function leave() {
  stopped.abort();
  stopped = new AbortController();
  turn = Promise.resolve();
  connection(false);
  say("");
}

$("new").addEventListener("click", () => {
  if (!current) return;
  leave();
  current.begin();
  current.save();
  clear();
  showWelcome();
  announce("New conversation");
  message.focus();
});

// --- asking ---

/** Send a message if it was not sent yet, and show its answer as it is written. */
async function ask(one, question) {
  const mine = current;
  const { signal } = stopped;
  welcome.hidden = true;
  const answer = new Answer();
  answer.working(one.requestId ? "Waiting for the answer" : "Sending");
  const before = turn;
  let done;
  turn = new Promise((resolve) => (done = resolve));
  try {
    if (!one.requestId) {
      one.requestId = await send({ ...one, userId, token: mine.token }, connection, signal);
      mine.save();
    }
    answer.working("Waiting for the answer");
    await before;
    if (!signal.aborted) await show(one, answer, mine, signal);
    mine.drop(one);
  } catch (problem) {
    if (signal.aborted) return;
    if (!(problem instanceof Problem)) throw problem;
    mine.drop(one);
    if (one.requestId) return failed(answer, problem.message, one);
    question.says("Not sent", true);
    failed(answer, problem.message, null);
    if (!message.value) setMessage(one.content); // to be changed and sent anew
  } finally {
    done();
  }
}

async function show(one, answer, mine, signal) {
  const slow = setInterval(() => answer.working("Still working"), 15_000);
  const on = {
    status: (state) => {
      if (state.session_id && state.session_id !== mine.sessionId) {
        mine.sessionId = state.session_id;
        mine.save();
      }
      answer.working("Working on it");
    },
    chunk: (text) => answer.add(text),
    reset: () => answer.restart(),
  };
  let state;
  try {
    state = await follow(one.requestId, on, connection, signal);
  } finally {
    clearInterval(slow);
  }
  if (state.status === "failed") return failed(answer, state.error?.message ?? "There is no answer.", one);
  answer.finish(state.response.content, state.agent_id, state.completed_at);
  announce(`Answer: ${answer.spoken()}`);
  if (document.hidden) document.title = `● Answer – ${TITLE}`;
}

function failed(answer, sentence, one) {
  answer.fail(sentence, one && (() => submit(one.content)));
  announce(sentence);
}

function submit(content) {
  if (!content || !current) return;
  const one = current.add(content);
  toEnd();
  ask(one, new Question(content));
}

// --- the message box ---

function setMessage(text) {
  message.value = text;
  sized();
}

function sized() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
  sendButton.disabled = !message.value.trim();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const content = message.value.trim();
  setMessage("");
  message.focus();
  submit(content);
});
message.addEventListener("input", sized);
message.addEventListener("keydown", (event) => {
  // While a word is being composed (Japanese, Chinese …), Enter belongs to the input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
$("examples").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) submit(event.target.textContent);
});

// --- the connection ---

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

/** Tell that something waits for the connection, once it is more than a blink. */
function connection(isWaiting, problem) {
  if (!isWaiting) {
    clearTimeout(waitingSince);
    waitingSince = null;
    say("");
  } else if (problem?.status !== 404) {
    const text = navigator.onLine
      ? "The connection is interrupted. It is taken up again by itself."
      : "You are offline. It goes on as soon as you are connected.";
    if (!notice.hidden) say(text);
    waitingSince ??= setTimeout(() => say(text), 800);
  }
}
window.addEventListener("offline", () => say("You are offline. What you send goes out as soon as you are connected."));
window.addEventListener("online", () => say(""));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) document.title = TITLE;
});

sized();
start();
