// The gallery's page: what the results are, how two of them compare, how far they are, and the viewer.

import { counted, dataText, grouped, make, visible } from "./dom.js";
import { remoteSource } from "./remote.js";
import { addThemeSwitch } from "./theme.js";
import { startViewer } from "./viewer.js";

const PROGRESS_EVERY_MS = 2000;

function tile(number, title, isBad = false) {
  return make("li", { class: isBad ? "bad" : "" }, make("b", { textContent: grouped(number) }), make("span", { textContent: title }));
}

function resultSection(result, isAlone) {
  const { counts, model } = result;
  const tiles = [tile(counts.images, "images in"), tile(counts.draws, "draws out"), tile(counts.errors, "errors", counts.errors > 0)];
  if (counts.filtered) tiles.push(tile(counts.filtered, "filtered"));
  const place = make("p", { class: "note" }, make("code", {}, dataText(result.uri)));
  if (model) place.append(" by ", make("code", {}, dataText(model.uri)), " (", dataText(model.family), ")");
  const title = isAlone ? null : make("h2", { textContent: `Result ${result.name}` });
  return make("section", { "aria-label": isAlone ? "Result" : `Result ${result.name}` }, title, place, make("ul", { class: "tiles" }, tiles), evaluationBox(result.evaluation));
}

function evaluationBox(evaluation) {
  if (!evaluation) return null;
  const head = make("tr", {}, make("td", {}), evaluation.answers.map((one) => make("th", { scope: "col" }, dataText(one))));
  const rows = evaluation.rows.map(([title, ...cells]) =>
    make("tr", {}, make("th", { scope: "row" }, dataText(title)), cells.flat().map((cell) => make("td", {}, dataText(cell)))),
  );
  const table = make("table", { class: "numbers" }, make("thead", {}, head), make("tbody", {}, rows));
  return make(
    "details",
    { class: "evaluation" },
    make("summary", { textContent: "Evaluation" }),
    make("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "Evaluation" }, table),
    evaluation.sentences.map((one) => make("p", { class: "note" }, dataText(one))),
  );
}

function comparisonSection(lines) {
  if (!lines) return null;
  const code = make("code", { dir: "ltr", textContent: lines.map(visible).join("\n") });
  return make("section", { "aria-labelledby": "comparison" }, make("h2", { id: "comparison", textContent: "B compared with A" }), make("pre", { tabIndex: 0 }, code));
}

function progressBox() {
  const bar = make("progress", { "aria-labelledby": "progress-text" });
  const text = make("span", { id: "progress-text" });
  const element = make("div", { class: "progress", hidden: true }, text, bar);
  const update = ({ index, committed, total, unfinished }) => {
    const isIndexed = index.done >= index.total;
    element.hidden = !unfinished && isIndexed;
    const [done, all] = unfinished ? [committed, total] : [index.done, index.total];
    bar.max = Math.max(1, all);
    bar.value = done;
    text.textContent = unfinished
      ? `The job is not complete: ${grouped(committed)} of ${counted(total, "image")} committed`
      : `The index for search, filters and orders is being made: ${grouped(index.done)} of ${grouped(index.total)} ${index.unit ?? ""}`;
    return !element.hidden;
  };
  return { element, update };
}

function watchProgress(source, box, viewer, tell) {
  let known = "";
  let isTold = false;
  const look = async () => {
    if (document.visibilityState !== "visible") return again();
    try {
      const progress = await source.progress();
      const goesOn = box.update(progress) || progress.pending;
      if (!isTold && !progress.pending) {
        const overview = await source.overview(); // what was worked out beside the server is there now
        tell(overview);
        viewer.counts(overview.results[0].counts);
      }
      isTold = !progress.pending && !progress.unfinished;
      const now = JSON.stringify(progress);
      const page = viewer.page();
      const isFull = page.exact && page.items.length >= page.count;
      if (now !== known && known && !isFull && !document.querySelector("dialog[open]")) await viewer.refresh({ isQuiet: true });
      known = now;
      if (!goesOn) return undefined;
    } catch {
      // the server may be back at the next look
    }
    return again();
  };
  const again = () => setTimeout(look, PROGRESS_EVERY_MS);
  look();
}

async function startGallery() {
  const header = document.querySelector("header");
  addThemeSwitch(header);
  const source = remoteSource();
  const about = document.getElementById("about");
  const root = document.getElementById("viewer");
  try {
    const overview = await source.overview();
    const box = progressBox();
    const tell = (values) => {
      const parts = [...values.results.map((one) => resultSection(one, values.results.length === 1)), comparisonSection(values.comparison)];
      if (values.pending) parts.push(make("p", { class: "note", textContent: "The evaluation is being read …" }));
      about.replaceChildren(...parts.filter(Boolean), box.element);
    };
    document.title = `${visible(overview.title)} – condgen gallery`;
    header.querySelector("h1").replaceChildren(dataText(overview.title));
    tell(overview);
    const viewer = await startViewer(root, { ...source, overview: async () => overview }, { canJump: true });
    watchProgress(source, box, viewer, tell);
  } catch (error) {
    root.replaceChildren(make("p", { class: "no", role: "alert", textContent: `The gallery can't be shown: ${visible(error.message)}` }));
  }
}

startGallery();
