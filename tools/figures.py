"""Figures of the notebooks as the site and README show them: SVG in the ink of the theme, on no ground of their own.

In a notebook a figure has a white ground, so that it is legible in dark editors too. Elsewhere its grays are shares of
the theme's ink, white is the theme's ground, and the other colors are lighter on a dark one.
"""

import html
import re

INK, GROUND, LIFT = 0xE6, 0x0D, 0.25  # GitHub's dark theme: gray of text and page, share of white added to colors
BLACKEST = 0x26  # grays up to seaborn's are ink as it is
LEGIBLE = 9  # height of the smallest text, CSS pixels
COLOR = re.compile(r"(?<=: )#[0-9a-fA-F]{6}\b")
GROUND_OF_FIGURE = re.compile(r'(<g id="figure_1">)\s*<g id="patch_1">.*?</g>', re.DOTALL)


def share_of_ink(color: str) -> float | None:
    "How much of a gray is ink, from 0 for white to 1; None for a color."
    red, green, blue = bytes.fromhex(color[1:])
    return min(1.0, (255 - red) / (255 - BLACKEST)) if red == green == blue else None


def themed(color: str) -> str:
    "A color in CSS, made of the theme's ink, ground and `--lift`."
    share = share_of_ink(color)
    if share is None:
        return f"color-mix(in srgb, {color}, white var(--lift))"
    return f"color-mix(in srgb, currentColor {share:.0%}, var(--bs-body-bg))"


def darkened(color: str) -> str:
    "A color as it is on GitHub's dark ground."
    share = share_of_ink(color)
    parts = bytes.fromhex(color[1:])
    lighter = [part + LIFT * (255 - part) if share is None else GROUND + share * (INK - GROUND) for part in parts]
    return f"#{bytes(map(round, lighter)).hex()}"


def dark(svg: str) -> str:
    "A figure's file for dark pages."
    inked = GROUND_OF_FIGURE.sub(r"\1", svg, count=1).replace("<svg ", '<svg style="fill: #000000" ', 1)
    return COLOR.sub(lambda color: darkened(color.group()), inked)


def least_width(svg: str) -> int:
    "The width at which a figure's smallest text is still legible, CSS pixels."
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg).group(1))
    sizes = [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -", svg)]  # of texts
    return round(LEGIBLE * width / min(sizes)) if sizes else 0


def inlined(svg: str, name: str, shows: str) -> str:
    "A figure as a part of a page: colors as CSS properties, identifiers that begin with its name, what it shows."
    colors = {color: f"--figure-{color[1:]}" for color in sorted(set(COLOR.findall(svg)))}
    properties = "".join(f" {own}: {themed(color)};" for color, own in colors.items())
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    width, height = (round(float(points) * 4 / 3) for points in box.groups())
    inner = GROUND_OF_FIGURE.sub(r"\1", svg[svg.index("<svg") :], count=1).replace("xlink:href", "href")
    inner = re.sub(r"^<svg[^>]*>|<!--.*?-->\s*|<metadata>.*?</metadata>|<style.*?</style>", "", inner, flags=re.DOTALL)
    inner = COLOR.sub(lambda color: f"var({colors[color.group()]})", inner)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', inner))
    inner = re.sub(r' id="([^"]*)"', lambda own: f' id="{name}-{own.group(1)}"' if own.group(1) in used else "", inner)
    inner = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", inner)
    size = f'width="{width}" height="{height}" {box.group()}'
    style = f"min-width: {least_width(svg)}px;{properties}"
    opened = f'<svg {size} role="img" aria-label="{html.escape(shows)}" style="{style}">'
    return f'<figure class="figure">{opened}{inner}</figure>'
