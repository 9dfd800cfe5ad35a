"""The page read back as a reader would."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input", "wbr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close in order.

    `figures` are place, exact value and text of what is marked as from metrics.json; `loose` is every other text, with
    the elements around it from the outermost.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.figures: list[tuple[str, str, str]] = []
        self.tables: dict[str, str] = {}
        self.loose: list[tuple[str, list[tuple[str, dict[str, str]]]]] = []
        self._path: list[tuple[str, dict[str, str]]] = []
        self._waiting: list[tuple[int, int, str, str]] = []
        self._words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {key: value or "" for key, value in attrs}
        self.tags.append((tag, facts))
        if tag not in VOID:
            self.open.append(tag)
            self._path.append((tag, facts))
        if "data-test-figure" in facts:
            place, exact = facts["data-test-figure"], facts["data-test-exact"]
            self._waiting.append((len(self.open), len(self._words), place, exact))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{tag} closes nothing"
        if self._waiting and self._waiting[-1][0] == len(self.open):
            _, start, path, exact = self._waiting.pop()
            self.figures.append((path, exact, "".join(self._words[start:])))
        self._path.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self._words.append(data)
            if not self._waiting and data.strip():
                self.loose.append((data.strip(), list(self._path)))

    @property
    def text(self) -> str:
        return " ".join("".join(self._words).split())
