"""service.page: what is served, and the page itself in a real Chromium against a real service."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from service.settings import Settings
from service.tokens import Token, digest
from tests.service.browser import DESKTOP, Tab, chromium, tab
from tests.service.conftest import edit_body, report_body, run_body
from tests.service.processes import ServerProcess, serve_in_thread

GROUND: dict[Any, str] = {"light": "rgb(244, 245, 247)", "dark": "rgb(14, 17, 22)"}
METRICS = {"loss": 3.25, "lr": 0.0003, "eval/c4/loss": 3.5, "eval/code/loss": 2.5}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def profile(browser: Browser) -> BrowserContext:
    """A profile that most tests share: plotly.js is compiled once for all of them."""
    return browser.new_context(**DESKTOP)


@pytest.fixture
def opened(profile: BrowserContext, server: str) -> Iterator[Tab]:
    """A desktop's tab of the shared server."""
    with tab(profile, server) as found:
        yield found


def report(api: httpx.Client, run: str, step: int, *, lead: int = 20, **changes: Any) -> None:
    """The trainer has done `step` steps as planned, and promised `lead` more."""
    samples = {name: item["samples"] for name, item in api.get(f"{run}/forecast?step={step}").json()["corpora"].items()}
    body = {"metrics": METRICS, "counts": samples, **changes}
    answer = api.post(f"{run}/progress", json=report_body(step, step + lead, **body))
    assert answer.status_code == 200, answer.text


def write(page: Page, share: str = "30", reason: str = "code loss still falls") -> None:
    """Fill in the form: another share of code, who and why."""
    field = page.get_by_label("Share of code in per cent")
    field.fill(share)
    field.blur()
    page.get_by_label("Reason").fill(reason)
    page.get_by_label("Author").fill("ada")


# -- what is served


def test_the_page_allows_nothing_but_this_service(api: httpx.Client) -> None:
    answer = api.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "unsafe-eval" not in answer.headers["content-security-policy"]
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert "http://" not in re.sub(r"http://www\.w3\.org/", "", answer.text)  # namespaces of SVG alone
    assert "https://" not in answer.text


def test_files_are_named_by_content_packed_and_not_sent_twice(api: httpx.Client) -> None:
    (plotly,) = re.findall(r'src="(page/plotly-[0-9a-f]{16}\.min\.js)"', api.get("/").text)
    with api.stream("GET", f"/{plotly}", headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < 2 * 2**20
    plain = api.get(f"/{plotly}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == gzip.decompress(packed)
    style = api.get("/page/style.css")
    assert style.headers["cache-control"] == "no-cache"
    again = api.get("/page/style.css", headers={"If-None-Match": style.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["serving.py", "..%2fserving.py", "%2e%2e/serving.py", "plotly.min.js", "../app.py", "."]
)
def test_no_other_file_is_given_out(api: httpx.Client, path: str) -> None:
    answer = api.get(f"/page/{path}")
    assert answer.status_code == 404
    assert "import" not in answer.text


# -- looking


def test_a_run_is_shown_without_errors(api: httpx.Client, run: str, opened: Tab) -> None:
    for step in (0, 100, 200, 300):
        report(api, run, step)
    page = opened.open(run)
    expect(page.locator("#summary")).to_contain_text("300 of 1,000")
    expect(page.locator("#summary")).to_contain_text("3.2500")
    expect(page.locator("#legend li")).to_have_text(["c4", "code", "math"])
    row = page.get_by_role("row", name="code")
    expect(row.first).to_contain_text("2.5000")
    assert page.evaluate("document.querySelector('#mixture-plot').data.map((trace) => trace.yaxis)").count("y2") == 3
    drawn = page.evaluate("document.querySelector('#mixture-plot').layout.annotations.map((note) => note.text)")
    assert drawn == ["<b>frontier</b> 320", "<b>now</b> 300"]
    page.get_by_text("The mixture as a table").click()
    expect(page.get_by_role("table", name="Shares by step")).to_contain_text("1,000")


def test_a_live_run_moves(api: httpx.Client, run: str, opened: Tab) -> None:
    page = opened.open(run)
    expect(page.locator("#losses-none")).to_be_visible()
    for step in (20, 40, 60):
        report(api, run, step)
        expect(page.locator("#summary")).to_contain_text(f"{step} of 1,000")
    expect(page.locator("#losses-none")).to_be_hidden()
    assert page.evaluate("document.querySelector('#losses-plot').data[0].x") == [20, 40, 60]
    assert api.post(f"{run}/revisions", json=edit_body(0, 500, author="bob")).status_code == 201
    expect(page.locator("#history li").first).to_contain_text("Revision 1in force from step 500")
    report(api, run, 600)  # the trainer went on without having heard of it
    expect(page.locator("#history li").first).to_contain_text("Revision 1superseded from step 500")
    expect(page.locator("#history li").first).to_contain_text("the trainer passed step 500 under revision 0")
    expect(page.locator("#history li").last).to_contain_text("Basein force")
    streams = [request for request in opened.requests if request.url.endswith("/events")]
    assert len(streams) == 1  # it moved by events, not by asking again


def test_before_the_first_run(browser: Browser, tmp_path: Path) -> None:
    with serve_in_thread(Settings(database=tmp_path / "runs.db")) as url, tab(browser, url) as opened:
        page = opened.open()
        expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
        expect(page.locator("#empty-yaml")).to_have_text(f"service: {{url: {url}}}")


def test_names_and_reasons_are_text(api: httpx.Client, make_run: Callable[..., str], opened: Tab) -> None:
    evil = "<img src=x onerror=document.title=0>"
    corpora = {evil: {"shard_sizes": [500] * 40}, "code": {"shard_sizes": [400] * 10}}
    run = make_run(name=evil, corpora=corpora, schedule={"phases": [{"start": 0, "mixture": {evil: 1.0}}]})
    edit = edit_body(0, 500, mixture={evil: 0.5, "code": 0.5}, reason=evil, author=evil)
    assert api.post(f"{run}/revisions", json=edit).status_code == 201
    page = opened.open(run)
    expect(page.locator("#history .reason")).to_have_text(evil)
    expect(page.locator("#legend")).to_contain_text(evil)
    page.locator("#mixture-plot").hover(position={"x": 300, "y": 150})
    page.wait_for_selector("#mixture-plot .hoverlayer .legend, #mixture-plot .hoverlayer .hovertext")
    assert page.locator("img").count() == 0
    assert page.title().startswith(evil)


def test_where_a_sample_is_read_and_what_stands_in_a_step(api: httpx.Client, run: str, opened: Tab) -> None:
    page = opened.open(run)
    batch = api.get(f"{run}/batches/700").json()
    slot = batch["corpus"].index("code")
    sample = batch["sample_id"][slot]
    page.locator("#reads-corpus").select_option("code")
    page.get_by_label("Sample", exact=True).fill(str(sample))
    page.get_by_role("button", name="Which steps read it?").click()
    expect(page.locator("#reads")).to_contain_text(f"Sample {sample:,} of code is read once")
    page.get_by_role("button", name="step 700").click()
    expect(page.locator("#batch")).to_contain_text("Step 700 (forecast), slots 0 to 15")
    expect(page.locator("#batch tbody tr").nth(slot)).to_contain_text(f"{sample:,}")
    page.get_by_label("Sample", exact=True).fill("4000000")
    page.get_by_role("button", name="Which steps read it?").click()
    expect(page.locator("#reads .wrong")).to_contain_text("code has samples 0 to 3999")


# -- editing


def test_an_edit_is_tried_out_and_made(api: httpx.Client, run: str, opened: Tab) -> None:
    report(api, run, 100)
    page = opened.open(run)
    write(page)
    expect(page.locator("#preview .statement")).to_have_text(
        "From step 140 on: c4 goes from 100 % to 70 % and code goes from 0 % to 30 %."
    )
    expect(page.locator("#preview")).to_contain_text("From step 600 on the schedule goes on as planned.")
    expect(page.locator("#sum")).to_have_text("Sum 100 %")
    dashed = "document.querySelector('#mixture-plot').layout.shapes.filter((shape) => shape.name === 'edit').length"
    assert page.evaluate(dashed) == 2
    assert api.get(run).json()["revision"] == 0
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/revisions")) as sent:
        page.get_by_role("button", name="Submit revision").click()
    assert re.fullmatch("[0-9a-f]{32}", sent.value.headers["idempotency-key"])
    expect(page.locator("#edit-done")).to_have_text("Revision 1 is accepted: it takes effect at step 140.")
    expect(page.locator("#history li").first).to_contain_text("code loss still falls")
    expect(page.locator("#history .mark").first).to_have_text("in force")
    (made,) = api.get(f"{run}/revisions").json()["revisions"]
    assert (made["parent"], made["effective_step"], made["author"]) == (0, 140, "ada")
    assert made["schedule"]["phases"][0] == {"start": "140ba", "mixture": {"c4": 0.7, "code": 0.3}}
    assert made["schedule"]["phases"][1]["start"] == "600ba"
    assert page.evaluate(dashed) == 0


def test_a_conflict_is_one_click_away_from_the_edit(api: httpx.Client, run: str, opened: Tab) -> None:
    page = opened.open(run)
    page.get_by_label("From step").fill("300")
    write(page)
    page.wait_for_selector("#preview .statement")
    assert api.post(f"{run}/revisions", json=edit_body(0, 700, author="bob", reason="mine")).status_code == 201
    expect(page.locator("#edit-notice")).to_contain_text("Revision 1 by bob (“mine”) is in force now")
    held: list[Route] = []
    # the page hears of the trainer's progress only after it was refused
    page.route(f"**{run}", lambda route: held.append(route))
    report(api, run, 290)  # and now the trainer freezes the step too
    page.get_by_role("button", name="Rebase onto revision 1").click()
    expect(page.locator("#edit-notice")).to_contain_text("every step below 310")
    expect(page.get_by_role("button", name="Move the edit to step")).to_have_text("Move the edit to step 320")
    for route in held:
        route.continue_()
    page.unroute(f"**{run}")
    page.get_by_role("button", name="Move the edit to step 330").click()
    expect(page.locator("#preview .statement")).to_contain_text("From step 330 on")
    page.get_by_role("button", name="Submit revision").click()
    expect(page.locator("#edit-done")).to_contain_text("Revision 2 is accepted")
    made = api.get(f"{run}/revisions").json()["revisions"][-1]
    assert (made["parent"], made["effective_step"], made["reason"]) == (1, 330, "code loss still falls")


def test_an_edit_whose_answer_is_lost_is_made_once(api: httpx.Client, run: str, opened: Tab) -> None:
    page = opened.open(run)
    lost = []

    def lose(route: Route) -> None:
        if "dry_run" in route.request.url or route.request.method != "POST" or lost:
            route.continue_()
            return
        lost.append(route.fetch().status)  # the service has stored it, the page never hears
        route.abort()

    page.route("**/revisions*", lose)
    write(page)
    page.wait_for_selector("#preview .statement")
    page.get_by_role("button", name="Submit revision").click()
    expect(page.locator("#preview .wrong")).to_contain_text("Submit again: it is made once")
    page.get_by_role("button", name="Submit revision").click()
    expect(page.locator("#edit-done")).to_contain_text("Revision 1 is accepted")
    assert lost == [201]
    assert len(api.get(f"{run}/revisions").json()["revisions"]) == 1


def test_limits_are_named_when_they_are_broken(api: httpx.Client, make_run: Callable[..., str], opened: Tab) -> None:
    run = make_run(limits={"code": {"max": 0.25}})
    page = opened.open(run)
    expect(page.locator("#shares")).to_contain_text("allowed: ≤ 25 %")
    write(page, share="40")
    expect(page.locator("#preview .wrong")).to_contain_text("code has 40 % at step 10, allowed is at most 25 %")
    expect(page.locator("#preview .statement")).to_have_count(0)


def test_an_edit_by_keyboard_alone(api: httpx.Client, run: str, opened: Tab) -> None:
    page = opened.open(run)

    def go_to(label: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            found = "(e) => e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? e.innerText"
            if page.locator(":focus").evaluate(found).strip().startswith(label):
                return
        pytest.fail(f"{label} is not reached by Tab")

    go_to("Share of code in per cent")
    page.keyboard.press("Control+A")
    page.keyboard.type("12.5")
    go_to("Share of code")  # its slider
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Share of code in per cent")).to_have_value("13")
    go_to("From step")
    page.keyboard.press("Control+A")
    page.keyboard.type("250")
    go_to("Reason")
    page.keyboard.type("by hand")
    go_to("Author")
    page.keyboard.type("grace")
    expect(page.locator("#preview .statement")).to_contain_text("code goes from 0 % to 13 %")
    page.keyboard.press("Enter")
    expect(page.locator("#edit-done")).to_contain_text("Revision 1 is accepted")
    expect(page.locator("#edit-done")).to_be_focused()
    (made,) = api.get(f"{run}/revisions").json()["revisions"]
    assert made["schedule"]["phases"][0]["mixture"] == {"c4": 0.87, "code": 0.13}


# -- coming and going


def test_it_goes_on_after_a_restart_of_the_service(browser: Browser, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "runs.db")
    try:
        with server.client() as api:
            run = f"/v1/runs/{api.post('/v1/runs', json=run_body()).json()['id']}"
            report(api, run, 10)
        with tab(browser, server.url) as opened:
            page = opened.open(run)
            with server.client() as api:
                report(api, run, 20)
            expect(page.locator("#summary")).to_contain_text("20 of 1,000")
            server.kill()
            expect(page.locator("#connection")).to_have_text("service away, trying again")
            server.arguments = ("--port", server.url.rsplit(":", 1)[1])
            server.start()
            expect(page.locator("#connection")).to_have_text("live")
            with server.client() as api:
                report(api, run, 30)
            expect(page.locator("#summary")).to_contain_text("30 of 1,000")
            first, *_, last = [request for request in opened.requests if request.url.endswith("/events")]
            assert "last-event-id" not in first.headers
            assert last.headers["last-event-id"] == "3"  # the run was made, and reported at steps 10 and 20
            opened.errors.clear()  # the browser says that a stream broke off
    finally:
        server.kill()


def test_a_token_is_asked_for_and_kept_in_the_tab(browser: Browser, tmp_path: Path) -> None:
    secrets = {scope: f"{scope}-0123456789abcdefghij" for scope in ("read", "write")}
    tokens = tuple(Token(name=scope, scopes=frozenset({scope}), digest=digest(text)) for scope, text in secrets.items())
    settings = Settings(database=tmp_path / "runs.db", tokens=tokens)
    with serve_in_thread(settings) as url, tab(browser, url) as opened:
        headers = {"Authorization": f"Bearer {secrets['write']}"}
        run = f"/v1/runs/{httpx.post(f'{url}/v1/runs', json=run_body(), headers=headers).json()['id']}"
        page = opened.open()
        dialog = page.get_by_role("dialog", name="Token")
        for wrong in ("", "not-a-token-of-anybody"):
            dialog.get_by_label("Token").fill(wrong)
            dialog.get_by_role("button", name="Use it").click()
            expect(dialog).to_be_visible()
        expect(dialog).to_contain_text("does not know this token")
        dialog.get_by_label("Token").fill(secrets["read"])
        dialog.get_by_role("button", name="Use it").click()
        expect(page.locator("#connection")).to_have_text("live")
        write(page)
        expect(page.locator("#preview .wrong")).to_contain_text("Your token may look, but not edit")
        page.reload()  # the tab keeps it; and another token can be given at any time
        expect(page.locator("#connection")).to_have_text("live")
        page.get_by_role("button", name="Token").click()
        dialog.get_by_label("Token").fill(secrets["write"])
        dialog.get_by_role("button", name="Use it").click()
        write(page)
        page.wait_for_selector("#preview .statement")
        page.get_by_role("button", name="Submit revision").click()
        expect(page.locator("#edit-done")).to_contain_text("Revision 1 is accepted")
        (made,) = httpx.get(f"{url}{run}/revisions", headers=headers).json()["revisions"]
        assert made["author"] == "ada"
        assert all(text not in request.url for text in secrets.values() for request in opened.requests)
        assert page.evaluate("Object.values({...localStorage}).join()").find("0123456789") == -1


# -- on any screen


def test_a_phone_needs_no_sideways_scrolling(api: httpx.Client, run: str, browser: Browser, server: str) -> None:
    report(api, run, 100)
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "light"}
    with tab(browser, server, **options) as opened:
        page = opened.open(run)
        write(page)
        page.wait_for_selector("#preview .statement")
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        for scheme, ground in GROUND.items():
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_axe_finds_no_barrier(api: httpx.Client, make_run: Callable[..., str], opened: Tab) -> None:
    """Names, roles, contrast and order of everything that can be on the page, in light and in dark."""
    run = make_run(limits={"code": {"max": 0.6}})
    report(api, run, 100)
    assert api.post(f"{run}/revisions", json=edit_body(0, 150)).status_code == 201
    report(api, run, 200)
    page = opened.open(run)
    write(page, share="40")
    page.wait_for_selector("#preview .statement")
    page.get_by_label("Sample", exact=True).fill("7")
    page.get_by_role("button", name="Which steps read it?").click()
    page.locator("#reads button").first.click()
    page.wait_for_selector("#batch .found")
    for summary in page.locator("summary").all():
        summary.click()
    for scheme in GROUND:
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page)
        assert [(item["id"], item["nodes"][0]["html"]) for item in found.response["violations"]] == []
        assert len(found.response["passes"]) > 30
    ids = page.evaluate("[...document.querySelectorAll('main [id], header [id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("[role=img]").count() <= page.locator("details.numbers").count()  # a table for each plot


def test_the_theme_can_be_chosen(run: str, opened: Tab) -> None:
    page = opened.open(run)
    button = page.locator("#theme")
    for name, ground in GROUND.items():
        button.click()
        expect(button).to_have_text(f"Theme: {name}")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: dark")


# -- parts of it that decide


def test_shares_always_sum_to_one(opened: Tab) -> None:
    """Whatever is moved and locked in a thousand random turns, the parts sum to 10^9 and locked ones stay."""
    page = opened.open_file("mixture.js")
    wrong = page.evaluate(
        """async () => {
          const { UNIT, fromWeights, withShare, room } = await import(location.href);
          let state = 7;
          const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
          const names = ["a", "b", "c", "d", "e"];
          let parts = fromWeights(names, { a: 1 / 3, b: 1 / 3, c: 1 / 3 });
          const wrong = [];
          for (let turn = 0; turn < 1000; turn += 1) {
            const locked = new Set(names.filter(() => random() < 0.3));
            const name = names[Math.floor(random() * names.length)];
            const wanted = [0, UNIT, random() * UNIT, 1500][Math.floor(random() * 4)];
            const next = withShare(parts, locked, name, wanted);
            const sum = names.reduce((total, each) => total + next[each], 0);
            const kept = names.every((each) => each === name || !locked.has(each) || next[each] === parts[each]);
            const whole = names.every((each) => Number.isInteger(next[each]) && next[each] >= 0);
            const others = names.filter((each) => each !== name && !locked.has(each));
            const got = others.length === 0 || next[name] === Math.min(Math.round(wanted), room(parts, locked, name));
            if (sum !== UNIT || !kept || !whole || !got) wrong.push({ turn, parts, next, name, wanted });
            parts = next;
          }
          return wrong;
        }"""
    )
    assert wrong == []


def test_events_are_read_whole_however_they_arrive(opened: Tab) -> None:
    page = opened.open_file("events.js")
    text = (
        ': ping\n\nid: 7\nevent: revised\ndata: {"a":\ndata:  "ü"}\n\n'
        "id: 8\r\nevent: reported\r\ndata: {}\r\n\r\nid: 9\ndata: cut"
    )
    found = page.evaluate(
        """async (text) => {
          const { parse } = await import(location.href);
          const bytes = new TextEncoder().encode(text);
          const read = async (size) => {
            const body = new ReadableStream({
              start(controller) {
                for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
                controller.close();
              },
            });
            const events = [];
            for await (const event of parse(body)) events.push(event);
            return JSON.stringify(events);
          };
          return Promise.all([1, 2, 3, 7, 1000].map(read));
        }""",
        text,
    )
    assert len(set(found)) == 1
    assert json.loads(found[0]) == [
        {"event": "revised", "id": "7", "data": '{"a":\n "ü"}'},
        {"event": "reported", "id": "8", "data": "{}"},
    ]
