"use strict";
(() => {
  const board = JSON.parse(document.getElementById("board-data").textContent);
  const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;
  const MARKERS = {
    circle: "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0",
    square: "M-3-3h6v6h-6z",
    triangle: "M0-4L4 3H-4z",
    diamond: "M0-4.4L4.4 0L0 4.4L-4.4 0z",
  };
  const CURVES = {
    validation_accuracy: { name: "right on held-out questions", style: "held-out", marker: "circle" },
    train_clean_accuracy: { name: "right on clean training questions", style: "clean", marker: "triangle" },
    memorization_rate: { name: "wrong label given", style: "memorised", marker: "square" },
    noisy_true_rate: { name: "right in spite of the wrong label", style: "true", marker: "diamond" },
    counterfactual_memorization: { name: "memorization, less phantom labels", style: "memorised", marker: "square" },
    true_top1: { name: "true answer is the top answer", style: "true", marker: "diamond" },
    label_top1: { name: "wrong label is the top answer", style: "memorised", marker: "square" },
  };
  const COMPONENTS = { block: "whole block", mixer: "attention (mixer)", mlp: "MLP" };

  // Text goes in as text: nothing here parses markup that came from a report.
  const fill = (node, attributes, ...children) => {
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, ...children);
  const shape = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, ...children);
  const readable = (v) => (v === null || v === undefined ? "–" : v.toFixed(3).replace("-", "\u2212"));
  const thousands = (v) => (v >= 1e6 ? `${+(v / 1e6).toPrecision(3)}M` : v >= 1e3 ? `${+(v / 1e3).toPrecision(3)}k` : String(v));
  const percent = (v) => String(+(100 * v).toPrecision(4));

  /* Sorting and filtering ------------------------------------------------------------------------------------ */

  const rowsOf = (table) =>
    table.tBodies.length > 1 ? [...table.querySelectorAll("tbody.entry")] : [...table.tBodies[0].rows];

  for (const table of document.querySelectorAll("table.sortable")) {
    const given = rowsOf(table);
    const headings = [...table.tHead.rows[0].cells];
    const valueOf = (row, column) => {
      const cell = (row.rows ? row.rows[0] : row).cells[column];
      return headings[column].classList.contains("numeric") ? cell.dataset.value : cell.textContent.trim();
    };
    for (const [column, heading] of headings.entries()) {
      heading.querySelector(".sort")?.addEventListener("click", () => {
        const now = heading.getAttribute("aria-sort");
        const next = now === "none" ? heading.dataset.first : now === "ascending" ? "descending" : "ascending";
        for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const numeric = heading.classList.contains("numeric");
        const compare = (a, b) => {
          const [x, y] = [valueOf(a, column), valueOf(b, column)];
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // the unknown goes last
          return sign * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
        };
        const parent = given[0]?.parentNode;
        parent?.append(...[...given].sort(compare), ...table.querySelectorAll("tbody.empty"));
      });
    }
  }

  for (const form of document.querySelectorAll("form.filters")) {
    const entries = [...document.getElementById(form.dataset.table).querySelectorAll("tbody.entry")];
    const empty = document.getElementById(form.dataset.table).querySelector("tbody.empty");
    const { text, noise, ranked } = form.elements;
    const apply = () => {
      const wanted = text.value.trim().toLowerCase();
      let shown = 0;
      for (const entry of entries) {
        const fits =
          (!noise.value || entry.dataset.noise === noise.value) &&
          (!ranked.checked || !entry.classList.contains("unranked")) &&
          entry.querySelector("th").textContent.toLowerCase().includes(wanted);
        entry.hidden = !fits;
        shown += fits;
      }
      empty.hidden = shown > 0;
      form.querySelector("output").value = `${shown} of ${entries.length} rows`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }

  /* Figures -------------------------------------------------------------------------------------------------- */

  const ticks = (low, high, most) => {
    const raw = (high - low) / most || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 2.5, 5, 10].find((s) => s * power >= raw * 0.999);
    const out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) out.push(+(i * step).toPrecision(12));
    return out;
  };

  const curve = (series, x, y) => {
    const group = shape("g", { class: `curve ${series.style}` });
    let path = "";
    let pen = "M";
    for (const [at, value] of series.points) {
      if (value === null) pen = "M";
      else {
        path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      }
    }
    group.append(shape("path", { d: path || "M0 0" }));
    const known = series.points.filter((p) => p[1] !== null);
    let last = -Infinity;
    for (const [i, [at, value, low, high]] of known.entries()) {
      if (low !== undefined && low !== null && high !== null)
        group.append(shape("path", { class: "whisker", d: `M${x(at).toFixed(1)} ${y(low).toFixed(1)}V${y(high).toFixed(1)}` }));
      if (x(at) - last < (series.sparse ? 44 : 0) && i < known.length - 1) continue;
      last = x(at);
      const marker = shape("path", { class: "marker", d: MARKERS[series.marker], transform: `translate(${x(at).toFixed(1)} ${y(value).toFixed(1)})` });
      marker.append(shape("title", {}, `${series.name}: ${readable(value)} at ${at}`));
      group.append(marker);
    }
    return group;
  };

  const summary = (panel) =>
    panel.series
      .filter((s) => s.points.some((p) => p[1] !== null))
      .map((s) => {
        const known = s.points.filter((p) => p[1] !== null);
        return `${s.name}${s.seed === undefined ? "" : `, seed ${s.seed}`}: from ${readable(known[0][1])} to ${readable(known.at(-1)[1])}`;
      })
      .join("; ");

  const plot = (panel, axes, width) => {
    const [x0, x1] = axes.x.range;
    const [y0, y1] = axes.y.range;
    const marks = ticks(y0, y1, 4);
    const left = 13 + 6.5 * Math.max(...marks.map((v) => String(v).length));
    const [right, top, bottom] = [12, panel.title ? 40 : 24, 40];
    const height = axes.height;
    const x = (v) => left + ((v - x0) / (x1 - x0 || 1)) * (width - left - right);
    const y = (v) => height - bottom - ((Math.min(Math.max(v, y0), y1) - y0) / (y1 - y0)) * (height - top - bottom);
    const name = `${panel.title ? `${panel.title}. ` : ""}${axes.y.label} against ${axes.x.label}. ${summary(panel)}.`;
    const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
    if (panel.title) svg.append(shape("text", { class: "panel-title", x: 0, y: 11 }, panel.title));
    svg.append(shape("text", { x: 0, y: top - 13 }, axes.y.label));
    for (const v of marks) {
      svg.append(shape("path", { class: v === y0 ? "axis" : "grid", d: `M${left} ${y(v).toFixed(1)}H${width - right}` }));
      svg.append(shape("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, String(v)));
    }
    let last = -Infinity;
    for (const v of axes.x.ticks ?? ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) {
      if (x(v) - last < 7 * axes.x.format(v).length + 5) continue;
      last = x(v);
      svg.append(shape("path", { class: "axis", d: `M${x(v).toFixed(1)} ${height - bottom}v4` }));
      svg.append(shape("text", { x: x(v), y: height - bottom + 17, "text-anchor": "middle" }, axes.x.format(v)));
    }
    svg.append(shape("text", { x: width - right, y: height - 6, "text-anchor": "end" }, axes.x.label));
    for (const moment of panel.moments ?? [])
      svg.append(shape("path", { class: "moment", d: `M${x(moment).toFixed(1)} ${top}V${height - bottom}` }));
    for (const series of panel.series) svg.append(curve(series, x, y));
    return svg;
  };

  const numbers = (title, axes, panels) => {
    const names = [...new Set(panels.flatMap((p) => p.series.map((s) => s.name)))];
    const seeded = panels.some((p) => p.series.some((s) => s.seed !== undefined));
    const rows = new Map();
    for (const panel of panels)
      for (const series of panel.series)
        for (const [at, value, low, high] of series.points) {
          const head = [...(panel.title ? [panel.title] : []), ...(seeded ? [series.seed] : []), axes.x.format(at)];
          const key = JSON.stringify([panel.title ?? "", series.seed ?? "", at]);
          if (!rows.has(key)) rows.set(key, { head, cells: {} });
          const spread = low === undefined || low === null || high === null ? "" : ` [${readable(low)}, ${readable(high)}]`;
          rows.get(key).cells[series.name] = readable(value) + spread;
        }
    const columns = [...(panels[0]?.title ? ["panel"] : []), ...(seeded ? ["seed"] : []), axes.x.label, ...names];
    const body = element("tbody");
    for (const { head, cells } of rows.values()) {
      const row = element("tr");
      head.forEach((text, i) => row.append(i ? element("td", {}, text) : element("th", { scope: "row" }, text)));
      for (const name of names) row.append(element("td", {}, cells[name] ?? "–"));
      body.append(row);
    }
    const header = element("thead", {}, element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text))));
    const table = element("table", { class: "plain" }, element("caption", { class: "unseen" }, title), header, body);
    const region = element("div", { class: "scroll numbers", role: "group", tabindex: "0", "aria-label": `Numbers: ${title}` }, table);
    return element("details", {}, element("summary", {}, "Numbers"), region);
  };

  const legend = (panels) => {
    const list = element("ul", { class: "legend", "aria-label": "Legend" });
    const seen = new Map(panels.flatMap((p) => p.series).map((s) => [s.name, s]));
    for (const { name, style, marker } of seen.values()) {
      const line = shape("path", { d: "M1 6H35" });
      const mark = shape("path", { class: "marker", d: MARKERS[marker], transform: "translate(18 6)" });
      const key = shape("svg", { width: 36, height: 12, "aria-hidden": "true" }, shape("g", { class: `curve ${style}` }, line, mark));
      list.append(element("li", {}, key, name));
    }
    return list;
  };

  // Redraws at the width it is given, so that text keeps its size on a phone.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) target.redraw();
  });

  const figure = ({ title, note, axes, panels, narrowest }) => {
    const drawn = panels.filter((p) => p.series.some((s) => s.points.some((q) => q[1] !== null)));
    const caption = element("figcaption", {}, element("strong", {}, title), element("p", {}, note));
    if (!drawn.length) return element("figure", { class: "chart" }, caption, element("p", {}, "Not measured."));
    const area = element("div", { class: "panels" });
    let before = 0;
    area.redraw = () => {
      const width = Math.floor(area.clientWidth);
      if (!width || width === before) return;
      before = width;
      const fit = Math.max(1, Math.min(drawn.length, Math.floor((width + 19) / (narrowest + 19))));
      const across = Math.ceil(drawn.length / Math.ceil(drawn.length / fit));
      const each = Math.floor((width - 19.2 * (across - 1)) / across);
      area.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
      area.replaceChildren(...drawn.map((panel) => plot(panel, axes, each)));
    };
    watch.observe(area);
    return element("figure", { class: "chart" }, caption, legend(drawn), area, numbers(title, axes, drawn));
  };

  const share = { label: "share of questions", range: [0, 1] };

  const learning = (row) => {
    const series = row.learning.flatMap((one) =>
      ["validation_accuracy", "train_clean_accuracy", "memorization_rate", "noisy_true_rate"].map((name) => ({
        ...CURVES[name], seed: one.seed, sparse: true,
        points: one.examples_seen.map((at, i) => [at, one[name][i]]),
      })).filter((s) => s.points.some((p) => p[1] !== null)),
    );
    const moments = row.learning.flatMap((one) =>
      one.snapshots.pre_memorization === undefined ? [] : [one.snapshots.pre_memorization],
    );
    const end = Math.max(1, ...row.learning.flatMap((one) => one.examples_seen));
    return figure({
      title: "What the model answers while it learns",
      note: "One line for each seed. Dotted: the snapshot before memorization; the other snapshot is the end.",
      axes: { height: 300, x: { label: "training examples seen", range: [0, end], format: thousands }, y: share },
      panels: [{ series, moments }],
      narrowest: 240,
    });
  };

  // The mean over seeds at each layer, with the lowest and the highest seed.
  const overSeeds = (seeds, name, valuesOf) => {
    const at = new Map();
    for (const one of seeds)
      one.layers.forEach((layer, i) => {
        const value = valueAt(valuesOf(one), i);
        if (value !== null) at.set(layer, [...(at.get(layer) ?? []), value]);
      });
    const points = [...at].sort((a, b) => a[0] - b[0]).map(([layer, values]) => {
      const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
      return values.length > 1 ? [layer, mean, Math.min(...values), Math.max(...values)] : [layer, mean];
    });
    return { ...CURVES[name], points };
  };
  const valueAt = (values, i) => values?.[i] ?? null;

  const layersOf = (seeds) => [...new Set(seeds.flatMap((one) => one.layers))].sort((a, b) => a - b);
  const layerAxis = (label, layers) => ({
    label, ticks: layers, format: String, range: [Math.min(...layers) - 0.25, Math.max(...layers) + 0.25],
  });
  const SPREAD = "Means over seeds; bars reach from the lowest seed to the highest.";

  const lens = (row) => figure({
    title: "Which answer each layer holds for a mislabelled question",
    note: SPREAD,
    axes: { height: 300, x: layerAxis("after layer", layersOf(row.lens)), y: share },
    panels: [{ series: ["true_top1", "label_top1"].map((name) => overSeeds(row.lens, name, (one) => one[name])) }],
    narrowest: 240,
  });

  const patching = (row) => figure({
    title: "States from before memorization, put into the final model",
    note: `What remains when one layer is patched. ${SPREAD}`,
    axes: { height: 250, x: layerAxis("patched layer", layersOf(row.patching)), y: share },
    panels: [...new Set(row.patching.flatMap((one) => Object.keys(one.components)))].map((component) => ({
      title: COMPONENTS[component] ?? component,
      series: ["validation_accuracy", "memorization_rate"].map((name) =>
        overSeeds(row.patching, name, (one) => one.components[component]?.[name])),
    })),
    narrowest: 230,
  });

  const NEAR = 0.8;

  const noise = (task) => {
    const models = new Map();
    for (const row of task.rows) models.set(row.model, [...(models.get(row.model) ?? []), row]);
    const names = ["validation_accuracy", "counterfactual_memorization"];
    const panels = [...models].map(([model, rows]) => ({
      title: model,
      series: names.map((name) => ({
        ...CURVES[name],
        points: rows.filter((r) => r.metrics[name]).map((r) => [r.noise, ...r.metrics[name]]).sort((a, b) => a[0] - b[0]),
      })),
    }));
    // Near 1 the differences are small: where all values stay there, the axis that all panels share leaves out the rest.
    const values = panels.flatMap((panel) => panel.series.flatMap((s) => s.points.flatMap((q) => q.slice(1))));
    const lowest = Math.min(0.95, ...values.filter((v) => v !== null));
    const floor = lowest >= NEAR ? Math.floor(lowest * 20 + 1e-9) / 20 : Math.min(0, lowest);
    const rates = [...new Set(task.rows.map((row) => row.noise))].sort((a, b) => a - b);
    const pad = (rates.at(-1) - rates[0]) * 0.06 || 0.01;
    return figure({
      title: "Held-out accuracy and memorization as more labels are wrong",
      note: `One panel for each model, with intervals.${floor > 0 ? ` Vertical axes start at ${floor}.` : ""}`,
      axes: {
        height: 210,
        x: { label: "wrong labels (%)", range: [rates[0] - pad, rates.at(-1) + pad], ticks: rates, format: percent },
        y: { label: "share of questions", range: [floor, 1] },
      },
      panels,
      narrowest: 210,
    });
  };

  for (const host of document.querySelectorAll(".noise-figure")) host.append(noise(board.tasks[host.dataset.task]));

  for (const button of document.querySelectorAll("button.open"))
    button.addEventListener("click", () => {
      const detail = document.getElementById(button.getAttribute("aria-controls"));
      const opened = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(opened));
      button.closest("tr").classList.toggle("opened", opened);
      detail.hidden = !opened;
      const host = detail.querySelector(".figures");
      if (host.childElementCount) return;
      const [task, row] = detail.parentNode.dataset.at.split("-");
      const data = board.tasks[task].rows[row];
      host.append(learning(data), lens(data), patching(data));
    });
})();
