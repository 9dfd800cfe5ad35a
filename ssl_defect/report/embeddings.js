// The embeddings: the image of a point on hover and focus, in all maps at once; arrow keys from point to point, other
// colours; rings and errors follow the threshold.
{
  const NEAR = 14; // units of the figure within which a point is pointed at
  const SIDES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const svg = (tag, facts) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(facts)) node.setAttribute(name, value);
    return node;
  };
  const gallery = (detail) => { dispatchEvent(new CustomEvent("gallery", { detail })); return detail.image; };

  const begin = (root, { shapes, ring, rows, modes, kinds }, own) => {
    const told = root.querySelector(".told");
    let known; // the gallery's own facts where it has the image
    const facts = (index) => (known ??= rows.map((row) => gallery({ row }) || own[row]))[index];
    const words = (one) => (one.score === undefined ? `${one.file}: ${one.class}`
      : `${one.file}: ${one.class}, called ${one.called}, score ${one.score.toFixed(3)}`);
    let maps = [], at = -1, by = "class"; // `at`: the point shown, in all maps

    // Where the points lie is read from the figure: each marker of its paths begins at its centre.
    const places = (chart) => [...chart.querySelectorAll(":scope > .dots")]
      .flatMap((path) => [...path.getAttribute("d").matchAll(/M(-?[\d.]+) (-?[\d.]+)/g)])
      .map(([, x, y]) => [Number(x), Number(y)]);

    const hide = () => {
      at = -1;
      told.textContent = "";
      for (const { marks, tip } of maps) { tip.hidden = true; marks.setAttribute("visibility", "hidden"); }
    };
    const show = (index, where) => {
      if (index === at && !where.tip.hidden) return;
      const one = facts(index);
      at = index;
      for (const { points, marks, tip } of maps) {
        tip.hidden = true;
        marks.setAttribute("visibility", "visible");
        for (const ring of marks.children) { ring.setAttribute("cx", points[index][0]); ring.setAttribute("cy", points[index][1]); }
      }
      told.textContent = words(one);
      tipped(one, where);
    };
    const tipped = (one, { box, chart, points, tip }) => {
      const image = document.createElement("img"), line = document.createElement("span");
      image.alt = "";
      image.style.aspectRatio = one.aspect;
      if (one.picture) image.src = one.picture;
      line.textContent = one.score === undefined ? one.class : `${one.class}, ${one.score.toFixed(3)}`;
      tip.replaceChildren(...(one.picture ? [image] : []), line);
      tip.hidden = false;
      const scale = box.clientWidth / chart.viewBox.baseVal.width, [x, y] = points[at].map((value) => value * scale);
      tip.style.left = `${Math.max(0, Math.min(x - tip.offsetWidth / 2, box.clientWidth - tip.offsetWidth))}px`;
      const above = y - tip.offsetHeight - 12;
      tip.style.top = `${above >= -60 ? above : y + 12}px`;
    };
    const open = (index, box) => {
      const dialog = document.querySelector(".gallery dialog");
      if (!gallery({ row: rows[index], open: true })) return;
      dialog.addEventListener("close", () => { box.focus(); }, { once: true });
    };

    const nearest = ({ chart, points }, event) => {
      const { left, top, width } = chart.getBoundingClientRect(), scale = chart.viewBox.baseVal.width / width;
      const [x, y] = [(event.clientX - left) * scale, (event.clientY - top) * scale];
      let found = -1, least = NEAR ** 2;
      points.forEach(([px, py], index) => {
        const far = (px - x) ** 2 + (py - y) ** 2;
        if (far < least) [found, least] = [index, far];
      });
      return found;
    };
    // The nearest point within 45 degrees of a side, or else anywhere on that side
    const beside = ({ points }, [across, down]) => {
      const [x, y] = points[at];
      let found = at, least = Infinity;
      points.forEach(([px, py], index) => {
        const along = (px - x) * across + (py - y) * down, aside = Math.abs((px - x) * down + (py - y) * across);
        if (along <= 0) return;
        const far = Math.hypot(along, aside) + (aside > along ? 1e6 : 0);
        if (far < least) [found, least] = [index, far];
      });
      return found;
    };
    const keyed = (map, event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { key } = event, last = rows.length - 1, steps = { PageDown: at + 1, PageUp: at - 1, Home: 0, End: last };
      if (key === "Escape") hide();
      else if (key === "Enter") { if (at >= 0) open(at, map.box); }
      else if (key in SIDES) show(at < 0 ? 0 : beside(map, SIDES[key]), map);
      else if (key in steps) show(Math.min(Math.max(steps[key], 0), last), map);
      else return;
      event.preventDefault();
    };

    const ready = (box) => {
      const chart = box.querySelector("svg"), points = places(chart);
      if (points.length !== rows.length) return [];
      const marks = svg("g", { visibility: "hidden" });
      marks.append(svg("circle", { class: "around", r: 8 }), svg("circle", { class: "here", r: 8 }));
      const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
      const map = { box, chart, points, marks, tip };
      chart.append(marks);
      box.append(tip);
      if (box.dataset.name) { // of maps over time the first alone takes the focus: the others show what it shows
        box.tabIndex = 0;
        box.setAttribute("role", "application");
        box.setAttribute("aria-label", `${box.dataset.name} map of ${rows.length} images: arrow keys go from point to point`);
      }
      box.addEventListener("pointermove", (event) => {
        const found = nearest(map, event);
        box.classList.toggle("near", found >= 0);
        if (found >= 0) show(found, map); else if (document.activeElement !== box) hide();
      });
      box.addEventListener("pointerleave", () => { if (document.activeElement !== box) hide(); });
      box.addEventListener("click", (event) => { const found = nearest(map, event); if (found >= 0) open(found, box); });
      box.addEventListener("focus", () => { if (box.matches(":focus-visible")) show(Math.max(at, 0), map); });
      box.addEventListener("blur", hide);
      box.addEventListener("keydown", (event) => keyed(map, event));
      return [map];
    };
    const path = (points, tail, test) => points.map(([x, y], index) => (test(index) ? `M${x} ${y}${tail}` : "")).join("");
    const colour = () => {
      for (const list of root.querySelectorAll("[data-by]")) list.hidden = list.dataset.by !== by;
      for (const { box, chart, points, marks } of maps) {
        chart.querySelector(".recolour")?.remove();
        box.classList.toggle("recoloured", by in modes);
        if (!(by in modes)) continue;
        const group = svg("g", { class: "recolour" });
        for (const number of new Set([...modes[by]].sort((a, b) => a - b))) {
          const [shape, tail] = shapes[number % shapes.length];
          group.append(svg("path", { class: `dots s${number} ${shape}`, d: path(points, tail, (index) => modes[by][index] === number) }));
        }
        chart.insertBefore(group, marks);
      }
    };

    // The threshold moves in the operating point; the maps follow once they are seen.
    let moved = null;
    const follow = () => {
      if (moved === null) return;
      const found = rows.map((_, index) => {
        const one = facts(index);
        if (one.score === undefined) return kinds.indexOf("");
        one.called = one.score >= moved ? "defective" : "good";
        return Math.max(kinds.indexOf(judging.kind(one.label, one.score, moved)), 0); // 0: right
      });
      moved = null;
      if (modes.error) modes.error = found;
      const wrong = (index) => judging.wrong(kinds[found[index]]);
      for (const { chart, points } of maps) {
        const rings = chart.querySelector(":scope > .ring");
        if (root.dataset.rings !== undefined) rings.setAttribute("d", path(points, ring, wrong));
      }
      if (by === "error") colour();
    };

    maps = [...root.querySelectorAll(".cloud")].flatMap(ready);
    root.querySelector("select")?.addEventListener("input", (event) => { by = event.target.value; colour(); });
    root.querySelector(".tools").hidden = !maps.length;
    let seen = false;
    new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; if (seen) follow(); }).observe(root);
    judging.follow((threshold) => { moved = threshold; if (seen) follow(); });
  };

  const own = JSON.parse(document.getElementById("own-data")?.textContent ?? "{}");
  for (const root of document.querySelectorAll(".clouds")) begin(root, JSON.parse(root.querySelector(".points").textContent), own);
}
