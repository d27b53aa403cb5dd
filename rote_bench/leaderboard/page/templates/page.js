"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;

  /* Sorting -------------------------------------------------------------------------------------------------- */

  const tables = new Map();
  for (const table of all("table.sortable")) {
    const given = table.tBodies.length > 1 ? all("tbody.entry", table) : [...table.tBodies[0].rows];
    const headings = [...table.tHead.rows[0].cells];
    const first = headings.map((heading) => heading.getAttribute("aria-sort"));
    const valueOf = (row, column) => {
      const cell = (row.rows ? row.rows[0] : row).cells[column];
      return headings[column].classList.contains("numeric") ? cell.dataset.value : cell.textContent.trim();
    };
    const order = (rows) => given[0]?.parentNode.append(...rows, ...all("tbody.empty", table));
    const reset = () => {
      headings.forEach((heading, i) => first[i] !== null && heading.setAttribute("aria-sort", first[i]));
      order(given);
    };
    const sort = (column, way) => {
      reset();
      for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      headings[column].setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const numeric = headings[column].classList.contains("numeric");
      order([...given].sort((a, b) => {
        const [x, y] = [valueOf(a, column), valueOf(b, column)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // the unknown goes last
        return sign * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
      }));
    };
    const sorted = () => {
      const column = headings.findIndex((heading, i) => !["none", null, first[i]].includes(heading.getAttribute("aria-sort")));
      return column < 0 ? null : `${column}.${headings[column].getAttribute("aria-sort")}`;
    };
    headings.forEach((heading, column) => {
      heading.querySelector(".sort")?.addEventListener("click", () => {
        const now = heading.getAttribute("aria-sort");
        sort(column, now === "none" ? heading.dataset.first : now === "ascending" ? "descending" : "ascending");
        remember();
      });
    });
    const known = (text) => {
      const [column, way] = text.split(".");
      if (headings[column]?.hasAttribute("aria-sort") && ["ascending", "descending"].includes(way)) sort(+column, way);
    };
    tables.set(table.id, { reset, sorted, known });
  }

  /* Filtering ------------------------------------------------------------------------------------------------ */

  const forms = new Map();
  for (const form of all("form.filters")) {
    const entries = all("tbody.entry", document.getElementById(form.dataset.table));
    const empty = document.querySelector(`#${form.dataset.table} tbody.empty`);
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
    for (const kind of ["input", "change"]) form.addEventListener(kind, () => (apply(), remember()));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    forms.set(form.dataset.table, { form, text, noise, ranked, apply, first: noise.value });
  }

  /* Rows that open ------------------------------------------------------------------------------------------- */

  const buttons = new Map(all("button.open").map((button) => [button.getAttribute("aria-controls"), button]));
  const unfold = (id, opened) => {
    const button = buttons.get(id);
    button.setAttribute("aria-expanded", String(opened));
    button.closest("tr").classList.toggle("opened", opened);
    document.getElementById(id).hidden = !opened;
  };
  for (const [id, button] of buttons) {
    unfold(id, false);
    button.addEventListener("click", () => (unfold(id, button.getAttribute("aria-expanded") !== "true"), remember()));
  }
  const foldable = all("details[id]").map((details) => ({ details, first: details.open }));
  for (const { details } of foldable) details.addEventListener("toggle", () => remember());

  /* One task at a time, and the theme ------------------------------------------------------------------------ */

  const sections = all("section.task");
  const choices = all("a.choice");
  let chosen = 0;
  const choose = (index) => {
    chosen = sections[index] ? index : 0;
    if (sections.length < 2) return;
    sections.forEach((section, i) => section.classList.toggle("aside", i !== chosen));
    choices.forEach((choice, i) => (i === chosen ? choice.setAttribute("aria-current", "true") : choice.removeAttribute("aria-current")));
  };

  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  const button = document.querySelector("button.theme");
  const wear = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    button.textContent = `Theme: ${THEMES[theme]}`;
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    wear(names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length]);
    remember();
  });

  /* The address: what is chosen, open, sorted and sought, so that a link shows the same ----------------------- */

  const told = () => {
    const out = new URLSearchParams();
    if (chosen) out.set("task", sections[chosen].dataset.task);
    for (const [id, { text, noise, ranked, first }] of forms) {
      if (text.value) out.append("find", `${id}.${text.value}`);
      if (noise.value !== first) out.append("noise", `${id}.${noise.value}`);
      if (ranked.checked) out.append("ranked", id);
    }
    for (const [id, { sorted }] of tables) if (sorted()) out.append("sort", `${id}.${sorted()}`);
    for (const [id, control] of buttons) if (control.getAttribute("aria-expanded") === "true") out.append("open", id);
    for (const { details, first } of foldable) if (details.open !== first) out.append(first ? "shut" : "open", details.id);
    if (root.dataset.theme) out.set("theme", root.dataset.theme);
    return out.toString();
  };
  const place = () => location.hash.slice(1);
  const tell = () => {
    const state = told();
    if (state === place() || (!state && !place().includes("="))) return;
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  };
  let due;
  const remember = () => {
    clearTimeout(due); // once for all that changes together: browsers refuse hundreds
    due = setTimeout(tell, 60);
  };

  // Opens whatever hides an element, and goes there.
  const reveal = (id) => {
    const target = document.getElementById(id);
    if (!target) return;
    const section = sections.findIndex((one) => one.contains(target));
    if (section >= 0) choose(section);
    const row = target.closest("tr.detail");
    if (row) {
      unfold(row.id, true);
      row.closest("tbody").hidden = false;
    }
    for (let outer = target.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
    (row === target ? row.previousElementSibling : target).scrollIntoView();
  };

  const rest = (text) => [text.slice(0, text.indexOf(".")), text.slice(text.indexOf(".") + 1)];
  const recall = () => {
    const state = new URLSearchParams(place().includes("=") ? place() : "");
    choose(sections.findIndex((one) => one.dataset.task === state.get("task")));
    wear(Object.hasOwn(THEMES, state.get("theme") ?? "") ? (state.get("theme") ?? "") : "");
    for (const [, { form, noise, first }] of forms) (form.reset(), (noise.value = first));
    for (const [key, field] of [["find", "text"], ["noise", "noise"]])
      for (const [id, value] of state.getAll(key).map(rest)) if (forms.has(id)) forms.get(id)[field].value = value;
    for (const id of state.getAll("ranked")) if (forms.has(id)) forms.get(id).ranked.checked = true;
    for (const [, { apply }] of forms) apply();
    for (const [, { reset }] of tables) reset();
    for (const [id, value] of state.getAll("sort").map(rest)) tables.get(id)?.known(value);
    const open = state.getAll("open");
    for (const id of buttons.keys()) unfold(id, open.includes(id));
    for (const { details, first } of foldable) details.open = first ? !state.getAll("shut").includes(details.id) : open.includes(details.id);
    if (open.length) reveal(open[0]);
  };
  // A plain name leads to that part, and leaves all else as it is.
  const follow = () => {
    if (!place() || place().includes("=")) return recall();
    const index = sections.findIndex((one) => one.id === place());
    if (index < 0) return reveal(place());
    choose(index);
    window.scrollTo(0, 0);
    history.replaceState(null, "", `#${told()}`);
  };
  window.addEventListener("hashchange", follow);
  recall();
  if (place()) follow();
})();
