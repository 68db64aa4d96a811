"Packaging read from `settings.ini`, so that versions and requirements stand in one place."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]
extras = {
    key.removesuffix("_requirements"): value.split() for key, value in settings.items() if key.endswith("_requirements")
}
extras["dev"] = sum(extras.values(), [])

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    keywords=settings["keywords"].split(),
    packages=find_packages(include=["mid_nbdev", "mid_nbdev.*"]),
    package_data={"mid_nbdev": ["py.typed", *(f"analysis/*.{kind}" for kind in ("js", "css", "html")),
                                *(f"paper/*.{kind}" for kind in ("csv", "parquet"))]},
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": [settings["console_scripts"]],
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
    },
)
