// The viewer: a grid of images from a source, with search, filters, orders, pages, a selection and a dialog.
//
// A source has `overview()`, `images(query)` and `image(id)`, which are asynchronous; the report's reads the page itself,
// the gallery's asks a server. Both return what docs/gallery.md describes.

import { copyButton, extractCommand } from "./commands.js";
import { imageDialog } from "./dialog.js";
import { counted, make, visible } from "./dom.js";
import { errorCard, imageCard } from "./grid.js";
import { kindSwitch, pageText, pager, toolbar } from "./toolbar.js";

const CARD_PICTURE_PX = 190;
const DEFAULTS = { start: 0, count: 24, sort: null, descending: false, search: "", where: [], of: "images" };

function stateOfAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...DEFAULTS, where: [] };
  for (const name of ["start", "count"]) if (/^\d+$/.test(given.get(name) ?? "")) state[name] = Number(given.get(name));
  state.count = Math.min(Math.max(state.count, 1), 96);
  state.sort = given.get("sort") || null;
  state.descending = given.get("descending") === "1";
  state.search = given.get("search") ?? "";
  state.of = given.get("of") === "errors" ? "errors" : "images";
  state.where = given.getAll("where").map(parsedFilter).filter(Boolean);
  return state;
}

function parsedFilter(text) {
  const parts = /^(.+?):(eq|ne|lt|le|gt|ge|contains):(.*)$/s.exec(text);
  return parts && { name: parts[1], operator: parts[2], value: parts[3] };
}

/** Return a state as the parameters of an address, without what is the default. */
export function queryOf(state) {
  const query = new URLSearchParams();
  for (const name of ["start", "count", "sort", "search", "of"]) {
    if (state[name] !== DEFAULTS[name]) query.set(name, state[name]);
  }
  if (state.descending) query.set("descending", "1");
  for (const one of state.where) query.append("where", `${one.name}:${one.operator}:${one.value}`);
  return query;
}

function rememberState(state) {
  const text = queryOf(state).toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

function selectionBar(overview, selection, announce, onClear) {
  const text = make("span", {});
  const uri = overview.results[0]?.uri ?? "RESULTS";
  const copy = copyButton("Copy as condgen extract", () => extractCommand(uri, [...selection.values()]), announce);
  copy.classList.add("primary");
  const clear = make("button", { type: "button", textContent: "Clear", on: { click: onClear } });
  const element = make("div", { class: "selection", role: "region", "aria-label": "Selection", hidden: true }, text, copy, clear);
  const update = () => {
    element.hidden = selection.size === 0;
    text.textContent = `${counted(selection.size, "image")} selected`;
  };
  return { element, update };
}

/**
 * Show a source in an element.
 *
 * options: `canJump` (a field to go to an image by its number). Returns `refresh()`, which shows the page anew, and
 * `page()`, the page that is shown.
 */
export async function startViewer(root, source, options = {}) {
  const overview = await source.overview();
  const counts = { images: null, errors: null, ...overview.results[0]?.counts };
  counts.images = counts.with_draws ?? counts.images;
  const state = stateOfAddress();
  const selection = new Map();
  const status = make("p", { class: "status", role: "status", tabIndex: -1 });
  const trouble = make("p", { class: "no", role: "alert", hidden: true });
  const grid = make("ul", { class: "grid", "aria-label": "Images" });
  let page = { items: [], total: 0, start: 0, count: state.count, exact: true };
  let lastAsked = 0;

  const announce = (text) => (status.textContent = text);
  const change = (values) => {
    const other = values.of && values.of !== state.of ? { sort: null, descending: false, where: [] } : {};
    Object.assign(state, { start: 0 }, other, values);
    if (values.of) placeToolbar();
    refresh();
  };
  const go = (start, from) => {
    state.start = start;
    refresh().then(() => from === "bottom" && (status.focus(), root.scrollIntoView()));
  };

  const view = {
    columns: overview.columns.filter((one) => one.type !== "text" || one.of !== "file"),
    get sort() {
      return state.sort;
    },
    isSelected: (item) => selection.has(item.id),
    select: (item, isSelected) => {
      if (isSelected) selection.set(item.id, item);
      else selection.delete(item.id);
      bar.update();
    },
    open: (item, picture) => dialog.open(item, picture),
    details: (item) => source.image(item.id),
    neighbor,
    announce,
  };

  async function neighbor(item, step) {
    const place = page.items.findIndex((one) => one.id === item.id) + step;
    if (place >= 0 && place < page.items.length) return page.items[place];
    const start = page.start + step * state.count;
    if (start <= -state.count || start >= page.total) return null;
    state.start = Math.max(0, start);
    await refresh();
    return (step > 0 ? page.items[0] : page.items.at(-1)) ?? null;
  }

  const bar = selectionBar(overview, selection, announce, () => {
    selection.clear();
    for (const box of grid.querySelectorAll("input[type=checkbox]")) box.checked = false;
    bar.update();
    status.focus();
  });
  const dialog = imageDialog(view);
  const kinds = kindSwitch(counts, change);
  const top = pager("Pages, above the images", (start) => go(start, "top"), options.canJump);
  const bottom = pager("Pages, below the images", (start) => go(start, "bottom"), false);
  const tools = make("div", {});
  const placeToolbar = () => {
    const columns = state.of === "errors" ? [] : overview.columns;
    tools.replaceChildren(toolbar({ ...overview, columns }, state, change));
  };

  async function refresh({ isQuiet = false } = {}) {
    lastAsked += 1;
    const asked = lastAsked;
    if (!isQuiet) grid.setAttribute("aria-busy", "true");
    rememberState(state);
    kinds.update(state);
    let found;
    try {
      found = await source.images({ ...state });
    } catch (error) {
      if (asked !== lastAsked) return;
      trouble.textContent = `Not shown: ${visible(error.message)}`;
      trouble.hidden = false;
      grid.removeAttribute("aria-busy");
      return;
    }
    if (asked !== lastAsked) return; // a later question is on its way
    if (!found.items.length && found.total && state.start >= found.total) {
      state.start = Math.floor((found.total - 1) / state.count) * state.count;
      await refresh();
      return;
    }
    trouble.hidden = true;
    const shown = page.items;
    page = { ...found, start: state.start, count: state.count };
    const card = (item) => (item.error ? errorCard(item, view) : imageCard(item, view));
    if (isQuiet && shown.every((item, place) => item.id === page.items[place]?.id)) {
      grid.append(...page.items.slice(shown.length).map(card)); // what is there stays as it is
    } else {
      grid.replaceChildren(...page.items.map(card));
    }
    grid.style.setProperty("--card-width", `${CARD_PICTURE_PX * (Math.max(1, ...page.items.map((item) => item.pictures.length)))}px`);
    grid.setAttribute("aria-label", state.of === "errors" ? "Errors" : "Images");
    grid.removeAttribute("aria-busy");
    for (const one of [top, bottom]) one.update(page);
    const text = pageText(page, state, overview.columns);
    if (text !== status.textContent) announce(text);
  }

  placeToolbar();
  root.replaceChildren(kinds.element, tools, trouble, status, top.element, grid, bottom.element, bar.element, dialog.element);
  await refresh();
  return { refresh, page: () => page, counts: (values) => (Object.assign(counts, values), kinds.update(state)) };
}
