// The page of a training run: a slider over the steps of which there are sheets of samples, which the charts follow.
import { addThemeSwitch } from "./theme.js";

function moveCursors(step) {
  for (const chart of document.querySelectorAll("svg.chart")) {
    const { left, right, lastStep } = chart.dataset;
    const cursor = chart.querySelector(".cursor");
    const place = Number(left) + (Number(right) - Number(left)) * (step / Number(lastStep));
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.toggleAttribute("hidden", step > Number(lastStep));
  }
}

function startSlider(controls) {
  const slider = controls.querySelector("input");
  const sheets = [...document.querySelectorAll(".sheet")];
  const [back, forward] = controls.querySelectorAll("button");

  function show(place) {
    const shown = Math.min(sheets.length - 1, Math.max(0, place));
    sheets.forEach((sheet, number) => (sheet.hidden = number !== shown));
    const { step, text } = sheets[shown].dataset;
    slider.value = shown;
    slider.setAttribute("aria-valuetext", `step ${text}`);
    controls.querySelector(".step").textContent = text;
    back.disabled = shown === 0;
    forward.disabled = shown === sheets.length - 1;
    moveCursors(Number(step));
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  back.addEventListener("click", () => show(Number(slider.value) - 1));
  forward.addEventListener("click", () => show(Number(slider.value) + 1));
  controls.hidden = false;
  show(Number(slider.value)); // a browser may have kept an earlier place
}

addThemeSwitch(document.querySelector("header"));
const stepControls = document.querySelector(".steps");
if (stepControls) startSlider(stepControls);
