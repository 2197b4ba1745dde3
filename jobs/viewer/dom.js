// Elements, and text from data. Nothing here or elsewhere makes HTML of a string: data is always a text node.

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

/** Return a text in which control characters, bidi controls and lone surrogates are escapes such as \u202e. */
export function visible(text) {
  return String(text).replace(HIDDEN, (one) => `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * Return a new element.
 *
 * properties: `class`, `data` (an object), `on` (listeners by event); names with a dash and `role`, `for` and `list` are
 * attributes; all others are properties of the element. Children that are null are left out.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return an element that shows a text from data, whose direction of writing does not touch what is around it. */
export function dataText(text, tag = "bdi") {
  return make(tag, { dir: "auto", textContent: visible(text) });
}

/** Return a text for screen readers alone. */
export function hiddenText(text) {
  return make("span", { class: "hidden-text", textContent: text });
}

/** Return a whole number with its thousands apart. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Return a value of a column as a text. */
export function valueText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return grouped(value);
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toFixed(digits);
}

/** Return "1 image" or "2 images". */
export function counted(number, word) {
  return `${grouped(number)} ${word}${number === 1 ? "" : "s"}`;
}

let lastId = 0;

/** Return an id that no other element has. */
export function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Return a labelled field: a label above or beside a control. */
export function field(title, control, options = {}) {
  control.id ||= newId("field");
  const label = make("label", { for: control.id, class: options.hidden ? "hidden-text" : "", textContent: title });
  return make("span", { class: `field ${options.class ?? ""}`.trim() }, label, control);
}
