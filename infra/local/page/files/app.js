// The platform's page: what the feed tells, drawn. Texts are set as text, never as HTML: people and models wrote them.
import { replay } from "./replay.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 300;
const requests = new Map(); // by id
const rows = new Map(); // their list items
const numbers = {};
const functions = {};
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const STATUS = { completed: "ok", failed: "bad", stopped: "bad", open: "open" };
let brokerIsAway = false;
let databaseIsAway = false;

function made(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const write = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

function span(milliseconds) {
  if (milliseconds === null) return "";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 10_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function when(text) {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? clock.format(at) : `${day.format(at)} ${clock.format(at).slice(0, 5)}`;
}

// --- the chain and the functions ---

function count(changed, isReset) {
  for (const [key, value] of Object.entries(changed)) {
    const grew = !isReset && value > (numbers[key] ?? 0);
    numbers[key] = value;
    const name = CSS.escape(key);
    for (const element of document.querySelectorAll(`[data-n="${name}"]`)) {
      write(element, String(value));
      if (element.tagName === "TD") element.classList.toggle("some", value > 0 && /^(retried|dead):/.test(key));
      else element.parentElement.classList.toggle("none", value === 0);
    }
    for (const arrow of document.querySelectorAll(`[data-arrow="${name}"]`)) {
      arrow.classList.toggle("none", value === 0);
      if (grew) light(arrow);
    }
  }
}

function light(arrow) {
  arrow.classList.remove("lit");
  requestAnimationFrame(() => arrow.classList.add("lit"));
}

function show() {
  const names = Object.keys(functions);
  for (const name of names) {
    const one = functions[name];
    const waiting = numbers[`waiting:${name}`] ?? 0;
    for (const box of document.querySelectorAll(`[data-box="${CSS.escape(name)}"]`)) {
      box.classList.toggle("ready", one.ready);
      box.classList.toggle("away", !one.ready);
      box.classList.toggle("busy", waiting > 0);
      const state = box.querySelector(".state");
      const told = [one.ready ? "" : one.pid ? "not ready" : "not running"];
      if (waiting) told.push(`${waiting} under way`);
      if (one.restarts) told.push(`started again ${one.restarts}×`);
      write(state, told.filter(Boolean).join(", ") || state.dataset.note || "ready");
    }
    const row = document.querySelector(`[data-function="${CSS.escape(name)}"]`);
    if (!row) continue;
    const pill = row.querySelector("[data-ready]");
    write(pill, one.ready ? "ready" : one.pid ? "not ready" : "not running");
    pill.className = `pill ${one.ready ? "ok" : "bad"}`;
    write(row.querySelector("[data-restarts]"), String(one.restarts));
    write(row.querySelector("[data-pid]"), String(one.pid ?? "–"));
  }
  const away = names.filter((name) => !functions[name].ready);
  if (brokerIsAway) away.unshift("broker");
  if (databaseIsAway) away.unshift("database");
  for (const [part, isAway] of [["broker", brokerIsAway], ["database", databaseIsAway]]) {
    for (const drawn of document.querySelectorAll(`[data-part="${part}"]`)) drawn.classList.toggle("away", isAway);
  }
  const health = $("health");
  write(health, !names.length ? "starting" : !away.length ? "all ready" : away.length < 3 ? `not ready: ${away.join(", ")}` : `${away.length} not ready`);
  health.className = `pill ${!names.length ? "" : away.length ? "bad" : "ok"}`;
}

// --- requests ---

function matches(one) {
  const filter = $("filter").value;
  const fits = { all: true, open: one.status === "open", failed: STATUS[one.status] === "bad", tried: one.tries > 0, dead: one.dead_letters > 0 };
  if (!fits[filter]) return false;
  const words = $("search").value.trim().toLowerCase();
  return !words || [one.content, one.user_id, one.request_id, one.integration, one.agent_id].join("\n").toLowerCase().includes(words);
}

function fill(item, one) {
  const link = item.firstChild;
  const isOpen = one.status === "open";
  const time = made("time", "at", when(one.received_at));
  time.dateTime = one.received_at;
  const where = made("span", "where");
  if (one.at.length) where.append(made("span", "", `at ${one.at.join(", ")}`));
  if (one.tries) where.append(made("span", "pill retry", one.tries === 1 ? "1 more try" : `${one.tries} more tries`));
  if (one.dead_letters) where.append(made("span", "pill bad", one.dead_letters === 1 ? "1 dead letter" : `${one.dead_letters} dead letters`));
  if (!where.childElementCount && one.error) where.append(made("span", "", one.error));
  if (!where.childElementCount && one.agent_id) where.append(made("span", "", one.agent_id));
  const status = made("span", `pill ${STATUS[one.status] ?? ""}${isOpen ? " working" : ""}`, isOpen ? "under way" : one.status);
  link.replaceChildren(
    time,
    made("span", "kind", one.integration ?? "–"),
    made("span", "text", one.content || one.request_id),
    where,
    made("span", "took", span(one.duration_ms)),
    made("span", "end", status),
  );
}

function take(changed, isReset) {
  if (isReset) {
    requests.clear();
    rows.clear();
    $("requests-list").replaceChildren();
  }
  for (const one of [...changed].reverse()) {
    let item = rows.get(one.request_id);
    if (!item) {
      const link = made("a");
      link.href = `/_platform/requests/${encodeURIComponent(one.request_id)}`;
      item = made("li", isReset ? "" : "new", link);
      rows.set(one.request_id, item);
      place(item, one);
    }
    requests.set(one.request_id, one);
    fill(item, one);
    item.hidden = !matches(one);
  }
  while (rows.size > SHOWN) {
    const last = $("requests-list").lastElementChild;
    const [id] = [...rows].find(([, item]) => item === last);
    last.remove();
    rows.delete(id);
    requests.delete(id);
  }
  summary();
}

/** By when it was accepted, the newest first: a request that moves keeps its place. */
function place(item, one) {
  item.dataset.at = one.received_at;
  const list = $("requests-list");
  let next = list.firstElementChild;
  while (next && next.dataset.at > one.received_at) next = next.nextElementSibling;
  list.insertBefore(item, next);
}

function summary() {
  const shown = [...rows.values()].filter((item) => !item.hidden).length;
  $("requests-number").hidden = rows.size === 0;
  write($("requests-number"), shown === rows.size ? String(shown) : `${shown} of ${rows.size}`);
  $("requests-empty").hidden = shown > 0;
  if (rows.size) write($("requests-empty"), "None of these.");
}

function filter() {
  for (const [id, item] of rows) item.hidden = !matches(requests.get(id));
  summary();
}
$("search").addEventListener("input", filter);
$("filter").addEventListener("change", filter);

// --- dead letters ---

function letters(list) {
  const open = list.filter((one) => one.is_open).length;
  $("letters-number").hidden = !open;
  write($("letters-number"), `${open} to look at`);
  $("letters-empty").hidden = list.length > 0;
  $("letters").classList.toggle("none", list.length === 0);
  const focused = document.activeElement?.dataset.replay;
  $("letters-list").replaceChildren(...list.map(letter));
  if (focused) document.querySelector(`[data-replay="${CSS.escape(focused)}"]`)?.focus();
}

/** Of a problem (RFC 9457) its detail, of anything else all of it. */
function sentence(why) {
  try {
    return JSON.parse(why).detail ?? why;
  } catch {
    return why;
  }
}

function letter(one) {
  const open = one.is_open;
  const head = made("p", "letter-line", made("b", "", one.type.replace("com.self-service-agent.", "")));
  head.append(made("span", `pill ${open ? "bad" : ""}`, one.code ?? "no answer"));
  head.append(made("span", "soft", `${when(one.updated_at)}${one.seen > 1 ? `, ${one.seen} times` : ""}`));
  if (one.request_id) {
    const link = made("a", "", "its request");
    link.href = `/_platform/requests/${encodeURIComponent(one.request_id)}`;
    link.setAttribute("aria-label", `The request of dead letter ${one.id}`);
    head.append(link);
  }
  if (!open) head.append(made("span", "soft", `replayed ${when(one.replayed_at)}`));
  const button = made("button", "quiet", open ? "Replay" : "Replay again", made("span", "hidden", ` dead letter ${one.id}`));
  button.type = "button";
  button.dataset.replay = one.id;
  button.addEventListener("click", async () => {
    button.disabled = true;
    await replay(one.id, $("replayed"));
    button.disabled = false;
  });
  head.append(button);
  const item = made("li", `letter${open ? "" : " done"}`, head);
  if (one.why) item.append(made("p", "why", sentence(one.why)));
  item.append(made("p", "", `A replay would do this: ${one.replay}.`));
  return item;
}

// --- the feed ---

function heard(change) {
  const isReset = change.reset === true;
  if (change.since) write($("since"), `since the broker was started at ${when(change.since)}`);
  if (change.broker) brokerIsAway = change.broker === "away";
  if (change.database) databaseIsAway = change.database === "away";
  Object.assign(functions, change.functions);
  if (change.numbers) count(change.numbers, isReset);
  if (change.requests) take(change.requests, isReset);
  if (change.dead_letters) letters(change.dead_letters);
  if (change.parts) {
    const told = Object.entries(change.parts).map(([name, pid]) => `${name.replaceAll("_", " ")}${pid ? ` (process ${pid})` : ""}`);
    write($("parts"), `Beside them: ${told.join(", ")}.`);
  }
  show();
}

const feed = new EventSource("/_platform/feed");
feed.onmessage = (event) => {
  $("connection").hidden = true;
  heard(JSON.parse(event.data));
};
feed.onerror = () => {
  write($("connection"), "The platform does not answer; trying again");
  $("connection").hidden = false;
};
// A page in the background is told nothing: the browser keeps it as it was left, and it begins anew.
addEventListener("pagehide", () => feed.close());
addEventListener("pageshow", (event) => event.persisted && location.reload());
