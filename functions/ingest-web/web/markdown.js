// Markdown to nodes. The model's text never becomes HTML: marked reads it into tokens, and each token becomes an element that we
// make. What Markdown passes on as HTML is shown as the text it is; images are not loaded; links lead only to web and mail.
import { marked } from "./marked.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const OPTIONS = { gfm: true, breaks: true };

/** The nodes of a Markdown text. */
export function nodesOf(text) {
  return blocks(marked.lexer(text, OPTIONS));
}

function element(name, children = [], attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function blocks(tokens = []) {
  return tokens.flatMap(block);
}

function block(token) {
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading": // below the page's own headings
      return [element(`h${Math.min(6, token.depth + 2)}`, inlines(token.tokens))];
    case "paragraph":
      return [element("p", inlines(token.tokens))];
    case "code":
      return [code(token)];
    case "blockquote":
      return [element("blockquote", blocks(token.tokens))];
    case "hr":
      return [element("hr")];
    case "list":
      return [list(token)];
    case "table":
      return [table(token)];
    case "text":
      return token.tokens ? inlines(token.tokens) : [token.text];
    case "html":
      return [element("p", [token.text.trimEnd()])];
    default:
      return [inline(token)];
  }
}

function code(token) {
  const language = /^[\w+#.-]{1,30}/.exec(token.lang ?? "")?.[0];
  const copy = element("button", ["Copy"], { type: "button", class: "copy" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(token.text);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Not copied";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const head = element("div", [element("span", [language ?? "text"]), copy], { class: "code-head" });
  const label = language ? `Code, ${language}` : "Code";
  const pre = element("pre", [element("code", [token.text])], { tabindex: "0", role: "region", "aria-label": label });
  return element("div", [head, pre], { class: "code" });
}

function list(token) {
  const start = token.ordered && token.start > 1 ? { start: token.start } : {};
  const items = token.items.map((item) => {
    const children = item.tokens.filter((one) => one.type !== "checkbox").flatMap((one) =>
      one.type === "paragraph" && !item.loose ? inlines(one.tokens) : block(one),
    );
    return item.task
      ? element("li", [item.checked ? "☑ " : "☐ ", ...children], { class: "task" })
      : element("li", children);
  });
  return element(token.ordered ? "ol" : "ul", items, start);
}

function table(token) {
  const row = (cells, name) =>
    element("tr", cells.map((cell, column) => {
      const align = token.align[column];
      const scope = name === "th" ? { scope: "col" } : {};
      return element(name, inlines(cell.tokens), align ? { class: `to-${align}`, ...scope } : scope);
    }));
  const head = element("thead", [row(token.header, "th")]);
  const body = element("tbody", token.rows.map((cells) => row(cells, "td")));
  const wrap = { class: "table", tabindex: "0", role: "region", "aria-label": "Table" };
  return element("div", [element("table", [head, body])], wrap);
}

function inlines(tokens = []) {
  return tokens.map(inline);
}

function inline(token) {
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return element(token.type, inlines(token.tokens));
    case "codespan":
      return element("code", [token.text]);
    case "br":
      return element("br");
    case "link":
      return link(token.href, inlines(token.tokens));
    case "image":
      return link(token.href, [token.text || token.href]);
    case "text":
      return token.tokens ? element("span", inlines(token.tokens)) : token.text;
    case "escape":
      return token.text;
    default: // HTML, and whatever a newer marked may know
      return token.text ?? token.raw;
  }
}

function link(href, children) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return element("span", children);
  }
  if (!SCHEMES.has(url.protocol)) return element("span", children);
  return element("a", children, { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" });
}
