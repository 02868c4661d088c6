// Follows jobs by server-sent events, where the project serves ASGI: {% job_progress %} loads this file.
for (const place of document.querySelectorAll("[data-jobs-events]")) {
  const source = new EventSource(place.dataset.jobsEvents);
  delete place.dataset.jobsEvents; // the file may be loaded once more
  source.addEventListener("part", (event) => { place.innerHTML = event.data; });
  source.addEventListener("end", (event) => {
    source.close();
    // After a second: earlier, the page could not tell this end from one that it was made too early for.
    if (event.data === "refresh") setTimeout(() => location.reload(), 1000);
  });
}
