"""Seconds to build and to open a report, its size, and the answer to its sliders.

`python experiments/benchmarks/report.py [IMAGES] [--noise]` (1,000 test images; `--noise`: pictures that cannot be
packed, the worst case). The run is made up; opening needs Debian's chromium and chromium-driver, and selenium.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "report"))
from before_records import add_before
from fabricated_run import Fake, build

from ssl_defect.artifacts import machine, versions
from ssl_defect.report.stage import report

SIDE, ROUNDS = 128, 5
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
OPENED = "const [it] = performance.getEntriesByType('navigation'); return it.loadEventEnd - it.startTime;"
# Milliseconds from an input event to the end of the layout that it causes, for twenty places of a slider.
SLIDE = """
const slider = document.querySelector(arguments[0]);
if (!slider) return [];
const low = Number(slider.min), high = Number(slider.max || 100), times = [];
for (let turn = 0; turn < 20; turn += 1) {
  slider.value = low + (high - low) * ((turn * 7) % 20) / 20;
  const start = performance.now();
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  document.body.getBoundingClientRect();
  times.push(performance.now() - start);
}
return times;
"""
CHOSEN = """
const select = document.querySelector('[data-tool="sort"]'), times = [];
if (!select) return times;
for (const option of select.options) {
  select.value = option.value;
  const start = performance.now();
  select.dispatchEvent(new Event('input', { bubbles: true }));
  document.body.getBoundingClientRect();
  times.push(performance.now() - start);
}
return times;
"""


def textures(run: Path) -> None:
    """Replace noise by brushed textures with a dark defect, and maps by smooth ones: so pictures of parts look."""
    rng = np.random.default_rng(0)
    masks = np.load(run / "prepare" / "masks.npy", mmap_mode="r")
    images = np.lib.format.open_memmap(run / "prepare" / "images.npy", mode="r+")
    for row in range(len(images)):
        noise = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE), dtype=np.float32), (0, 0), 1.2, sigmaY=5.0)
        view = 130 + 22 * noise / noise.std() - 60 * masks[row]
        images[row] = np.clip(view, 0, 255).astype(np.uint8)[..., None]
    maps = np.lib.format.open_memmap(run / "evaluate" / "maps.npy", mode="r+")
    for row in range(len(maps)):
        maps[row] = cv2.GaussianBlur(np.asarray(maps[row]), (0, 0), 4.0)


def opened(page: Path) -> dict[str, list[float]]:
    """Milliseconds from navigation to the load event, and those of the sliders and of sorting."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    found: dict[str, list[float]] = {"open": []}
    try:
        for _ in range(ROUNDS):
            driver.get("about:blank")
            driver.get(page.as_uri())
            found["open"].append(driver.execute_script(OPENED))
        for name, selector in (("threshold", "#operating input[type=range]"), ("map", ".gallery [data-layer=heat]")):
            found[name] = driver.execute_script(SLIDE, selector)
        found["sort"] = driver.execute_script(CHOSEN)
    finally:
        driver.quit()
    return found


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:] if text.isdigit()]
    count, noise = (numbers or [1000])[0], "--noise" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        recipe = build(run, Fake(count=2 * count - 1, size=SIDE, channels=3, gradcam=12))
        add_before(run)
        if not noise:
            textures(run)
        seconds, used = [], []
        for _ in range(3):
            start, before = time.perf_counter(), time.process_time()
            report(recipe, run, run / "report")
            seconds.append(time.perf_counter() - start)
            used.append(time.process_time() - before)
        page = run / "report" / "index.html"
        beside = [path.stat().st_size for path in (run / "report").rglob("*.webp")]
        found: dict[str, Any] = {
            "settings": {"test images": count, "side": SIDE, "noise": noise},
            "machine": machine() | {"load": os.getloadavg()[0]},
            "versions": versions(),
            "build_s": seconds,
            "build_processor_s": used,
            "page_bytes": page.stat().st_size,
            "beside_bytes": sum(beside),
            "ms": opened(page),
        }
    print(json.dumps(found, indent=1))
    print(f"built in {min(seconds):.1f} s, {min(used):.1f} s of processor time")
    print(f"page {found['page_bytes'] / 1e6:.1f} MB, beside it {sum(beside) / 1e6:.1f} MB")
    for what, times in found["ms"].items():
        if times:
            print(f"{what}: median {statistics.median(times):.0f} ms, at most {max(times):.0f} ms")


if __name__ == "__main__":
    main()
