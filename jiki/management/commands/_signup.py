"""Signs up as a browser does: reads the form, submits it, follows the redirect."""

import re
from html import unescape

import httpx

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
ERRORS = re.compile(r'<ul class="errorlist[^>]*>(.*?)</ul>', re.DOTALL)
TIMEOUT = 20  # seconds for a page; hashing the password takes the most


class SignupError(Exception):
    """Raised when the sign-up is refused; the message has the answer."""


def sign_up(site: str, email: str, password: str) -> str:
    """Sign up through the form at `<site>/signup/` and return the address of the page that follows."""
    # Without the environment's proxy: the server is on this machine.
    with httpx.Client(base_url=site, follow_redirects=True, timeout=TIMEOUT, trust_env=False) as browser:
        form = browser.get("/signup/")
        token = TOKEN.search(form.text)
        if form.status_code != httpx.codes.OK or token is None:
            raise SignupError(f"{form.url} answered {form.status_code}, without a signup form.")
        fields = {"email": email, "password": password, "csrfmiddlewaretoken": token[1]}
        done = browser.post("/signup/", data=fields, headers={"Referer": str(form.url)})
    if done.status_code != httpx.codes.OK or not done.history:
        complaints = "; ".join(_text(item) for item in ERRORS.findall(done.text))
        raise SignupError(f"{done.url} answered {done.status_code}: {complaints or 'nothing readable'}")
    return str(done.url)


def _text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
