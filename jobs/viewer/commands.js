// Commands to copy: quoted for a POSIX shell, or for bash where a name has control characters.

import { make, visible } from "./dom.js";

/** What a retry is called: a plan does not hold which images a job left to other jobs. */
export const RETRY_TITLE = "Try all that failed again (add the job's own --where, --limit or --roles if it had any)";

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;
const CONTROL = /[\u0000-\u001f\u007f]/;
const MOST_KEYS = 8;

/** Return a text as one word of a shell. */
export function quoted(text) {
  if (PLAIN.test(text)) return text;
  if (!CONTROL.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = text.replace(/[\\']/g, "\\$&");
  return `$'${escaped.replace(/[\u0000-\u001f\u007f]/g, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`)}'`;
}

/** Return the command that writes the draws of some images as files. */
export function extractCommand(uri, items) {
  const command = `condgen extract ${quoted(uri)} images/`;
  const hasBreaks = items.some((item) => CONTROL.test(item.source + item.key));
  const keys = new Set(items.map((item) => item.key));
  if (hasBreaks || (items.length <= MOST_KEYS && keys.size === items.length)) {
    return [command, ...items.map((item) => `--key ${quoted(item.key)}`)].join(" ");
  }
  const lines = items.map((item) => `${item.source}\t${item.key}`);
  return `${command} --keys - <<'END'\n${lines.join("\n")}\nEND`;
}

/** Copy a text, and tell whether it worked. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text, class: "hidden-text" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    const focused = document.activeElement;
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}

/** Return a button that copies a text and says so to `announce`. */
export function copyButton(title, text, announce) {
  const button = make("button", { type: "button", class: "copy", textContent: title });
  button.addEventListener("click", async () => {
    const copied = await copyText(typeof text === "function" ? text() : text);
    const said = copied ? "Copied" : "Can't copy here: select the text";
    announce(said);
    button.textContent = said;
    setTimeout(() => (button.textContent = title), 1800);
  });
  return button;
}

/** Return a command with its button. */
export function commandBlock(title, command, announce) {
  const copy = copyButton("Copy", command, announce);
  copy.setAttribute("aria-label", `Copy: ${title}`);
  return make(
    "div",
    { class: "command" },
    make("p", { class: "note", textContent: title }),
    make("div", { class: "command-line" }, make("pre", { tabIndex: 0 }, make("code", { dir: "ltr", textContent: visible(command) })), copy),
  );
}
