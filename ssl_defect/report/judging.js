// What a threshold makes of the test images, as gallery.py has it for the run's own, and work put off to the next frame.
const judging = {
  // A good image is an alarm or good, a defective one a hit or a miss.
  kind: (label, score, threshold) => (score >= threshold ? (label ? "hit" : "alarm") : label ? "miss" : "good"),
  wrong: (kind) => kind === "miss" || kind === "alarm",

  // Writes kind, verdict, error, doubts and place in the order (the worst mistakes first) into each image.
  judge: (images, threshold) => {
    for (const one of images) {
      one.kind = judging.kind(one.label, one.score, threshold);
      one.called = one.score >= threshold ? "defective" : "good";
      one.error = one.label ? threshold - one.score : one.score - threshold;
      one.doubts = one.sure && judging.wrong(one.kind) ? [...one.mixed, one.sure] : one.mixed;
    }
    judging.order(images).forEach((one, index) => { one.index = index; });
  },
  // Misses and false alarms in turn, the worst of each first; then the rest by error.
  order: (images) => {
    const of = (kinds, far) => images.filter(({ kind }) => kinds.includes(kind)).sort((a, b) => far(b) - far(a) || a.row - b.row);
    const misses = of(["miss"], (one) => -one.score), alarms = of(["alarm"], (one) => one.score);
    const turns = Array.from({ length: Math.max(misses.length, alarms.length) }, (_, n) => [misses[n], alarms[n]]).flat();
    return [...turns.filter(Boolean), ...of(["hit", "good"], (one) => one.error)];
  },
  // Calls `done` with what was told last, once per frame: a slider tells more often than the page is drawn.
  follow: (done) => {
    let latest, waiting = false;
    document.addEventListener("threshold", ({ detail }) => {
      latest = detail;
      if (!waiting) requestAnimationFrame(() => { waiting = false; done(latest); });
      waiting = true;
    });
  },
};
