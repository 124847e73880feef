"""The page of a film in a real browser: it follows the film, and the film follows it.

Needs Chromium and the package playwright, which are not among the requirements; without them these
tests are skipped.
"""

import shutil
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import ROOT

from hiermovie.app import make_film_folder, open_chain, say_film, write_film_page
from hiermovie.backbone import SlowFast, SlowFastConfig, save_backbone

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
BITS, SIDE = 10, 16  # a frame's number is written as black and white squares


def numbered(n: int) -> np.ndarray:
    picture = np.full((2 * SIDE, BITS * SIDE, 3), 90, np.uint8)
    for bit in range(BITS):
        picture[:SIDE, bit * SIDE : (bit + 1) * SIDE] = 255 if n >> bit & 1 else 0
    picture[SIDE:] = (n * 7 % 200, n * 13 % 200, 60)
    return picture


def number_of(picture: np.ndarray) -> int:
    side = picture.shape[1] // BITS
    middles = picture[side // 2, side // 2 :: side, :3].astype(int).mean(-1)
    return sum(1 << bit for bit in range(BITS) if middles[bit] > 128)


def write_numbered(
    path,
    times: list,
    first: float = 0.0,
):
    "A film whose k-th frame appears at `times[k]` and shows the number k."
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=30, options=dict(crf="5", g="30"))
        stream.width, stream.height, stream.pix_fmt = BITS * SIDE, 2 * SIDE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, t in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (first + t)), Fraction(1, 1000)
            box.mux(stream.encode(frame))
        box.mux(stream.encode())


CONSTANT = [k / 25 for k in range(300)]
VARIABLE = np.cumsum(np.r_[0, np.random.default_rng(0).uniform(0.02, 0.09, 219)]).round(3).tolist()
FILMS = dict(
    constant=dict(times=CONSTANT),
    variable=dict(times=VARIABLE),
    late=dict(times=CONSTANT, first=7.0),
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    network = SlowFast(SlowFastConfig(depth=18, width=8, frames=8, size=32))
    save_backbone(folder / "encoder.safetensors", network)
    return open_chain(None, str(folder / "encoder.safetensors"))


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        flags = ["--no-sandbox", "--allow-file-access-from-files"]
        browser = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def open_page(browser, folder, **how):
    page = browser.new_page(**how)
    page.trouble = []
    page.on("console", lambda m: page.trouble.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.trouble.append(str(e)))
    page.goto((folder / "index.html").as_uri())
    wait(page, "ready")
    return page


def wait(page, condition: str, seconds: float = 8.0):
    "Until a condition of the page's program holds (its policy forbids playwright's own waiting)."
    until = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < until, condition
        page.wait_for_timeout(50)


def shown_frame(page) -> int:
    "The number in the picture that the player shows."
    data = page.evaluate("""async () => {
        const film = document.getElementById("film");
        while (film.seeking) await new Promise((done) => setTimeout(done, 20));
        await new Promise((done) => setTimeout(done, 60));
        const canvas = document.createElement("canvas");
        canvas.width = film.videoWidth; canvas.height = film.videoHeight;
        const context = canvas.getContext("2d");
        context.drawImage(film, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, canvas.height, Array.from(pixels)];
    }""")
    width, height, pixels = data
    return number_of(np.array(pixels, np.uint8).reshape(height, width, 4))


@pytest.mark.parametrize("name", FILMS)
def test_a_click_shows_the_frame_at_which_the_event_begins(tmp_path, chain, browser, name):
    film, times = tmp_path / f"{name}.mp4", np.array(FILMS[name]["times"])
    write_numbered(film, **FILMS[name])
    said = say_film(film, *chain)
    for event in said.events.itertuples():  # the small picture is that of the event's middle
        middle = (event.start_s + event.end_s) / 2
        at = np.searchsorted(times, middle + 1e-6, side="right") - 1
        assert number_of(said.thumbnails[event.event]) == at
    write_film_page(tmp_path / "page", said, film)
    make_film_folder(tmp_path / "copy", film, *chain, playable=True)
    for folder in ("page", "copy"):
        check_seeking(open_page(browser, tmp_path / folder), said, times, folder == "page")


def check_seeking(page, said, times, as_it_is: bool):
    end = page.evaluate("film.duration - data.offset")  # Chromium's: of late stamps it is too short
    for event in (1, 4, 2, 0):
        if as_it_is and said.events.start_s[event] > end:
            continue
        page.locator("#strip button").nth(event).click()
        start = said.events.start_s[event]
        shown, half = shown_frame(page), 0.5 / said.film["fps"]  # a player may be so far off
        assert times[shown] - half <= start <= np.r_[times, np.inf][shown + 1] + half, event
        assert page.evaluate("now") == event
    assert not page.trouble
    page.close()


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory, chain):
    folder = tmp_path_factory.mktemp("page")
    film = folder / 'a "quoted" 100% <i>film #1?.mp4'
    shutil.copy(ROOT / "tests/fixtures/trailer_bbb_small.mp4", film)
    write_film_page(folder, say_film(film, *chain), film, credit="(c) <Blender>")
    return folder


def test_keys_map_and_playing(page_folder, browser):
    page = open_page(browser, page_folder)
    last = page.evaluate("last")
    for key, event in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last)):
        page.keyboard.press(key)
        assert page.evaluate("now") == event, key
    page.keyboard.press("Home")
    page.keyboard.press("3")
    assert page.evaluate("now") == 2
    page.keyboard.press("Shift+ArrowRight")
    shots = page.evaluate("data.events.map((e) => e[2])")
    assert shots[page.evaluate("now")] == shots[2] + 1
    width = page.locator("#map").bounding_box()["width"]
    page.locator("#map").click(position=dict(x=0.99 * width, y=5))
    assert page.evaluate("now") == last
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    page.keyboard.press("Space")
    wait(page, "now >= 1")  # it plays, and the page follows
    assert not page.evaluate("film.paused")
    page.keyboard.press("Space")
    assert page.evaluate("film.paused")
    assert not page.trouble
    page.close()


def test_it_opens_at_an_event(page_folder, browser):
    page = browser.new_page()
    page.goto((page_folder / "index.html").as_uri() + "#event=5")
    wait(page, "film.currentTime > 9.9 && !film.seeking")
    assert page.evaluate("now") == 5
    page.close()


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_off_the_side(page_folder, browser, width, scheme):
    page = open_page(
        browser, page_folder, viewport=dict(width=width, height=844), color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    bright = [sum(map(int, c.strip("rgb()").split(",")[:3])) for c in (ink, paper)]
    assert abs(bright[0] - bright[1]) > 450 and (bright[0] > bright[1]) == (scheme == "dark")
    page.close()


def test_it_prints_every_event(page_folder, browser):
    page = open_page(browser, page_folder)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator("#film").is_visible() and page.locator("#all table").is_visible()
    assert page.locator("#all tbody tr").count() == page.evaluate("last + 1")
    assert len(page.pdf()) > 20_000
    page.close()


def test_a_file_that_the_browser_cannot_play(page_folder, browser, tmp_path):
    text = (page_folder / "index.html").read_text()
    broken = text.replace("100%25", "nothing")
    (tmp_path / "index.html").write_text(broken)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("#trouble:visible")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("now") == 1
    page.close()
