// What is shown and in which order: search, filters, sorting, pages.

import { counted, dataText, field, grouped, make, visible } from "./dom.js";

const SEARCH_DELAY_MS = 250;
const PAGE_SIZES = [12, 24, 48, 96];

const ORDERS = {
  colorfulness: ["most colorful", "least colorful"],
  diversity: ["draws that differ most", "draws that differ least"],
};

const OPERATORS = {
  text: { contains: "contains", eq: "is", ne: "is not" },
  number: { ge: "is at least", le: "is at most", gt: "is more than", lt: "is less than", eq: "is", ne: "is not" },
  bool: { eq: "is" },
};

/** Return the orders that a person may choose: `value` is `NAME:asc` or `NAME:desc`. */
export function sortOptions(columns) {
  const groups = { "By quality": [], "By value": [], "By name": [] };
  for (const { name, title, type, better } of columns) {
    let [down, up] = ORDERS[name] ?? [`${title}, highest first`, `${title}, lowest first`];
    let group = "By value";
    if (type === "text") {
      [down, up] = [`${title}, Z to A`, `${title}, A to Z`];
      group = "By name";
    } else if (better) {
      const [worst, best] = [`worst first: ${title}`, `best first: ${title}`];
      [down, up] = better === "lower" ? [worst, best] : [best, worst];
      group = "By quality";
    }
    const both = [{ value: `${name}:desc`, title: down }, { value: `${name}:asc`, title: up }];
    groups[group].push(...(type === "text" || (better === "higher") ? both.reverse() : both));
  }
  return groups;
}

function sortSelect(columns, state) {
  const select = make("select", {});
  select.append(new Option("as in the archive", ""));
  for (const [title, options] of Object.entries(sortOptions(columns))) {
    if (!options.length) continue;
    const group = make("optgroup", { label: title });
    group.append(...options.map((one) => new Option(visible(one.title), one.value)));
    select.append(group);
  }
  select.value = state.sort ? `${state.sort}:${state.descending ? "desc" : "asc"}` : "";
  return select;
}

/** Return a filter as words: "colorfulness is at least 20". */
export function filterText(filter, columns) {
  const column = columns.find((one) => one.name === filter.name);
  const operator = OPERATORS[column?.type ?? "text"][filter.operator] ?? filter.operator;
  return `${column?.title ?? filter.name} ${operator} ${filter.value}`;
}

function filterBox(columns, state, change) {
  const column = make("select", {});
  column.append(...columns.map((one) => new Option(visible(one.title), one.name)));
  const operator = make("select", {});
  const value = make("input", { type: "text", autocomplete: "off" });
  const chips = make("ul", { class: "chips", "aria-label": "Filters in use" });
  const add = make("button", { type: "submit", textContent: "Add filter" });
  const form = make("form", { class: "filter-form" }, field("Column", column), field("Comparison", operator), field("Value", value), add);

  function fillOperators() {
    const type = columns.find((one) => one.name === column.value)?.type ?? "text";
    operator.replaceChildren(...Object.entries(OPERATORS[type]).map(([name, title]) => new Option(title, name)));
    value.inputMode = type === "number" ? "decimal" : "text";
    value.placeholder = type === "bool" ? "true or false" : "";
  }

  function showChips() {
    chips.replaceChildren(
      ...state.where.map((filter, place) => {
        const text = filterText(filter, columns);
        const remove = make("button", { type: "button", "aria-label": `Remove the filter: ${visible(text)}`, textContent: "×" });
        remove.addEventListener("click", () => {
          change({ where: state.where.filter((_, other) => other !== place) });
          showChips();
          column.focus();
        });
        return make("li", {}, dataText(text), remove);
      }),
    );
    chips.hidden = !state.where.length;
  }

  column.addEventListener("change", fillOperators);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!value.value.trim()) return value.focus();
    change({ where: [...state.where, { name: column.value, operator: operator.value, value: value.value.trim() }] });
    value.value = "";
    return showChips();
  });
  fillOperators();
  showChips();
  const box = make("details", { class: "filters", open: state.where.length > 0 }, make("summary", { textContent: "Filter by a column" }), form);
  return make("div", {}, box, chips);
}

/**
 * Return the controls above the grid.
 *
 * state: the viewer's state, which is read; `change(values)` changes it and shows the first page anew.
 */
export function toolbar(overview, state, change) {
  const search = make("input", { type: "search", value: state.search, autocomplete: "off", spellcheck: false });
  let timer = 0;
  const find = () => {
    clearTimeout(timer);
    if (search.value !== state.search) change({ search: search.value });
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, SEARCH_DELAY_MS);
  });
  const sort = sortSelect(overview.columns, state);
  sort.addEventListener("change", () => {
    const [name, way] = sort.value.split(/:(?=[a-z]+$)/);
    change({ sort: name || null, descending: way === "desc" });
  });
  const size = make("select", {});
  size.append(...PAGE_SIZES.map((number) => new Option(String(number), String(number))));
  size.value = String(state.count);
  size.addEventListener("change", () => change({ count: Number(size.value) }));
  const form = make("form", { class: "search-form", role: "search" }, field("Key contains", search, { class: "grow" }), field("Order", sort, { class: "grow" }), field("A page", size));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  const filters = overview.columns.length ? filterBox(overview.columns, state, change) : null;
  return make("div", { class: "toolbar" }, form, filters);
}

/** Return the switch between images and errors: `update(state)` shows which is on. */
export function kindSwitch(counts, change) {
  const buttons = ["images", "errors"].map((of) => {
    const button = make("button", { type: "button", data: { of } });
    button.addEventListener("click", () => change({ of }));
    return button;
  });
  const element = make("div", { class: "kinds", role: "group", "aria-label": "What is shown" }, buttons);
  const update = (state) => {
    for (const button of buttons) {
      const of = button.dataset.of;
      button.setAttribute("aria-pressed", String(state.of === of));
      button.textContent = counts[of] === null ? of : `${of} (${grouped(counts[of])})`;
    }
  };
  return { element, update };
}

/** Return buttons that turn pages, and a field to jump to an image: `update(state, page)`. */
export function pager(name, go, canJump) {
  const previous = make("button", { type: "button", textContent: "Previous" });
  const next = make("button", { type: "button", textContent: "Next" });
  const place = make("span", { class: "place" });
  let shown = { start: 0, count: 1, total: 0 };
  // A button that is disabled loses the focus, so these are only said to be.
  const turn = (by) => {
    const start = shown.start + by * shown.count;
    if (start > -shown.count && start < shown.total) go(Math.max(0, start));
  };
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  const element = make("nav", { class: "pager", "aria-label": name }, previous, place, next);
  if (canJump) {
    const number = make("input", { type: "number", min: "1", class: "jump" });
    const form = make("form", { class: "jump-form" }, field("Go to number", number), make("button", { type: "submit", textContent: "Go" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const wanted = Math.min(Math.max(1, Math.round(Number(number.value) || 1)), Math.max(1, shown.total));
      go(wanted - 1);
    });
    element.append(form);
  }
  const update = (page) => {
    shown = page;
    const last = Math.min(page.start + page.count, page.total);
    place.textContent = page.total ? `${grouped(page.start + 1)}–${grouped(last)} of ${grouped(page.total)}` : "none";
    previous.setAttribute("aria-disabled", String(page.start <= 0));
    next.setAttribute("aria-disabled", String(last >= page.total));
  };
  return { element, update };
}

/** Return what a screen reader is told of a page. */
export function pageText(page, state, columns) {
  const what = counted(page.total, state.of === "errors" ? "error" : "image");
  const last = Math.min(page.start + page.count, page.total);
  const options = Object.values(sortOptions(columns)).flat();
  const order = options.find((one) => one.value === `${state.sort}:${state.descending ? "desc" : "asc"}`);
  const parts = [what];
  if (page.total) parts.push(`${grouped(page.start + 1)} to ${grouped(last)} shown`);
  if (order) parts.push(visible(order.title));
  if (!page.exact) parts.push("so far: the index is still being made");
  return parts.join(", ");
}
