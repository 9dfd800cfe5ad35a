// Test images as the gallery shows them: layers in a frame, a scale of the score, small ones with their facts.
const thumbs = (() => {
  const KINDS = { miss: "miss", alarm: "false alarm", hit: "hit", good: "good" };
  const make = (tag, name = "", text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });
  const press = (name, text = "") => Object.assign(make("button", name, text), { type: "button" });
  const drawn = (side, marks) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const [name, data] of marks) {
      for (const style of data ? ["halo", name] : []) {
        const path = document.createElementNS(svg.namespaceURI, "path");
        path.setAttribute("class", `${style} layer-${name}`);
        path.setAttribute("d", data);
        svg.append(path);
      }
    }
    return svg;
  };
  const picture = (one, side, lost, alt = "") => { // `lost` is called where a file beside the page is not there
    const frame = make("span", "frame"), stack = make("span", "stack");
    stack.style.setProperty("--aspect", one.aspect);
    for (const [name, uri] of [["picture", one.picture], ["heat", one.heat]]) {
      if (!uri) continue;
      const image = Object.assign(make("img", `layer-${name}`), { alt: name === "picture" ? alt : "", decoding: "async" });
      image.addEventListener("error", lost);
      image.src = uri;
      stack.append(image);
    }
    stack.append(drawn(side, [["found", one.contour], ["true", one.mask]]));
    frame.append(stack);
    return frame;
  };
  const scale = (one, threshold) => {
    const track = make("span", "track");
    track.style.setProperty("--score", one.score);
    track.append(make("i"), make("b"));
    return cut(track, threshold);
  };
  const cut = (track, threshold) => { // the tick at the threshold; set here and not once above, where all would inherit it
    if (threshold !== null) track.style.setProperty("--threshold", threshold);
    track.classList.toggle("open", threshold === null);
    return track;
  };
  const thumb = (one, side, lost) => {
    const item = make("li"), button = press("thumb"), words = make("span", "words"), first = make("span", "first");
    button.dataset.row = one.row;
    first.append(make("b", "kind"), make("span", "score", one.score.toFixed(3)));
    words.append(first, make("span", "class", one.class), make("span", "flag", "label in doubt"), make("span", "file", one.file));
    if (one.copies > 1) words.append(make("span", "copy", `group ${one.group}: ${one.copies} copies`));
    button.append(picture(one, side, lost), scale(one, null), words);
    item.append(button);
    return item;
  };
  const mark = (item, one, place, threshold) => { // what moves with the threshold and the order
    const button = item.firstChild;
    button.className = `thumb ${one.kind}`;
    button.dataset.place = place;
    button.tabIndex = -1;
    cut(item.querySelector(".track"), threshold);
    item.querySelector(".kind").textContent = KINDS[one.kind];
    item.querySelector(".flag").hidden = !one.doubts.length;
    return item;
  };
  return { KINDS, make, press, picture, scale, thumb, mark };
})();
