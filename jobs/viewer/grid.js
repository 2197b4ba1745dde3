// The grid: a card for each image with its input, draws and original, and a card for each error.

import { commandBlock, RETRY_TITLE } from "./commands.js";
import { imageElement, pair, slider } from "./compare.js";
import { dataText, hiddenText, make, newId, valueText, visible } from "./dom.js";

const MOST_VALUES = 4;

/** Return the picture that draws are compared with: the original, or else the input. */
export function referenceOf(item) {
  const usable = item.pictures.filter((picture) => picture.thumb);
  return usable.find((picture) => picture.role === "original") ?? usable.find((picture) => picture.role === "input") ?? null;
}

function figureOf(picture, reference, open) {
  const isDraw = picture.role === "draw";
  const box = isDraw ? pair(picture, reference) : make("div", { class: "pair" }, imageElement(picture, { lazy: true }));
  box.addEventListener("click", () => open(picture));
  return make("figure", { class: picture.role }, box, make("figcaption", { textContent: picture.label }));
}

function picturesOf(item, open) {
  const reference = referenceOf(item);
  const figures = (pictures) => pictures.map((picture) => figureOf(picture, reference, open));
  const ofResult = (name) => item.pictures.filter((picture) => picture.role === "draw" && picture.result === name);
  const others = (role) => item.pictures.filter((picture) => picture.role === role);
  if (!ofResult("B").length) {
    return make("div", { class: "pictures" }, figures([...others("input"), ...ofResult("A"), ...others("original")]));
  }
  const group = (title, pictures) =>
    make("div", { class: "result", role: "group", "aria-label": title }, make("div", { class: "pictures" }, figures(pictures)));
  return make(
    "div",
    { class: "results" },
    group("Input and original", [...others("input"), ...others("original")]),
    group("Result A", ofResult("A")),
    group("Result B", ofResult("B")),
  );
}

function valuesOf(item, columns, sort) {
  const told = columns.filter((column) => column.name === sort || !["width", "height"].includes(column.name)); // the title has these
  const ordered = told.sort((a, b) => (b.name === sort) - (a.name === sort));
  const known = ordered.filter((column) => item.values?.[column.name] !== undefined && item.values[column.name] !== null);
  const parts = known.slice(0, MOST_VALUES).map((column) =>
    make(
      "span",
      { class: column.name === sort ? "value is-sorted" : "value" },
      make("span", { textContent: `${column.title} ` }),
      dataText(valueText(item.values[column.name]), "b"),
    ),
  );
  return parts.length ? make("p", { class: "values" }, parts) : null;
}

function sizeText(item) {
  const parts = item.width && item.height ? [`${item.width} × ${item.height} px`] : [];
  const isNamed = item.source === item.key || item.source.startsWith(`${item.key}.`);
  const nodes = parts.map((part) => make("span", { textContent: part }));
  if (!isNamed) nodes.push(dataText(item.source, "span"));
  return nodes.length ? make("p", { class: "size" }, nodes) : null;
}

/**
 * Return the card of an image.
 *
 * view: `columns`, `sort`, `isSelected(item)`, `select(item, isSelected)`, `open(item, picture)`.
 */
export function imageCard(item, view) {
  const title = newId("title");
  const open = (picture) => view.open(item, picture);
  const opener = make("button", { type: "button", class: "key", data: { item: item.id }, on: { click: () => open(null) } });
  opener.append(dataText(item.key), hiddenText(", open"));
  const box = make("input", { type: "checkbox", checked: view.isSelected(item), "aria-label": `Select ${visible(item.key)}` });
  box.addEventListener("change", () => view.select(item, box.checked));
  const card = make("li", { class: "card" });
  const head = make("div", { class: "card-head" }, box, make("h3", { id: title }, opener), sizeText(item));
  const article = make("article", { "aria-labelledby": title }, head, picturesOf(item, open));
  const reference = referenceOf(item);
  const isComparable = reference && item.pictures.some((picture) => picture.role === "draw" && picture.thumb);
  if (isComparable) {
    const range = slider(`${reference.label} over the draws of ${visible(item.key)}`, `of the ${reference.label}`, (value) =>
      article.style.setProperty("--split", `${value}%`),
    );
    const ends = [make("span", { textContent: "draws" }), range, make("span", { textContent: reference.label })];
    article.append(make("div", { class: "card-slider" }, ends));
  }
  const values = valuesOf(item, view.columns, view.sort);
  if (values) article.append(values);
  card.append(article);
  return card;
}

/** Return the card of an error: what failed, why, and how it is tried again. */
export function errorCard(item, view) {
  const title = newId("title");
  const input = item.pictures.find((picture) => picture.role === "input");
  const facts = make(
    "dl",
    { class: "error-facts" },
    make("dt", { textContent: "Stage" }), dataText(item.error.stage, "dd"),
    make("dt", { textContent: "Error" }), dataText(item.error.error, "dd"),
    make("dt", { textContent: "Message" }), dataText(item.error.message, "dd"),
  );
  const body = make("div", { class: "error-body" }, input ? figureOf(input, null, () => {}) : null, facts);
  const article = make(
    "article",
    { "aria-labelledby": title },
    make("div", { class: "card-head" }, make("h3", { id: title }, dataText(item.key)), sizeText(item)),
    body,
  );
  if (item.commands?.retry) article.append(commandBlock(RETRY_TITLE, item.commands.retry, view.announce));
  return make("li", { class: "card card-error" }, article);
}
