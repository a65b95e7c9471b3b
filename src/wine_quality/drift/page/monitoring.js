"use strict";
// Shows any window in place of the newest, and another one beside it. All words and shapes come from
// the block above; they are put where those of the newest window stand.
(() => {
  const form = document.getElementById("chooser"), root = document.documentElement;
  if (!window.DecompressionStream) return;
  const [first, second] = form.querySelectorAll("select");
  let known;

  async function read() {
    const packed = atob(document.getElementById("windows").textContent);
    const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function fill(element, side, names, values) {
    names.forEach((name, k) => {
      const target = element.querySelector(`[data-${side}=${name}]`);
      if (name === "verdict") target.className = `verdict ${values[k]}`;
      target.textContent = name === "verdict" ? known.verdicts[values[k]] : values[k];
    });
  }

  function draw(element, panels, references) {
    const shown = { a: panels.a[4], b: panels.b ? panels.b[4] : [], reference: references };
    const nothing = ["", 0, "no wines"], shapes = { a: ".bars", b: ".other", reference: ".outline" };
    element.querySelectorAll(".histogram").forEach((figure, k) => {
      const svg = figure.querySelector("figcaption + svg");
      let top = 1;
      for (const side of ["a", "b", "reference"]) {
        const [path, highest, words] = shown[side][k] || nothing;
        svg.querySelector(shapes[side]).setAttribute("d", path);
        figure.querySelector(`[data-${side}=words]`).textContent = words;
        top = Math.max(top, highest);
      }
      svg.setAttribute("viewBox", `0 ${-top} ${svg.viewBox.baseVal.width} ${top}`);
    });
  }

  async function show() {
    known ??= await read();
    const a = +first.value, b = second.value === "" ? null : +second.value;
    const said = ["verdict", "times", "reason", "notes"];
    for (const element of document.querySelectorAll("[data-subject]")) {
      const subject = known.subjects[element.dataset.subject];
      const panels = { a: subject.panels[a], b: b === null ? null : subject.panels[b] };
      fill(element, "a", said, panels.a);
      if (panels.b) fill(element, "b", said, panels.b);
      draw(element, panels, subject.references[known.windows[a].reference] || []);
    }
    root.classList.toggle("compared", b !== null);
    for (const [side, k] of [["a", a], ["b", b ?? a]]) {
      root.style.setProperty(`--${side}`, `${known.at[k]}%`);
      document.querySelectorAll(`.name-${side}`).forEach((e) => { e.textContent = known.windows[k].name; });
    }
    const keys = [a, ...(b === null ? [] : [b])].map((k) => encodeURIComponent(known.windows[k].key));
    history.replaceState(null, "", `#${keys.join("+")}`);
  }

  // of windows of one moment, that of the version that is shown already
  function nearest(at) {
    const version = known.windows[+first.value].version;
    const far = (k) => Math.abs(known.at[k] - at) + (known.windows[k].version === version ? 0 : 1e-3);
    return known.windows.map((_, k) => k).reduce((best, k) => (far(k) < far(best) ? k : best));
  }

  second.append(...[...first.options].map((option) => new Option(option.text, option.value)));
  document.querySelectorAll(".if-script").forEach((element) => { element.hidden = false; });
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-step], [data-window]"), chart = event.target.closest(".timed");
    if (button) {
      const { step, window: wanted } = button.dataset;
      const k = wanted ?? Math.min(Math.max(+first.value + +step, 0), first.length - 1);
      first.value = k;
      if (wanted) document.getElementById("wines").scrollIntoView();
    } else if (chart) {
      event.preventDefault();
      known ??= await read();
      const box = chart.querySelector("svg").getBoundingClientRect();
      first.value = nearest((100 * (event.clientX - box.left)) / box.width);
    } else return;
    show();
  });
  (async () => {
    const [a, b] = location.hash.slice(1).split("+").map(decodeURIComponent);
    if (!a.includes("_v")) return;
    known = await read();
    const place = (key) => known.windows.findIndex((w) => w.key === key);
    if (place(a) >= 0) first.value = place(a);
    if (b && place(b) >= 0) second.value = place(b);
    show();
  })();
})();
