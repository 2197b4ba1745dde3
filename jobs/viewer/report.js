// The report's page: the plain list of its sample, which needs no script, becomes a viewer.

import { embeddedSource } from "./embedded.js";
import { addThemeSwitch } from "./theme.js";
import { startViewer } from "./viewer.js";

function startReport() {
  addThemeSwitch(document.querySelector("header"));
  const plain = document.getElementById("plain");
  const data = document.getElementById("data");
  if (!plain || !data) return;
  const uris = new Map([...document.querySelectorAll("figure img[id]")].map((image) => [image.id, image.src]));
  const content = JSON.parse(data.textContent);
  if (!content.items.length && !content.errors.length) return;
  const source = embeddedSource(content, (id) => uris.get(id));
  const root = document.getElementById("viewer");
  startViewer(root, source).then(() => {
    plain.remove();
    document.getElementById("plain-errors")?.remove();
    root.hidden = false;
  });
}

startReport();
