// The dialog of one image: two of its pictures compared at full size, its row's values, and commands.

import { commandBlock, RETRY_TITLE } from "./commands.js";
import { largeComparison } from "./compare.js";
import { dataText, field, make, valueText, visible } from "./dom.js";
import { referenceOf } from "./grid.js";

function detailsTable(details) {
  const rows = Object.entries(details).map(([name, value]) =>
    make("tr", {}, make("th", { scope: "row" }, dataText(name)), make("td", {}, dataText(typeof value === "object" && value !== null ? JSON.stringify(value) : valueText(value)))),
  );
  return make("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "Values of the image" }, make("table", {}, make("tbody", {}, rows)));
}

function defaultPair(item, picture) {
  const draws = item.pictures.filter((one) => one.role === "draw" && one.thumb);
  const ofB = draws.find((one) => one.result === "B");
  const reference = referenceOf(item);
  if (picture && picture.role === "draw") return [reference ?? picture, picture];
  if (!picture && ofB) return [draws[0], ofB];
  return [picture ?? reference ?? item.pictures[0], draws[0] ?? reference ?? item.pictures[0]];
}

/**
 * Return the dialog: `open(item, picture)`; it asks `view.details(item)` for what the grid does not have, and
 * `view.neighbor(item, step)` for the image before (-1) or after (1).
 */
export function imageDialog(view) {
  const title = make("h2", { id: "dialog-title", tabIndex: -1 });
  const comparison = largeComparison();
  const left = make("select", {});
  const right = make("select", {});
  const body = make("div", { class: "dialog-details" });
  const status = make("p", { class: "hidden-text", role: "status" });
  const previous = make("button", { type: "button", textContent: "Previous" });
  const next = make("button", { type: "button", textContent: "Next" });
  const close = make("button", { type: "button", textContent: "Close" });
  const head = make("div", { class: "dialog-head" }, title, make("div", { class: "buttons" }, previous, next, close));
  const choice = make("div", { class: "choice" }, field("Left", left), field("Right", right));
  const dialog = make("dialog", { "aria-labelledby": "dialog-title" }, head, comparison.element, choice, body, status);
  let current = null;
  let opener = null;

  const announce = (text) => (status.textContent = text);

  function compareChosen() {
    comparison.show(current, current.pictures[left.selectedIndex], current.pictures[right.selectedIndex]);
  }

  async function show(item, picture) {
    current = item;
    title.replaceChildren(dataText(item.key));
    for (const select of [left, right]) select.replaceChildren(...item.pictures.map((one) => new Option(one.label)));
    const [first, second] = defaultPair(item, picture);
    left.selectedIndex = item.pictures.indexOf(first);
    right.selectedIndex = item.pictures.indexOf(second);
    compareChosen();
    body.replaceChildren(make("p", { class: "note", textContent: "Loading the values …" }));
    await showDetails(item);
  }

  async function showDetails(item) {
    let parts;
    try {
      const whole = await view.details(item);
      const draws = whole.pictures.filter((one) => one.role === "draw");
      const titleOf = (place) => `Make ${draws[place]?.label ?? "a draw"} again, and compare it with the stored one`;
      const commands = (whole.commands?.redraw ?? []).map((one, place) => [titleOf(place), one]);
      if (whole.commands?.extract) commands.unshift(["Write the image as a file", whole.commands.extract]);
      if (whole.commands?.retry) commands.unshift([RETRY_TITLE, whole.commands.retry]);
      parts = [
        make("h3", { textContent: "Commands" }),
        ...commands.map(([name, command]) => commandBlock(name, command, announce)),
        make("h3", { textContent: "Values" }),
        detailsTable(whole.details ?? whole.values),
      ];
    } catch (error) {
      parts = [make("p", { class: "no", textContent: `The values can't be read: ${visible(error.message)}` })];
    }
    if (current === item) body.replaceChildren(...parts);
  }

  async function step(by) {
    const item = await view.neighbor(current, by);
    if (!item) return announce(by > 0 ? "This is the last image" : "This is the first image");
    announce(visible(item.key));
    return show(item, null);
  }

  previous.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  close.addEventListener("click", () => dialog.close());
  left.addEventListener("change", compareChosen);
  right.addEventListener("change", compareChosen);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "PageDown" || event.key === "PageUp") {
      event.preventDefault();
      step(event.key === "PageDown" ? 1 : -1);
    }
  });
  dialog.addEventListener("close", () => {
    const card = document.querySelector(`button.key[data-item="${CSS.escape(current.id)}"]`);
    (card ?? opener)?.focus();
  });

  function open(item, picture) {
    opener = document.activeElement;
    dialog.showModal();
    title.focus();
    return show(item, picture);
  }

  return { element: dialog, open };
}
