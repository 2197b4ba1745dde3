// The report's page: the plain list of its sample, which needs no script, becomes a viewer.

import { embeddedSource } from "./embedded.js";
import { addThemeSwitch } from "./theme.js";
import { startViewer } from "./viewer.js";

function startReport() {
  addThemeSwitch(document.querySelector("header"));
  const plain = document.getElementById("plain");
  const data = document.getElementById("data");
  if (!plain || !data) return;
  const uris = new Map([...document.querySelectorAll("#plain img[id], #plain-errors img[id]")].map((image) => [image.id, image.src]));
  const source = embeddedSource(JSON.parse(data.textContent), (id) => uris.get(id));
  const root = document.getElementById("viewer");
  startViewer(root, source).then(() => {
    plain.remove();
    document.getElementById("plain-errors")?.remove();
    root.hidden = false;
  });
}

startReport();
