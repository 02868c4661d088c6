// Follows jobs by server-sent events, where the project serves ASGI: {% job_progress %} loads this file.
for (const place of document.querySelectorAll("[data-jobs-events]")) {
  const source = new EventSource(place.dataset.jobsEvents);
  delete place.dataset.jobsEvents; // the file may be loaded once more
  source.addEventListener("part", (event) => { place.innerHTML = event.data; });
  source.addEventListener("end", (event) => {
    source.close();
    // Not within a second: the page would take the end for one that it may have missed, and load once more.
    if (event.data === "refresh") setTimeout(() => location.reload(), Math.max(0, 1000 - performance.now()));
  });
}
