// A request's page: loaded again when the request moves, until it has arrived; and its dead letters' replay buttons.
import { replay } from "./replay.js";

const { request, status } = document.body.dataset;
const isMoving = document.body.dataset.moving === "true";
const notice = document.getElementById("notice");

for (const button of document.querySelectorAll("[data-replay]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    const sent = await replay(button.dataset.replay, notice);
    button.disabled = sent;
    follow();
  });
}

let feed = null;

/** Watch the request; what is seen first counts only when it has come to rest since this was loaded. */
function follow() {
  if (feed) return;
  feed = new EventSource(`/_platform/feed?request=${encodeURIComponent(request)}`);
  let isFirst = true;
  feed.onmessage = (event) => {
    const [seen] = JSON.parse(event.data).requests;
    const moved = seen && (!isFirst || (isMoving && seen.status !== "open"));
    isFirst = false;
    if (moved && !document.querySelector("details[open]")) location.reload();
    else if (moved) {
      notice.textContent = "The request has moved since this was loaded.";
      notice.hidden = false;
    }
  };
}

if (isMoving || ["queued", "processing"].includes(status)) follow();
