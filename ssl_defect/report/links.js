// Links to a test image (#image-ROW) open it in the gallery; without script they lead to its picture below.
{
  const opened = (hash) => {
    const [, row] = /^#image-(\d+)$/.exec(hash) || [];
    const detail = { row: Number(row), open: row !== undefined };
    if (detail.open) dispatchEvent(new CustomEvent("gallery", { detail }));
    return detail.image;
  };
  addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#image-']");
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey) && opened(link.hash)) event.preventDefault();
  });
  opened(location.hash);
}
