// Two images over each other, and a slider that moves the edge between them.

import { dataText, field, make, visible } from "./dom.js";

function missingElement(picture, reason) {
  const alt = `${visible(picture.alt)}: not shown`;
  return make("div", { class: "missing", role: "img", "aria-label": alt }, dataText(reason || "no image", "span"));
}

/** Return why an image can't be loaded: a server says it where the image would be. */
async function reasonOf(uri) {
  if (!uri.startsWith("/")) return "the image can't be decoded";
  try {
    return (await (await fetch(uri, { credentials: "same-origin" })).json()).error;
  } catch {
    return "the image can't be loaded";
  }
}

/** Return an image, or the text that says why there is none. */
export function imageElement(picture, options = {}) {
  const uri = (options.full && picture.full) || picture.thumb;
  if (!uri) return missingElement(picture, picture.missing);
  const image = make("img", { alt: options.silent ? "" : visible(picture.alt), decoding: "async", draggable: false });
  if (options.lazy) image.loading = "lazy";
  image.addEventListener("error", async () => {
    const box = image.closest(".over"); // half of a comparison that there can't be
    if (box) box.remove();
    else image.replaceWith(missingElement(picture, picture.missing || (await reasonOf(uri))));
  });
  image.src = uri;
  return image;
}

/** Return a range input from 0 to 100 with a name, whose value is read as a share of what is over. */
export function slider(name, over, onInput) {
  const range = make("input", { type: "range", min: "0", max: "100", step: "1", value: "0", "aria-label": name });
  const tell = () => {
    range.setAttribute("aria-valuetext", `${range.value} % ${over}`);
    onInput(Number(range.value));
  };
  range.addEventListener("input", tell);
  range.setAttribute("aria-valuetext", `0 % ${over}`);
  return range;
}

/** Return a box in which `over` covers `under` from the left up to `--split`. */
export function pair(under, over) {
  const box = make("div", { class: "pair" }, imageElement(under, { lazy: true }));
  if (!over || !over.thumb || !under.thumb) return box;
  const layer = make("span", { class: "over", "aria-hidden": "true" }, imageElement(over, { lazy: true, silent: true }));
  box.append(layer);
  // While a pointer is over it, the edge follows the pointer; then the card's slider holds again.
  const follow = (event) => {
    const place = box.getBoundingClientRect();
    box.style.setProperty("--split", `${Math.max(0, Math.min(100, (100 * (event.clientX - place.left)) / place.width))}%`);
    box.classList.add("is-split");
  };
  const leave = () => {
    box.style.removeProperty("--split");
    box.classList.remove("is-split");
  };
  box.addEventListener("pointermove", follow);
  box.addEventListener("pointerleave", leave);
  box.addEventListener("pointercancel", leave);
  return box;
}

/**
 * Return the large comparison of a dialog: the element, and `show(item, left, right)` which takes pictures of an item.
 *
 * The right image covers the left one from the edge on. Images are as large as fits, or at a zoom of their own pixels.
 */
export function largeComparison() {
  const stage = make("div", { class: "stage", tabIndex: 0, role: "group", "aria-label": "Images over each other" });
  const frame = make("div", { class: "frame" });
  stage.append(frame);
  const range = slider("Edge between the left and the right image", "of the left image", (value) => split(value));
  const zoom = make("select", {});
  for (const [value, title] of [["fit", "Fit"], ["1", "100 %"], ["2", "200 %"], ["4", "400 %"]]) zoom.append(new Option(title, value));
  let size = { width: 4, height: 3 };

  function split(value) {
    frame.style.setProperty("--split", `${value}%`);
  }

  function layout() {
    frame.style.setProperty("--ratio", String(size.width / size.height));
    frame.style.setProperty("--width", `${size.width * (zoom.value === "fit" ? 1 : Number(zoom.value))}px`);
    frame.classList.toggle("is-zoomed", zoom.value !== "fit");
  }

  function setValue(value) {
    range.value = String(value);
    range.dispatchEvent(new Event("input"));
  }

  const drag = (event) => {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    const place = frame.getBoundingClientRect();
    setValue(Math.round((100 * (event.clientX - place.left)) / place.width));
  };
  frame.addEventListener("pointerdown", drag);
  frame.addEventListener("pointermove", drag);
  zoom.addEventListener("change", layout);

  function show(item, left, right) {
    const under = imageElement(right, { full: true });
    const isPair = left !== right && left.thumb && right.thumb;
    frame.replaceChildren(under);
    if (isPair) frame.append(make("span", { class: "over" }, imageElement(left, { full: true })));
    range.disabled = !isPair;
    size = { width: item.width || 4, height: item.height || 3 };
    if (!item.width && under.tagName === "IMG") {
      under.addEventListener("load", () => {
        size = { width: under.naturalWidth, height: under.naturalHeight };
        layout();
      });
    }
    layout();
    setValue(50);
  }

  const element = make(
    "div",
    { class: "comparison" },
    stage,
    make("div", { class: "comparison-controls" }, field("Edge", range, { class: "grow" }), field("Zoom", zoom)),
  );
  return { element, show };
}
