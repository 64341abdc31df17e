"""The board in a browser: by mouse and by keyboard, in three widths, light and dark, without a word of complaint."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import browser, executable
from service_kit import served

PICTURE = Path(__file__).parents[2] / ".assets" / "board.png"
OVER = "document.getElementById('board').dataset.over === 'true'"
WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
CONTRASTS = """
[...document.querySelectorAll('h1, header p, legend, label, button, dt, dd, #said, .tile, .tile small, #failures li')]
  .filter((element) => element.checkVisibility())
  .map((element) => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const paint = (color) => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = (color) => paint(color).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
    const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
    return [element.textContent.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  })
  .filter(([, contrast]) => contrast < 4.5)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _there_is_a_browser():
    executable()


@pytest.mark.parametrize(("width", "dark"), [(375, True), (768, False), (1280, False)])
async def test_a_batch_by_a_click(tmp_path, width, dark):
    async with served() as app, browser(tmp_path / "profile") as page:
        await page.shape(width, dark=dark)
        await page.send("Emulation.setScrollbarsHidden", hidden=width == 1280)  # they would be in the picture
        await page.open(app.url)
        await page.click("#start")
        await page.until("document.querySelectorAll('.tile').length === 48")
        await page.until("document.querySelectorAll('.tile.ok').length >= 20")
        assert not await page.value(WIDER_THAN_THE_WINDOW)
        if width == 1280:
            await page.picture(tmp_path / "board.png")
        await page.until(OVER)
        assert not await page.value(WIDER_THAN_THE_WINDOW)
        assert await page.value("document.querySelectorAll('.tile.ok, .tile.bad').length") == 48
        assert await page.value("+succeeded.textContent + +failed.textContent") == 48
        assert "The batch is finished." in await page.value("said.textContent")
        assert await page.value(CONTRASTS) == []
        assert page.complaints == []
        assert {url.startswith((app.url, "data:", "about:")) for url in page.asked} == {True}


async def test_a_batch_by_the_keyboard_alone_and_found_again_after_a_reload(tmp_path):
    async with served() as app, browser(tmp_path / "profile") as page:
        await page.shape(1024)
        await page.open(app.url)
        met = []
        for _ in range(6):
            await page.press("Tab")
            met.append(await page.value("document.activeElement.id || document.activeElement.name"))
            assert await page.value("document.activeElement.matches(':focus-visible')")
        assert met == ["region", "region", "region", "region", "months", "start"]
        await page.press("Enter", "\r")
        await page.until("document.querySelectorAll('.tile.ok').length >= 1")
        assert await page.value("document.activeElement.id") == "start"
        await page.send("Page.reload")
        await page.until("document.querySelectorAll('.tile').length === 48")
        await page.until(OVER)
        assert await page.value("document.querySelectorAll('.tile.ok, .tile.bad').length") == 48
        assert page.complaints == []


async def test_what_a_screen_reader_meets(tmp_path):
    async with served() as app, browser(tmp_path / "profile") as page:
        await page.shape(1024)
        await page.open(app.url)
        await page.click("#start")
        await page.until("document.querySelectorAll('.tile').length === 48")
        met = await page.names()
        for expected in [
            ("heading", "Reports"),
            ("group", "Regions"),
            ("checkbox", "EU"),
            ("spinbutton", "Months"),
            ("button", "Start batch"),
            ("form", "New batch"),
            ("region", "This batch"),
        ]:
            assert expected in met, met
        assert ("progressbar", "Reports done") in [
            (role.lower().replace("indicator", "bar"), name) for role, name in met
        ]
        assert {role for role, _ in met} >= {"status", "alert", "main", "list"}
        assert not [role for role, name in met if role in {"button", "checkbox", "spinbutton"} and not name]


async def test_an_order_without_a_region_is_explained(tmp_path):
    async with served() as app, browser(tmp_path / "profile") as page:
        await page.shape(1024)
        await page.open(app.url)
        await page.value("document.querySelectorAll('[name=region]').forEach((box) => { box.checked = false })")
        await page.click("#start")
        await page.until("problem.textContent.includes('at least one region')")
        assert page.complaints == []


def test_the_readmes_picture_is_one():
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
