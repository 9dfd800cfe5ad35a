// The operating point. Scores come in rising order, so a threshold costs two bisections; formulas as in cuts.py.
{
const operating = () => {
  const data = JSON.parse(document.getElementById("op-data").textContent);
  const find = (name) => document.getElementById(`op-${name}`);
  const root = document.getElementById("op"), plot = find("plot"), range = find("range"), number = find("number");

  const below = (values, limit) => { // how many of the rising values lie below the limit
    let low = 0, high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] < limit) low = middle + 1; else high = middle;
    }
    return low;
  };
  const wrong = ({ good, defective }, threshold) => ({ fn: below(defective, threshold), fp: good.length - below(good, threshold) });
  const levelsOf = ({ good, defective }) => {
    const sorted = Float64Array.from(good.concat(defective)).sort();
    return sorted.filter((value, place) => !place || value !== sorted[place - 1]);
  };
  const cutsOf = (levels, top) => { // midway between neighbouring scores, from all called defective to none
    return Float64Array.from({ length: levels.length + 1 }, (_, place) => {
      const low = place ? levels[place - 1] : 0, high = place < levels.length ? levels[place] : top;
      const middle = low + (high - low) / 2;
      return middle > low ? middle : high;
    });
  };

  const { test } = data, source = data.validation ?? test;
  const good = test.good.length, bad = test.defective.length;
  const levels = levelsOf(test), cuts = cutsOf(levels, test.top);
  const stepsOf = (set, at) => [at, at.map((cut) => wrong(set, cut).fn), at.map((cut) => wrong(set, cut).fp)];
  const testSteps = stepsOf(test, cuts);
  const sourceSteps = data.validation ? stepsOf(source, cutsOf(levelsOf(source), source.top)) : testSteps;
  const line = { miss: 10, alarm: 1, share: bad / (good + bad) };
  let threshold = data.threshold, how = data.rule;

  const cost = (missRate, alarmRate) => line.share * missRate * line.miss + (1 - line.share) * alarmRate * line.alarm;
  const cheapest = (set, [at, fn, fp]) => { // of equal ones the highest
    let best = Infinity, found = 0;
    for (let place = 0; place < at.length; place++) {
      const value = cost(fn[place] / set.defective.length, fp[place] / set.good.length);
      if (value <= best) [best, found] = [value, at[place]];
    }
    return found;
  };

  const measure = (at) => {
    const { fn, fp } = wrong(test, at), tp = bad - fn, tn = good - fp;
    const miss = fn / bad, alarm = fp / good, hits = line.share * (1 - miss), called = hits + (1 - line.share) * alarm;
    return {
      fn, fp, tp, tn, "recall": tp / bad, "precision": tp + fp ? tp / (tp + fp) : null, "specificity": tn / good,
      "f1": 2 * tp / (2 * tp + fp + fn), "accuracy": (tp + tn) / (good + bad), "alarm-rate": alarm,
      "escapes": 1000 * miss, "alarms": 1000 * alarm, "line-escapes": 1000 * line.share * miss,
      "line-alarms": 1000 * (1 - line.share) * alarm, "line-precision": called ? hits / called : null,
      "cost": 1000 * cost(miss, alarm),
    };
  };

  const shares = ["recall", "precision", "specificity", "f1", "accuracy", "line-precision"];
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const rate = (value) => value >= 9.95 || value === 0 ? whole.format(value) : value.toFixed(value < 0.095 ? 2 : 1);
  const written = (key, value) => value === null ? "–" : shares.includes(key) ? value.toFixed(3) : rate(value);
  const percent = (part) => `${(100 * part).toFixed(part > 0 && part < 0.1 || part > 0.99 && part < 1 ? 1 : 0)}%`;
  const short = (value) => { // few digits, where they mean the same
    const few = Number(value.toPrecision(4)), one = wrong(test, few), other = wrong(test, value);
    return one.fn === other.fn && one.fp === other.fp ? few : value;
  };

  const cells = (name) => [...root.querySelectorAll(`[data-op-${name}]`)].map((cell) => [cell.getAttribute(`data-op-${name}`), cell]);
  const now = cells("now"), chosen = cells("chosen");
  const matrix = cells("cell").map(([key, cell]) => [key, cell, cell.querySelector("b"), cell.querySelector("span")]);
  const marks = [...root.querySelectorAll("[data-mark]")];
  const place = (value) => Math.min(Math.max((value - data.bounds[0]) / (data.bounds[1] - data.bounds[0]), 0), 1);

  const showMatrix = (found) => {
    for (const [key, cell, count, part] of matrix) {
      const of = found[key] / (key === "tn" || key === "fp" ? good : bad);
      cell.style.setProperty("--part", of.toFixed(3));
      count.textContent = whole.format(found[key]);
      part.textContent = percent(of);
    }
  };
  const showMarks = (found) => {
    for (const mark of marks) {
      const [x, y] = mark.dataset.mark === "roc" ? [found["alarm-rate"], found.recall] : [found.recall, found.precision ?? 1];
      const { left, right, top, bottom } = mark.dataset;
      mark.setAttribute("cx", +left + x * (right - left));
      mark.setAttribute("cy", +bottom - y * (bottom - top));
    }
  };
  const round = (value) => value === null ? null : Number(value.toPrecision(6));
  const point = (found) => JSON.stringify({
    threshold, chosen: how, recall: round(found.recall), precision: round(found.precision), false_alarm_rate: round(found["alarm-rate"]),
    measured_on: { good, defective: bad, split: data.split_digest },
    cost: { miss: line.miss, false_alarm: line.alarm, defective_share: round(line.share), per_1000_parts: round(found.cost) },
  }, null, 1).replaceAll(/\n\s*/g, " ");

  let speaking, last = threshold;
  const tell = () => { // the gallery and the embeddings follow
    if (threshold !== last) document.dispatchEvent(new CustomEvent("threshold", { detail: threshold }));
    last = threshold;
  };
  const show = () => {
    const found = measure(threshold);
    plot.style.setProperty("--at", place(threshold));
    range.setAttribute("aria-valuetext", String(short(threshold)));
    if (document.activeElement !== number) number.value = short(threshold);
    if (range.valueAsNumber !== threshold) range.value = threshold;
    for (const [key, cell] of now) cell.textContent = written(key, found[key]);
    showMatrix(found);
    showMarks(found);
    find("told").textContent = `Finds ${whole.format(found.tp)} of ${whole.format(bad)} defective, ${whole.format(found.fn)} escape; ${whole.format(found.fp)} false alarms on ${whole.format(good)} good ones.`;
    find("costs").textContent = `Costs ${rate(found.cost)} per 1,000 parts.`;
    find("json").textContent = point(found);
    find("copied").textContent = "";
    find("chosen").disabled = threshold === data.threshold;
    clearTimeout(speaking); // spoken once the slider rests
    speaking = setTimeout(() => { find("live").textContent = `Threshold ${short(threshold)}. ${find("told").textContent} ${find("costs").textContent}`; }, 500);
  };
  const go = (to, by = "by looking at the test images") => {
    [threshold, how] = [to, to === data.threshold ? data.rule : by];
    show();
    tell();
  };

  let cheap;
  const showLine = () => { // what hangs on the costs alone
    cheap = cheapest(source, sourceSteps);
    const fixed = measure(data.threshold), there = measure(cheap), best = cheapest(test, testSteps);
    for (const [key, cell] of chosen) cell.textContent = written(key, fixed[key]);
    const ends = `${rate(there.cost)} per 1,000 parts instead of ${rate(fixed.cost)} at the chosen one`;
    find("advice").textContent = data.validation
      ? `Cheapest by the validation images: ${short(cheap)}. On the test images it costs ${ends}; the cheapest by looking at them (${short(best)}) would show ${rate(measure(best).cost)}.`
      : `Cheapest on these test images: ${short(cheap)}, ${ends}. It was found by looking at them, so it flatters.`;
    show();
  };

  const step = (by) => cuts[Math.min(Math.max(below(levels, threshold) + by, 0), cuts.length - 1)];
  const page = Math.max(1, Math.round(cuts.length / 20));
  const keys = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page, Home: -cuts.length, End: cuts.length };
  range.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    go(step(keys[event.key]));
  });
  range.addEventListener("input", () => go(range.valueAsNumber));
  number.addEventListener("input", () => { if (Number.isFinite(number.valueAsNumber)) go(number.valueAsNumber); });
  number.addEventListener("blur", show);
  find("down").addEventListener("click", () => go(step(-1)));
  find("up").addEventListener("click", () => go(step(1)));
  find("chosen").addEventListener("click", () => go(data.threshold));
  find("cheapest").addEventListener("click", () => go(cheap, data.validation ? "least cost on validation" : undefined));

  const field = (name, set) => find(name).addEventListener("input", ({ target }) => {
    const value = target.valueAsNumber, fits = value >= 0 && value <= (Number(target.max) || Infinity);
    target.setAttribute("aria-invalid", String(!fits));
    if (fits) { set(value); showLine(); }
  });
  field("miss", (value) => { line.miss = value; });
  field("alarm", (value) => { line.alarm = value; });
  field("share", (value) => { line.share = value / 100; });
  find("share").value = Number((100 * line.share).toPrecision(3));

  for (const cell of document.querySelectorAll("[data-op-threshold]")) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: cell.textContent, title: "Go to this threshold" });
    button.addEventListener("click", () => { go(Number(cell.dataset.opThreshold), cell.dataset.opHow); root.scrollIntoView({ block: "nearest" }); });
    cell.replaceChildren(button);
  }
  if (navigator.clipboard) {
    find("copy").addEventListener("click", async () => {
      const text = find("json").textContent;
      find("copied").textContent = await navigator.clipboard.writeText(text).then(() => "Copied", () => "Refused by the browser; select the text");
    });
  } else find("copy").hidden = true;

  plot.style.setProperty("--chosen", place(data.threshold));
  for (const node of document.querySelectorAll("#op, .op-script")) node.hidden = false;
  showLine();
};
if (document.getElementById("op-data")) operating();
}
