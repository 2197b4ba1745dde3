// The switch between light and dark. Without a choice, the page follows the system.

const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };

function storedTheme() {
  try {
    const name = localStorage.getItem("condgen-theme");
    return name in THEMES ? name : "auto";
  } catch {
    return "auto"; // a page from a file may have no storage
  }
}

function applyTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("condgen-theme", name);
  } catch {
    // the choice lasts as long as the page
  }
}

/** Put the switch at the beginning of the page's header. */
export function addThemeSwitch(header) {
  const select = document.createElement("select");
  select.className = "theme";
  select.setAttribute("aria-label", "Colors of the page");
  for (const [value, title] of Object.entries(THEMES)) select.append(new Option(title, value));
  select.value = storedTheme();
  select.addEventListener("change", () => applyTheme(select.value));
  header.prepend(select);
  applyTheme(select.value);
}
