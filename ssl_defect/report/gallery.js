// The gallery: every test image in pages of 48, sorted and filtered, its layers blended; one of them large in a dialog.
{
  const PAGE = 48;
  const SORTS = { // what is compared, and whether the highest comes first
    worst: [(one) => one.index, false],
    score: [(one) => one.score, true],
    error: [(one) => one.error, true],
    class: [(one) => one.class, false],
    file: [(one) => one.file, false],
    group: [(one) => one.group, false],
  };
  const SWITCHES = { h: "heat", m: "mask", c: "contour" };
  const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

  const { KINDS, make, press, scale } = thumbs;
  const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
  const plain = (event) => !(event.ctrlKey || event.metaKey || event.altKey);

  const begin = (root, { side, threshold: chosen, images }) => {
    const find = (selector) => root.querySelector(selector);
    const every = (selector) => [...root.querySelectorAll(selector)];
    const tool = (name) => find(`[data-tool="${name}"]`);
    const grid = find(".thumbs"), dialog = find("dialog"), pager = find(":scope > .pager");
    const layers = { picture: 100, heat: 75, mask: true, contour: true };
    let before = layers.heat; // what `h` goes back to
    let shown = [], page = 0, at = 0, group = null, threshold = chosen;
    images.forEach((one, index) => { one.index = index; one.mixed = one.doubts.filter((text) => text !== one.sure); });

    // Pictures; a thumb is made once, for a slider asks for it many times
    const lost = () => { find("[data-lost]").hidden = false; };
    const picture = (one, alt) => thumbs.picture(one, side, lost, alt);
    const made = new Map();
    const thumb = (one, place) => {
      if (!made.has(one)) made.set(one, thumbs.thumb(one, side, lost));
      return thumbs.mark(made.get(one), one, place, threshold);
    };

    // Which, and in which order
    const fits = () => {
      const kinds = new Set(every("[data-kind]:checked").map((box) => box.dataset.kind));
      const name = tool("class").value, words = tool("find").value.trim().toLowerCase();
      const doubted = tool("doubted")?.checked;
      return (one) => (group === null || one.group === group) && kinds.has(one.kind) && (!name || one.class === name)
        && (!doubted || one.doubts.length > 0) && one.file.toLowerCase().includes(words);
    };
    const choose = (to = 0) => {
      const [key, falling] = SORTS[tool("sort").value];
      const turned = tool("turn").getAttribute("aria-pressed") === "true";
      const sign = falling === turned ? 1 : -1;
      shown = images.filter(fits()).sort((a, b) => {
        const one = key(a), other = key(b);
        return (one < other ? -sign : one > other ? sign : 0) || a.index - b.index;
      });
      turn(to);
    };
    const turn = (to) => {
      const pages = Math.max(1, Math.ceil(shown.length / PAGE)), where = group === null ? "" : `, near-copy group ${group}`;
      at = (page = Math.min(Math.max(to, 0), pages - 1)) * PAGE;
      const items = shown.slice(at, at + PAGE).map((one, place) => thumb(one, at + place));
      if (items.length !== grid.children.length || items.some((item, place) => item !== grid.children[place])) grid.replaceChildren(...items);
      if (grid.firstChild) grid.firstChild.firstChild.tabIndex = 0;
      find('[role="status"]').textContent = shown.length ? `${shown.length} of ${images.length} images${where}` : `No image fits${where}`;
      tool("ungroup").hidden = group === null;
      pager.hidden = pages === 1;
      pager.querySelector("span").textContent = `Page ${page + 1} of ${pages}`;
      const [back, on] = pager.querySelectorAll("button");
      [back.disabled, on.disabled] = [page === 0, page === pages - 1];
    };
    const focus = (place) => {
      if (place < 0 || place >= shown.length) return;
      if (Math.floor(place / PAGE) !== page) turn(Math.floor(place / PAGE));
      at = place;
      for (const button of grid.querySelectorAll(".thumb")) button.tabIndex = Number(button.dataset.place) === at ? 0 : -1;
      grid.querySelector('[tabindex="0"]')?.focus();
    };
    const together = (number) => {
      group = number;
      for (const box of every("[data-kind]")) box.checked = true;
      tool("class").value = tool("find").value = "";
      if (tool("doubted")) tool("doubted").checked = false;
      choose();
    };

    // The threshold, which moves in the operating point
    const count = (test) => images.filter(test).length;
    const told = (number, [one, many]) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
    const tell = () => {
      const kinds = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, count((one) => one.kind === kind)]));
      for (const [kind, number] of Object.entries(kinds)) find(`[data-count="${kind}"]`).textContent = number.toLocaleString("en");
      if (tool("doubted")) find('[data-count="doubted"]').textContent = count((one) => one.doubts.length).toLocaleString("en");
      const misses = told(kinds.miss, ["defective image escapes", "defective images escape"]);
      find("[data-told]").textContent = `${misses} and ${told(kinds.alarm, ["good image raises a false alarm", "good images raise false alarms"])}`;
      find(".moved").hidden = threshold === chosen;
      for (const [name, value] of threshold === null ? [] : [["now", threshold], ["chosen", chosen]]) {
        find(`[data-threshold="${name}"]`).textContent = Number(value.toPrecision(4));
      }
    };
    judging.follow((value) => {
      threshold = value;
      judging.judge(images, threshold);
      tell();
      choose(page);
    });
    find(".moved button").addEventListener("click", () => { document.getElementById("op-chosen").click(); tool("sort").focus(); });

    // Layers
    const blend = () => {
      for (const name of ["picture", "heat"]) root.style.setProperty(`--${name}`, layers[name] / 100);
      for (const name of ["mask", "contour"]) root.classList.toggle(`no-${name}`, !layers[name]);
      for (const input of every("[data-layer]")) {
        const value = layers[input.dataset.layer];
        if (input.type === "checkbox") input.checked = value; else input.value = value;
      }
    };
    const flip = (name) => {
      if (name !== "heat") layers[name] = !layers[name];
      else if (layers.heat) { before = layers.heat; layers.heat = 0; } else layers.heat = before || 75;
      blend();
    };

    // One image, large
    const row = (list, name, text) => {
      list.append(make("div"));
      list.lastChild.append(make("dt", "", name), make("dd", "", text));
    };
    const facts = (one) => {
      const about = make("div", "about"), list = make("dl");
      row(list, "class", one.class);
      row(list, "verdict", `${KINDS[one.kind]}: called ${one.called}`);
      row(list, "score", threshold === null ? one.score.toFixed(3) : `${one.score.toFixed(3)}, threshold ${threshold.toFixed(3)}`);
      about.append(list, ...one.notes.map((note) => make("p", "", note)), ...one.doubts.map((doubt) => make("p", "flag", doubt)));
      return about;
    };
    const copies = (one) => {
      const box = make("div", "copies");
      if (one.copies < 2) return box;
      const others = images.filter((other) => other.group === one.group && other !== one);
      const here = others.length + 1 === one.copies ? "all" : others.length + 1;
      box.append(make("p", "", `Near-copy group ${one.group}: ${one.copies} images, ${here} of them in the test set.`));
      for (const other of others.slice(0, 12)) {
        const button = press(`copy ${other.kind}`);
        button.title = other.file;
        button.dataset.row = other.row;
        button.append(picture(other, ""), make("span", "", `${KINDS[other.kind]}, ${other.class}`), make("span", "", other.score.toFixed(3)));
        button.addEventListener("click", () => open(other));
        box.append(button);
      }
      const all = press("", "Show the group");
      all.addEventListener("click", () => { together(one.group); dialog.close(); });
      box.append(all);
      return box;
    };
    const open = (one) => {
      const place = shown.indexOf(one);
      if (place >= 0) at = place;
      find("#large-name").textContent = one.file;
      find("dialog .place").textContent = place < 0 ? "not among those chosen" : `${place + 1} of ${shown.length}`;
      const alt = `Test image ${one.file}: ${one.class}, called ${one.called}, score ${one.score.toFixed(3)}`;
      find("dialog .stage").replaceChildren(picture(one, alt), scale(one, threshold));
      find("dialog .about").replaceWith(facts(one));
      find("dialog .copies").replaceWith(copies(one));
      find('dialog [data-step="-1"]').disabled = at === 0;
      find('dialog [data-step="1"]').disabled = at >= shown.length - 1;
      dialog.className = `large ${one.kind}`;
      dialog.dataset.row = one.row;
      if (!dialog.open) dialog.showModal();
      if (document.activeElement === document.body || document.activeElement.disabled) find('[data-step="0"]').focus();
    };
    const step = (by) => { if (shown[at + by]) open(shown[at + by]); };
    // What the reader does
    root.addEventListener("input", (event) => {
      const { layer, kind, tool: name } = event.target.dataset;
      if (layer) {
        layers[layer] = event.target.type === "checkbox" ? event.target.checked : Number(event.target.value);
        blend();
      } else if (kind || name) choose();
    });
    tool("turn").addEventListener("click", (event) => {
      event.target.setAttribute("aria-pressed", String(event.target.getAttribute("aria-pressed") !== "true"));
      choose();
    });
    tool("ungroup").addEventListener("click", () => { group = null; choose(); tool("sort").focus(); });
    grid.addEventListener("click", ({ target }) => {
      if (target.closest(".thumb")) open(shown[Number(target.closest(".thumb").dataset.place)]);
    });
    pager.addEventListener("click", (event) => {
      if (!event.target.dataset.page) return;
      turn(page + Number(event.target.dataset.page));
      root.scrollIntoView();
    });
    dialog.addEventListener("click", (event) => {
      const by = event.target.dataset.step;
      if (by === "0" || event.target === dialog) dialog.close();
      else if (by) step(Number(by));
    });
    dialog.addEventListener("close", () => focus(at));
    dialog.addEventListener("keydown", (event) => {
      if (!plain(event) || !(event.key in STEPS) || event.target.type === "range") return;
      event.preventDefault();
      step(STEPS[event.key]);
    });
    grid.addEventListener("keydown", (event) => {
      const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
      const moves = { ...STEPS, ArrowUp: -across, ArrowDown: across };
      if (!plain(event) || !(event.key in moves || event.key === "Home" || event.key === "End")) return;
      event.preventDefault();
      const place = Number(event.target.closest(".thumb").dataset.place);
      focus(event.key === "Home" ? 0 : event.key === "End" ? shown.length - 1 : place + moves[event.key]);
    });
    addEventListener("gallery", ({ detail }) => { // others on the page ask for an image, or to open it
      detail.image = images.find((one) => one.row === detail.row);
      if (detail.open && detail.image) open(detail.image);
    });
    root.addEventListener("keydown", (event) => {
      const name = SWITCHES[event.key];
      if (name && plain(event) && find(`[data-layer="${name}"]`) && event.target.closest(".thumbs, dialog")) flip(name);
    });

    root.style.setProperty("--tile", Math.min(Math.max(median(images.map((one) => one.aspect)), 0.7), 1.6));
    blend();
    tell();
    choose();
    root.hidden = false;
    root.parentElement.classList.add("live");
  };

  const root = document.querySelector(".gallery");
  if (root) begin(root, JSON.parse(document.getElementById("gallery-data").textContent));
}
