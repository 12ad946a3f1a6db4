// What a message looks like, and where the reader is in the conversation.
import { nodesOf } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const log = $("log");
const scroller = $("scroller");
const latest = $("latest");
const live = $("live");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const NEAR_PX = 80;

function made(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function when(text) {
  const at = text ? new Date(text) : new Date();
  const today = at.toDateString() === new Date().toDateString();
  const time = made("time", "", today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`);
  time.dateTime = at.toISOString();
  return time;
}

/** Say something to a screen reader, after what it is saying. */
export function announce(text) {
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

/** Whether the reader is at the end of the conversation, and stays there as it grows. */
let atEnd = true;
const isNearEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_PX;
scroller.addEventListener("scroll", () => {
  atEnd = isNearEnd();
  if (atEnd) latest.hidden = true;
}, { passive: true });
latest.addEventListener("click", () => {
  toEnd();
  scroller.focus();
});
new ResizeObserver(() => grown()).observe(log);
new ResizeObserver(() => grown()).observe(scroller);

/** Go to the end of the conversation. */
export function toEnd() {
  atEnd = true;
  scroller.scrollTop = scroller.scrollHeight;
  latest.hidden = true;
}

function grown() {
  if (atEnd) toEnd();
  else if (!isNearEnd()) latest.hidden = false;
}

/** Take every message away. */
export function clear() {
  log.replaceChildren();
  toEnd();
}

/** What a person wrote. */
export class Question {
  constructor(content, at) {
    this.note = made("p", "note");
    this.note.hidden = true;
    const body = made("div", "bubble", content);
    this.element = made("article", "question", made("h2", "hidden", "You, ", when(at)), body, this.note);
    log.append(this.element);
  }

  /** Say beside it what became of it: "" for nothing. */
  says(text, isError = false) {
    this.note.textContent = text;
    this.note.hidden = !text;
    this.element.classList.toggle("failed", isError);
  }
}

/** What the agent says, or that it is about to. */
export class Answer {
  constructor(at) {
    this.text = "";
    this.name = made("span", "name", "Assistant");
    const mark = $("mark").cloneNode(true);
    mark.removeAttribute("id");
    mark.setAttribute("class", "avatar");
    this.time = when(at);
    this.body = made("div", "answer-body markdown");
    this.progress = made("p", "progress", made("span", "dots", made("i"), made("i"), made("i")), made("span", "progress-text"));
    this.progress.firstChild.setAttribute("aria-hidden", "true");
    const head = made("h2", "answer-head", mark, this.name, this.time);
    this.element = made("article", "answer", head, this.body, this.progress);
    this.element.setAttribute("aria-busy", "true");
    this.frame = 0;
    log.append(this.element);
  }

  /** Show that it is being worked on. */
  working(text) {
    if (this.progress.lastChild.textContent !== text) this.progress.lastChild.textContent = text;
  }

  /** The next piece of the text. */
  add(text) {
    this.text += text;
    this.draw();
  }

  /** The text so far does not count. */
  restart() {
    this.text = "";
    this.draw();
  }

  draw() {
    this.element.classList.toggle("writing", this.text !== "");
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.body.replaceChildren(...nodesOf(this.text));
    });
  }

  /** The whole answer. */
  finish(text, agentId, at) {
    this.text = text;
    if (agentId) this.name.textContent = nameOf(agentId);
    this.settle(at);
    this.body.replaceChildren(...nodesOf(text));
  }

  /** There is no answer: why, and what a person can do. */
  fail(sentence, retry) {
    this.settle();
    const box = made("div", "failure", made("p", "", sentence));
    if (retry) {
      const button = made("button", "quiet", "Try again");
      button.type = "button";
      button.addEventListener("click", retry);
      box.append(button);
    }
    this.body.replaceChildren(box);
  }

  settle(at) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.progress.remove();
    this.element.classList.remove("writing");
    this.element.removeAttribute("aria-busy");
    const time = when(at);
    this.time.replaceWith(time);
    this.time = time;
  }

  /** Its text as it reads, without Markdown's signs. */
  spoken() {
    const copy = this.body.cloneNode(true);
    for (const head of copy.querySelectorAll(".code-head")) head.remove();
    return copy.textContent;
  }
}

/** laptop-refresh as people would say it. */
function nameOf(agentId) {
  const words = agentId.replaceAll("-", " ").replace(/ agent$/, "");
  return words === "routing" ? "Assistant" : words.charAt(0).toUpperCase() + words.slice(1);
}
