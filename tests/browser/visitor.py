"""Somebody in front of a browser."""

from django.urls import reverse

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 375, "height": 740}


class Visitor:
    """
    One window of a signed-in admin. `page` is Playwright's; `complaints` is what the browser found wrong: errors of
    scripts, what the policy blocked, answers that failed.
    """

    def __init__(self, browser, site, session, *, scripted=True, live=True, **options):
        self.scripted = scripted
        self.complaints = []
        options = {"viewport": DESKTOP} | options
        self.context = browser.new_context(base_url=site, java_script_enabled=scripted, **options)
        self.context.set_default_timeout(15_000)  # milliseconds
        self.context.add_cookies([{"name": "sessionid", "value": session, "url": site}])
        if not live:
            self.context.add_init_script("localStorage.setItem('jobs-live', 'off')")
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("response", self._see)

    def _hear(self, message):
        if message.type in ("error", "warning") and "favicon.ico" not in str(message.location):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _see(self, response):
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):  # the admin has none
            self.complaints.append(f"{response.url} answered {response.status}")

    def go(self, name, *args, query=""):
        """Open a page of the dashboard by the name of its address: `go("list", "dead", query="?group=error")`."""
        self.page.goto(address(name, *args) + query)
        return self.page

    def follow(self, link):
        """Click on what leads to another page, and wait until that is there: a click alone may return before."""
        with self.page.expect_navigation():
            link.click()

    def press(self, name, within=None, *, asks=""):
        """Press the button of that name. `asks`: the question of the page that comes first; she says yes to it."""
        self.follow((within or self.page).get_by_role("button", name=name, exact=True))
        question = self.page.locator("#jobs-question")
        assert (question.inner_text() if question.count() else "") == asks
        if asks:
            self.follow(self.page.locator("button[name=confirmed]"))

    def more(self):
        """Open the menu with a job's further buttons."""
        self.page.locator("#jobs-more > summary").click()

    def told(self):
        """What the messages at the top of the page say."""
        return self.page.locator(".messagelist").inner_text()

    def leave(self):
        """Close the window. AssertionError if the browser complained."""
        self.context.close()
        assert self.complaints == []


def address(name, *args):
    """The path of a page or action: `address("job", "<id>")`."""
    return reverse("admin:jobs_dashboard_changelist" if name == "overview" else f"admin:jobs_{name}", args=args)
