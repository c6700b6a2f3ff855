"use strict";
// Tables are sorted by the head that is pressed: numbers as numbers, what is no number last.
const keyOf = cell => cell.dataset.key ?? cell.textContent.trim();
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map(row => [keyOf(row.cells[head.cellIndex]), row]);
    const numeric = rows.some(([key]) => key !== "" && !isNaN(key)), lacks = key => key === "-" || key === "";
    rows.sort(([a], [b]) => lacks(a) - lacks(b) || sign * (numeric ? a - b : a.localeCompare(b)) || 0);
    body.append(...rows.map(([, row]) => row));
  });
}

// On a narrow screen the contents are closed; on paper everything is open.
if (!matchMedia("(min-width: 70rem)").matches) document.getElementById("contents").open = false;
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });

// Curves. A run's numbers stand in the page once; a chart takes them when it comes into sight.
const parse = element => JSON.parse(element.textContent, (_, value) => value === null ? NaN : value);
const numbers = {};
for (const each of document.querySelectorAll("script.numbers")) numbers[each.dataset.run] = parse(each);
if (window.Bokeh) Bokeh.set_log_level("error"); // it warns of charts that are empty at first
const tip = document.getElementById("tip");
const REACH = 24; // pixels from a curve within which it is pointed at

class Curves {
  constructor(element) {
    this.element = element;
    const { runs, panels } = JSON.parse(element.querySelector("script.charts").textContent);
    this.runs = Object.entries(runs).map(([label, name]) => ({ label, ...numbers[name] }));
    this.panels = panels.map((panel, index) => ({ ...panel, place: element.querySelector(`[data-panel="${index}"]`) }));
  }

  async draw() {
    await Promise.all(this.panels.map(async panel => {
      const { target_id, ...item } = panel.item; // the place is given as an element
      panel.view = (await Bokeh.embed.embed_item(item, panel.place)).roots[0];
      panel.place.addEventListener("pointermove", event => this.point(panel, event));
      panel.place.addEventListener("pointerdown", event => this.point(panel, event));
      // A finger that is lifted leaves the numbers standing, until it touches elsewhere or the page moves.
      panel.place.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") this.focus(null); });
    }));
    this.element.addEventListener("change", () => this.fill());
    addEventListener("scroll", () => this.focus(null), { passive: true });
    this.fill();
  }

  fill() {
    const checked = selector => this.element.querySelector(selector).checked;
    const all = checked("[data-clients]");
    for (const run of this.runs) {
      run.shown = checked(`[data-run="${CSS.escape(run.label)}"]`);
      run.lines = run.shown ? [run.mean, ...(all ? run.clients : [])] : [];
    }
    for (const panel of this.panels)
      for (const run of this.runs) {
        const [mean, ...clients] = run.lines.map(line => this.xy(panel, run, line));
        this.put(panel, run, "mean", mean ?? { x: [], y: [] });
        this.put(panel, run, "clients", { x: clients.map(line => line.x), y: clients.map(line => line.y) });
        const averaged = run.shown && run.average[panel.x] ? run.average : {};
        this.put(panel, run, "average", { x: averaged[panel.x] ?? [], y: averaged[panel.y] ?? [] });
      }
    this.focus(null);
  }

  xy(panel, run, line) {
    return { x: panel.x === run.along ? run.steps : line[panel.x], y: line[panel.y] };
  }

  put(panel, run, part, data) {
    panel.view.model.document.get_model_by_id(panel.sources[run.label][part]).data = data;
  }

  // The curve nearest to the pointer, and which end of its nearest piece is nearer.
  point(panel, event) {
    const box = panel.place.getBoundingClientRect(), { x_scale, y_scale, bbox } = panel.view.frame;
    const at = [event.clientX - box.left - panel.place.clientLeft, event.clientY - box.top - panel.place.clientTop];
    if (!bbox.contains(...at)) return this.focus(null);
    let best = { far: REACH };
    for (const run of this.runs)
      for (const line of run.lines) {
        const { x, y } = this.xy(panel, run, line);
        let before = null;
        for (let step = 0; step < x.length; step++) {
          const here = [x_scale.compute(x[step]), y_scale.compute(y[step])];
          if (!isFinite(here[0] + here[1])) { before = null; continue; }
          const { far, share } = before ? piece(at, before, here) : { far: Math.hypot(at[0] - here[0], at[1] - here[1]), share: 1 };
          // Bold curves lie on top: they win where a thin one is as near.
          if (far + (line === run.mean ? -2 : 0) < best.far) best = { far, run, line, step: share < .5 ? step - 1 : step };
          before = here;
        }
      }
    this.focus(best.run ? best : null);
    if (best.run) place(event);
  }

  // The curve that is pointed at stands out in every chart, with a dot at the step that is told.
  focus(found) {
    const before = this.found;
    if (found?.line === before?.line && found?.step === before?.step) return;
    this.found = found;
    for (const panel of this.panels)
      for (const run of new Set([before?.run, found?.run].filter(Boolean))) {
        const line = found?.run === run ? this.xy(panel, run, found.line) : { x: [], y: [] };
        const size = Array.from(line.x, (_, step) => step === found?.step ? 13 : 0);
        this.put(panel, run, "focus", { ...line, size });
      }
    tip.hidden = !found;
    if (!found) return;
    const { run, line, step } = found, seeds = new Set(run.clients.map(each => each.seed)).size;
    const who = line === run.mean ? `mean over clients, ${seeds} seed${seeds > 1 ? "s" : ""}` : `seed ${line.seed}, client ${line.client}`;
    const values = Object.entries(line).filter(([, value]) => Array.isArray(value));
    const scores = values.length > 1 ? " score" : "";
    const lines = [who, `${run.along} ${run.steps[step]}`, ...values.map(([name, value]) => `${name}${scores} ${value[step]}`)];
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: run.label }));
    tip.append(...lines.flatMap(text => [text, document.createElement("br")]));
  }
}

// The numbers stand beside the pointer, inside the window.
function place(event) {
  const { width, height } = tip.getBoundingClientRect(), above = event.clientY - height - 16;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 16, innerWidth - width - 8))}px`;
  tip.style.top = `${above < 8 ? event.clientY + 24 : above}px`;
}

// How far a point is from the piece of a line between two others, and where along it the nearest place lies, 0 to 1.
function piece(at, from, to) {
  const along = [to[0] - from[0], to[1] - from[1]], length = along[0] ** 2 + along[1] ** 2;
  const share = length && Math.max(0, Math.min(1, ((at[0] - from[0]) * along[0] + (at[1] - from[1]) * along[1]) / length));
  return { far: Math.hypot(from[0] + share * along[0] - at[0], from[1] + share * along[1] - at[1]), share };
}

const sight = new IntersectionObserver(seen => {
  for (const { target } of seen.filter(each => each.isIntersecting)) {
    sight.unobserve(target);
    new Curves(target).draw();
  }
}, { rootMargin: "800px" });
for (const each of document.querySelectorAll(".curves")) sight.observe(each);
